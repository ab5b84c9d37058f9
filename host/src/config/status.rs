//! The table `[site.status_ttl]`: how long responses live that do not say so, by status.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::number::TimeSpan;
use super::text::{Rejected, text_value};
use crate::rfc9111::by_status::{LifetimesByStatus, Statuses};

const ACCEPTED: &str = "write a status from 200 to 599, other than 206, 304, 412 and 416, or a \
                        class such as 4xx";

/// A status, or a class of them: `404`, `5xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusKey(Statuses);

impl FromStr for StatusKey {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let refused = || Rejected::new(text, "a status", ACCEPTED);
        if let Some(class) = text.strip_suffix("xx") {
            return match class {
                "2" | "3" | "4" | "5" => class
                    .parse()
                    .map(|class| Self(Statuses::Class(class)))
                    .map_err(|_| refused()),
                _ => Err(refused()),
            };
        }
        match text.parse() {
            // What these answer depends on more of a request than its key.
            Ok(206 | 304 | 412 | 416) => Err(refused()),
            Ok(status @ 200..=599) if text.len() == 3 => Ok(Self(Statuses::One(status))),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for StatusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Statuses::One(status) => write!(f, "{status}"),
            Statuses::Class(class) => write!(f, "{class}xx"),
        }
    }
}

text_value!(StatusKey, "a status");

/// Lifetimes by status.
pub type StatusTtl = BTreeMap<StatusKey, TimeSpan>;

/// The lifetimes of `table`, none shorter than `min` or longer than `max`.
pub fn by_status(table: &StatusTtl, min: Duration, max: Duration) -> LifetimesByStatus {
    let bounded = |ttl: &TimeSpan| ttl.duration().max(min).min(max);
    LifetimesByStatus::new(table.iter().map(|(key, ttl)| (key.0, bounded(ttl))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_classes_are_read_and_written_back() {
        for text in ["200", "302", "404", "503", "599", "2xx", "5xx"] {
            assert_eq!(text.parse::<StatusKey>().unwrap().to_string(), text);
        }
        for text in [
            "", "40", "0404", "4040", "199", "600", "206", "304", "412", "416", "1xx", "6xx",
            "4XX", "4x", "xx", "any", "+404",
        ] {
            assert!(text.parse::<StatusKey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn lifetimes_keep_to_the_bounds_of_the_site() {
        let table = ["404", "410", "5xx"].into_iter().zip([1, 20, 300]);
        let table = table
            .map(|(status, secs)| (status.parse().unwrap(), TimeSpan::seconds(secs)))
            .collect();
        let secs = Duration::from_secs;
        let lifetimes = by_status(&table, secs(10), secs(60));
        for (status, expected) in [(404, 10), (410, 20), (500, 60)] {
            let status = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(lifetimes.get(status), Some(secs(expected)), "{status}");
        }
    }
}
