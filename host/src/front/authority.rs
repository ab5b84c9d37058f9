//! Whom a request is for: the authority and the target (RFC 9110 7.2, RFC 9112 3.2, RFC 3986 3.2).
//!
//! Pure, and strict: what two parsers could read in two ways is refused, because the cache key and
//! the origin must see the same request. The authority is brought to one form, so that one site
//! has one key; the target is judged and never changed.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, Method, Uri, Version};
use thiserror::Error;

/// Longest authority that is accepted, in bytes: a full domain name and a port.
const AUTHORITY_MAX: usize = 255 + 6;

/// How the client reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The name as in a URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be named.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The target of a request: path and query, as they came.
pub fn target_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// A host, and a port if it is not the scheme's default; in lower case. Empty for an HTTP/1.0
/// request that names no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a>(Cow<'a, str>);

impl<'a> Authority<'a> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, borrowed where it was in its final form already.
    pub fn into_text(self) -> Cow<'a, str> {
        self.0
    }

    /// The host alone; with brackets if it is an IPv6 address.
    pub fn host(&self) -> &str {
        let end = self.0.rfind(']').unwrap_or(0);
        let port = self
            .0
            .get(end..)
            .and_then(|rest| rest.rfind(':'))
            .map(|colon| end + colon);
        port.and_then(|port| self.0.get(..port)).unwrap_or(&self.0)
    }

    /// Reads `uri-host [ ":" port ]`.
    ///
    /// # Errors
    /// If it is not that, or has more than that, such as user information.
    pub fn parse(text: &'a str, scheme: Scheme) -> Result<Self, BadRequest> {
        if text.is_empty() || text.len() > AUTHORITY_MAX {
            return Err(BadRequest::Authority);
        }
        if is_plain(text.as_bytes()) {
            return Ok(Self(Cow::Borrowed(text)));
        }
        Self::parse_any(text, scheme)
    }

    /// Reads what may need to be checked or rewritten.
    fn parse_any(text: &'a str, scheme: Scheme) -> Result<Self, BadRequest> {
        let (host, port) = split_port(text)?;
        let valid = match host.strip_prefix('[') {
            Some(literal) => {
                let address = literal.strip_suffix(']').ok_or(BadRequest::Authority)?;
                address.parse::<Ipv6Addr>().is_ok()
            }
            None => is_reg_name(host.as_bytes()),
        };
        if !valid {
            return Err(BadRequest::Authority);
        }
        let port = port.filter(|&port| port != scheme.default_port());
        // The text itself serves if it is what would be written.
        let plain = match port {
            None => Some(host),
            Some(port) => {
                let digits = text.get(host.len() + 1..).unwrap_or_default();
                (digits == itoa::Buffer::new().format(port)).then_some(text)
            }
        };
        let plain = plain.filter(|text| !text.bytes().any(|byte| byte.is_ascii_uppercase()));
        Ok(Self(match (plain, port) {
            (Some(plain), _) => Cow::Borrowed(plain),
            (None, None) => Cow::Owned(host.to_ascii_lowercase()),
            (None, Some(port)) => Cow::Owned(format!("{}:{port}", host.to_ascii_lowercase())),
        }))
    }
}

/// Whether `text` is a host that nearly every request could name: valid, without a port, and in
/// its final form.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// Splits off the port. An empty one counts as none (RFC 3986 3.2.3).
fn split_port(text: &str) -> Result<(&str, Option<u16>), BadRequest> {
    let bracket = text.rfind(']').unwrap_or(0);
    let colon = text
        .get(bracket..)
        .and_then(|rest| rest.find(':'))
        .map(|colon| bracket + colon);
    let Some((host, port)) = colon.and_then(|colon| text.split_at_checked(colon)) else {
        return Ok((text, None));
    };
    let digits = port.get(1..).unwrap_or_default();
    if digits.is_empty() {
        return Ok((host, None));
    }
    // `parse` alone would take a sign.
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok());
    match number.flatten() {
        Some(port) if port != 0 => Ok((host, Some(port))),
        _ => Err(BadRequest::Authority),
    }
}

