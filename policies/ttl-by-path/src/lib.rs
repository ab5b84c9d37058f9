//! Freshness: lifetimes by the path of the request, whatever the origin says about caching.
//!
//! Parameters: `rules`, a list of `"PATTERN=TIME"` such as `"/static/*=1d"` or `"*.html=5m"`, of
//! which the first whose pattern matches the path decides; `default`, a time for all other paths,
//! without which they keep the lifetime that RFC 9111 gives them. In a pattern `*` stands for any
//! text, also none and also slashes. Times are `ms`, `s`, `m`, `h` or `d`.
//!
//! Only lifetimes change. What must not be stored stays out: the host holds to that by itself.

use std::time::Duration;

use larder_guest::freshness::{Response, Rules, Storing, Verdict};
use larder_guest::params::parse_duration;
use larder_guest::{Freshness, Params};

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct TtlByPath {
    rules: Vec<Rule>,
    default: Option<Duration>,
}

#[derive(Debug)]
struct Rule {
    /// What the pattern has between its asterisks, in order; one part: no asterisk.
    parts: Vec<String>,
    lifetime: Duration,
}

impl Freshness for TtlByPath {
    fn configure(params: &Params) -> Result<Self, String> {
        let rules = params.list("rules")?.unwrap_or_default();
        Ok(Self {
            rules: rules
                .iter()
                .map(|rule| Rule::parse(rule))
                .collect::<Result<_, _>>()?,
            default: params.duration("default")?,
        })
    }

    fn freshness(&self, response: Response<'_>) -> Verdict {
        let native = response.native();
        if native.rules.contains(Rules::NEVER_STORE) {
            return Verdict::Native;
        }
        let rule = self.rules.iter().find(|rule| rule.matches(response.path()));
        match rule.map(|rule| rule.lifetime).or(self.default) {
            Some(lifetime) => Verdict::Store(Storing {
                lifetime,
                ..native.storing()
            }),
            None => Verdict::Native,
        }
    }
}

larder_guest::freshness!(TtlByPath);

impl Rule {
    /// Reads `PATTERN=TIME`; the pattern may itself hold equals signs.
    fn parse(text: &str) -> Result<Self, String> {
        let (pattern, time) = (text.rsplit_once('=')).ok_or_else(|| {
            format!("rule \"{text}\": expected \"PATTERN=TIME\", such as \"/static/*=1d\"")
        })?;
        let lifetime = parse_duration(time)
            .ok_or_else(|| format!("rule \"{text}\": expected a time such as \"30s\", \"5m\" or \"1d\" after the last \"=\", found \"{time}\""))?;
        if !pattern.starts_with(['/', '*']) {
            return Err(format!(
                "rule \"{text}\": a pattern starts with \"/\" or \"*\""
            ));
        }
        Ok(Self {
            parts: pattern.split('*').map(str::to_owned).collect(),
            lifetime,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|whole| whole == path);
        };
        let Some(mut rest) = path.strip_prefix(first.as_str()) else {
            return false;
        };
        // The leftmost place for each part leaves the most text for those after it.
        for part in middle {
            match rest.split_once(part.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests;
