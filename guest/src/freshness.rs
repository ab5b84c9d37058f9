//! How long a response may be answered from the cache: the [`Freshness`] trait and its views.
//!
//! `freshness` runs once for each response that could be stored, never on a hit. What RFC 9111
//! makes of the response is computed before and handed in; a policy amends that, and the host
//! holds every answer to the floor that [`Rules`] describes.

use std::cell::OnceCell;
use std::thread::LocalKey;
use std::time::Duration;

use crate::Params;
use crate::bindings::freshness::exports::larder::policy::freshness as wit;

pub use wit::{Rules, Tiers};

/// A lifetime without end.
pub const WITHOUT_END: Duration = Duration::MAX;

/// A freshness policy. Export it with [`freshness!`](crate::freshness!).
pub trait Freshness: Sized + 'static {
    /// Makes the policy from the operator's parameters.
    ///
    /// Parameters that this did not ask for are refused after it returns.
    ///
    /// # Errors
    /// The text is shown to the operator, and the policy is not activated.
    fn configure(params: &Params) -> Result<Self, String>;

    /// Names of the request fields that [`freshness`](Self::freshness) reads, in any case.
    fn request_fields(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Names of the response fields that [`freshness`](Self::freshness) reads, in any case.
    fn response_fields(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Decides whether `response` is stored, how long it stays fresh, and how it may be purged.
    fn freshness(&self, response: Response<'_>) -> Verdict;
}

/// What a freshness policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What RFC 9111 says stands.
    Native,
    /// The response is not stored.
    DoNotStore,
    /// The response is stored so, as far as the host's floor allows.
    Store(Storing),
}

/// How a response is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storing {
    /// Freshness lifetime (RFC 9111 4.2), from the time the origin made the response.
    pub lifetime: Duration,
    /// How long it may be used stale while it is validated in the background (RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// How long it may be used stale in the place of an error (RFC 5861 4).
    pub stale_if_error: Duration,
    /// The tiers that may hold it.
    pub tiers: Tiers,
    /// Names that it can be purged by, besides those it came with.
    pub tags: Vec<String>,
}

/// What RFC 9111 makes of a response.
#[derive(Clone, Copy, Debug)]
pub struct Native {
    /// What forbids and what explains.
    pub rules: Rules,
    /// Freshness lifetime (RFC 9111 4.2.1), or the heuristic one (4.2.2).
    pub lifetime: Duration,
    /// See [`Storing::stale_while_revalidate`].
    pub stale_while_revalidate: Duration,
    /// See [`Storing::stale_if_error`].
    pub stale_if_error: Duration,
}

impl Native {
    /// The native verdict as an answer to amend: in all tiers, without tags.
    pub fn storing(&self) -> Storing {
        Storing {
            lifetime: self.lifetime,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            tiers: Tiers::all(),
            tags: Vec::new(),
        }
    }
}

/// One response, with the target of the request that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    response: &'a wit::Response,
    names: &'a wit::Needs,
}

impl<'a> Response<'a> {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.response.status
    }

    /// The time now, as milliseconds of Unix time.
    pub fn now_unix_ms(&self) -> u64 {
        self.response.now
    }

    /// Its age on arrival (RFC 9111 4.2.3).
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.response.age)
    }

    /// The length of its body in bytes, if it is known yet.
    pub fn length_bytes(&self) -> Option<u64> {
        self.response.length
    }

    /// What RFC 9111 makes of it.
    pub fn native(&self) -> Native {
        let native = &self.response.native;
        Native {
            rules: native.rules,
            lifetime: Duration::from_millis(native.lifetime),
            stale_while_revalidate: Duration::from_millis(native.stale_while_revalidate),
            stale_if_error: Duration::from_millis(native.stale_if_error),
        }
    }

    /// The request target as it came from the client: path and query.
    pub fn target(&self) -> &'a str {
        &self.response.target
    }

    /// The target up to its first question mark.
    pub fn path(&self) -> &'a str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The target after its first question mark, if it has one.
    pub fn query(&self) -> Option<&'a str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The value of the declared request field `name` (lower-case), if the request has it.
    ///
    /// `None` also for a field that [`Freshness::request_fields`] does not name.
    pub fn request_field(&self, name: &str) -> Option<&'a str> {
        let mut declared = self.names.request_fields.iter();
        self.field(declared.position(|declared| declared == name)?)
    }

    /// The value of the declared response field `name` (lower-case), if the response has it.
    ///
    /// `None` also for a field that [`Freshness::response_fields`] does not name.
    pub fn response_field(&self, name: &str) -> Option<&'a str> {
        let mut declared = self.names.response_fields.iter();
        let index = declared.position(|declared| declared == name)?;
        self.field(self.names.request_fields.len() + index)
    }

    fn field(&self, index: usize) -> Option<&'a str> {
        self.response.fields.get(index)?.as_deref()
    }
}