/// Whether `host` is a registered name or an IPv4 address, and not empty (RFC 3986 3.2.2).
fn is_reg_name(host: &[u8]) -> bool {
    let mut rest = host;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (b'-' | b'.' | b'_' | b'~', _) => after,
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=', _) => {
                after
            }
            _ if byte.is_ascii_alphanumeric() => after,
            _ => return false,
        };
    }
    !host.is_empty()
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// No `Host` where there has to be one.
    #[error("the request names no host")]
    MissingHost,
    /// More than one `Host`.
    #[error("the request has more than one Host field")]
    RepeatedHost,
    /// The authority is malformed.
    #[error("the host or port of the request is malformed")]
    Authority,
    /// `Host` and the target name different authorities.
    #[error("the Host field and the request target disagree")]
    Mismatch,
    /// The target has a form or a byte that it must not have.
    #[error("the request target is malformed")]
    Target,
}

impl BadRequest {
    /// The text to refuse with.
    pub const fn message(self) -> &'static str {
        match self {
            Self::MissingHost => "the request names no host\n",
            Self::RepeatedHost => "the request has more than one Host field\n",
            Self::Authority => "the host or port of the request is malformed\n",
            Self::Mismatch => "the Host field and the request target disagree\n",
            Self::Target => "the request target is malformed\n",
        }
    }
}

/// Judges the target of a request and gives its authority.
///
/// # Errors
/// If the target or `Host` breaks the rules of its version, or if they disagree.
pub fn effective<'a>(
    method: &Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    scheme: Scheme,
) -> Result<Authority<'a>, BadRequest> {
    check_uri(method, uri)?;
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(BadRequest::RepeatedHost),
        (Some(host), None) => {
            let host = host.to_str().map_err(|_| BadRequest::Authority)?;
            Some(Authority::parse(host, scheme)?)
        }
        (None, _) => None,
    };
    let named = uri
        .authority()
        .map(|named| Authority::parse(named.as_str(), scheme))
        .transpose()?;
    match (named, host) {
        // RFC 9112 3.2.2 lets the target win; a client that says two things is refused, because
        // whatever stands before or behind us may have chosen the other.
        (Some(named), Some(host)) if named != host => Err(BadRequest::Mismatch),
        // RFC 9112 3.2: in HTTP/1.1 the field is required even beside an absolute target.
        (Some(_), None) if version == Version::HTTP_11 => Err(BadRequest::MissingHost),
        (Some(named), _) => Ok(named),
        (None, Some(host)) => Ok(host),
        (None, None) if version <= Version::HTTP_10 => Ok(Authority(Cow::Borrowed(""))),
        (None, None) => Err(BadRequest::MissingHost),
    }
}

/// The one `Host` of a request whose target names no authority; none if the request needs a closer
/// look.
pub fn plain_host<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?;
    let plain = uri.authority().is_none() && hosts.next().is_none();
    plain.then(|| host.as_bytes())
}

/// Judges a target that is parsed already: its form must suit the method.
///
/// # Errors
/// If the form does not suit the method, or it holds a byte that no target may hold.
pub fn check_uri(method: &Method, uri: &Uri) -> Result<(), BadRequest> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    check_bytes(target.as_bytes())?;
    let http = uri.scheme_str().is_none_or(|scheme| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    // An absolute target without a path but with a query, `http://a?b`, is refused: what we keyed
    // and forwarded would not begin with a slash. Authority-form, which only CONNECT has, has no path; asterisk-form is for OPTIONS.
    let form = target.starts_with('/') || target == "*" && *method == Method::OPTIONS;
    if http && form && *method != Method::CONNECT {
        Ok(())
    } else {
        Err(BadRequest::Target)
    }
}

/// A target has no fragment, and nothing but visible ASCII; parsers differ in what they make of
/// anything else.
fn check_bytes(target: &[u8]) -> Result<(), BadRequest> {
    let clean = target
        .iter()
        .all(|&byte| byte.is_ascii_graphic() && byte != b'#');
    if clean {
        Ok(())
    } else {
        Err(BadRequest::Target)
    }
}

#[cfg(test)]
mod tests;
