//! Keying: sorts the query's parameters by name and drops those that only track visitors.
//!
//! `/a?utm_source=x&b=2&a=1` and `/a?a=1&b=2` share one stored response, and the origin is asked
//! for `/a?a=1&b=2`. What is left is byte for byte what came: nothing is decoded, parameters of
//! one name keep their order, and the path is not touched. Empty pieces (`a=1&&b=2`) go; a target
//! that ends in a bare `?` stays as it came.
//!
//! Parameters: `drop`, a list of names to drop besides the tracking ones; `keep`, a list of the
//! only names to keep; `tracking`, `false` to leave tracking parameters alone. A name may end in
//! `*`, which stands for any ending. `drop` beats `keep`, and a name in `keep` may track.

use larder_guest::keying::{Request, Verdict};
use larder_guest::{Keying, Params};

/// Parameters that advertising and mailing services add to links.
const TRACKING: [&str; 24] = [
    "utm_*",
    "gclid",
    "gclsrc",
    "gbraid",
    "wbraid",
    "dclid",
    "fbclid",
    "msclkid",
    "twclid",
    "ttclid",
    "yclid",
    "igshid",
    "li_fat_id",
    "epik",
    "srsltid",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
    "vero_id",
    "s_kwcid",
];

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct NormalizeQuery {
    drop: Names,
    keep: Option<Names>,
}

impl Keying for NormalizeQuery {
    fn configure(params: &Params) -> Result<Self, String> {
        let keep = params.list("keep")?;
        let tracking = params.bool("tracking")?.unwrap_or(keep.is_none());
        let drop = params.list("drop")?.unwrap_or_default();
        let tracking = if tracking { &TRACKING[..] } else { &[] };
        Ok(Self {
            drop: Names::new(
                drop.iter()
                    .map(String::as_str)
                    .chain(tracking.iter().copied()),
            ),
            keep: keep.map(|names| Names::new(names.iter().map(String::as_str))),
        })
    }

    fn key(&self, request: Request<'_>) -> Verdict {
        Verdict::target(self.normalized(request.target()))
    }
}

larder_guest::keying!(NormalizeQuery);

impl NormalizeQuery {
    /// `target` with its query in normal form; `None` if it is in it already.
    fn normalized(&self, target: &str) -> Option<String> {
        // Most targets have no query, and most queries are in order: neither allocates.
        let (path, query) = target.split_once('?')?;
        if query.is_empty() || self.is_normal(query) {
            return None;
        }
        let mut parameters: Vec<(&str, &str)> = Vec::with_capacity(16);
        parameters.extend(
            (query.split('&').map(|piece| (name(piece), piece)))
                .filter(|(name, piece)| !piece.is_empty() && self.keeps(name)),
        );
        // Stable: the order of parameters of one name can carry meaning.
        parameters.sort_by_key(|(name, _)| *name);

        let mut normalized = String::with_capacity(target.len());
        normalized.push_str(path);
        let mut separator = '?';
        for (_, piece) in parameters {
            normalized.push(separator);
            normalized.push_str(piece);
            separator = '&';
        }
        Some(normalized)
    }

    fn is_normal(&self, query: &str) -> bool {
        let mut previous = "";
        query.split('&').all(|piece| {
            let name = name(piece);
            let in_order = previous <= name;
            previous = name;
            in_order && !piece.is_empty() && self.keeps(name)
        })
    }

    fn keeps(&self, name: &str) -> bool {
        !self.drop.contains(name) && self.keep.as_ref().is_none_or(|keep| keep.contains(name))
    }
}

fn name(piece: &str) -> &str {
    piece.split_once('=').map_or(piece, |(name, _)| name)
}

/// A set of names, each whole or a beginning.
#[derive(Debug)]
struct Names {
    whole: Vec<String>,
    beginnings: Vec<String>,
}

impl Names {
    fn new<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let (mut whole, mut beginnings) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                Some(beginning) => beginnings.push(beginning.to_owned()),
                None => whole.push(pattern.to_owned()),
            }
        }
        Self { whole, beginnings }
    }

    fn contains(&self, name: &str) -> bool {
        self.whole.iter().any(|whole| whole == name)
            || self
                .beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning.as_str()))
    }
}

#[cfg(test)]
mod tests;