/// A configured policy with the fields it declared, which the views need for look-up by name.
#[derive(Debug)]
pub struct Configured<T> {
    policy: T,
    pub(crate) names: wit::Needs,
}

impl<T: Freshness> Configured<T> {
    /// Parses the parameters, configures the policy and asks for its fields.
    pub(crate) fn new(params: &str) -> Result<Self, String> {
        let params = Params::parse(params)?;
        let policy = T::configure(&params)?;
        params.finish()?;
        let lower_case =
            |names: Vec<&str>| names.into_iter().map(str::to_ascii_lowercase).collect();
        let names = wit::Needs {
            request_fields: lower_case(policy.request_fields()),
            response_fields: lower_case(policy.response_fields()),
        };
        Ok(Self { policy, names })
    }

    /// Asks the policy.
    pub(crate) fn freshness(&self, response: &wit::Response) -> Verdict {
        let names = &self.names;
        self.policy.freshness(Response { response, names })
    }
}

/// The instance's one policy; the cell is written by `configure` and read by every call after it.
#[doc(hidden)]
pub type Cell<T> = LocalKey<OnceCell<Configured<T>>>;

/// Answers `configure` of the interface.
#[doc(hidden)]
pub fn configure<T: Freshness>(cell: &'static Cell<T>, params: &str) -> Result<wit::Needs, String> {
    let configured = Configured::new(params)?;
    let names = configured.names.clone();
    cell.with(|cell| cell.set(configured))
        .map_err(|_| "configure was called twice".to_owned())?;
    Ok(names)
}

/// Answers `freshness` of the interface.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn freshness<T: Freshness>(cell: &'static Cell<T>, response: &wit::Response) -> wit::Verdict {
    let verdict = cell.with(|cell| {
        let configured = cell.get().expect("configure comes before freshness");
        configured.freshness(response)
    });
    match verdict {
        Verdict::Native => wit::Verdict::Native,
        Verdict::DoNotStore => wit::Verdict::DoNotStore,
        Verdict::Store(storing) => wit::Verdict::Store(wit::Storing {
            lifetime: milliseconds(storing.lifetime),
            stale_while_revalidate: milliseconds(storing.stale_while_revalidate),
            stale_if_error: milliseconds(storing.stale_if_error),
            tiers: storing.tiers,
            tags: storing.tags,
        }),
    }
}

/// Whole milliseconds; what does not fit is without end to the host anyway.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Exports a type that implements [`Freshness`](crate::Freshness) as this component's freshness
/// policy.
///
/// Outside Wasm it only checks the type, so that the policy is an ordinary library natively.
#[macro_export]
macro_rules! freshness {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Params) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::Freshness>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use generated::exports::larder::policy::freshness as wit;
            use $crate::bindings::freshness as generated;

            thread_local! {
                static POLICY: ::std::cell::OnceCell<$crate::freshness::Configured<$policy>> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Component;

            impl wit::Guest for Component {
                fn configure(
                    params: ::std::string::String,
                ) -> ::std::result::Result<wit::Needs, ::std::string::String> {
                    $crate::freshness::configure(&POLICY, &params)
                }

                fn freshness(response: wit::Response) -> wit::Verdict {
                    $crate::freshness::freshness(&POLICY, &response)
                }
            }

    generated::export_freshness!(Component with_types_in $crate::bindings::freshness);
        };
    };
}
