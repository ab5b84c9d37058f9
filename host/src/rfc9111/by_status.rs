//! Lifetimes by status, for responses that do not say how long they live.
//!
//! RFC 9111 3 lets a cache extension allow to store what its own rules do not (5.2.3). Here an
//! operator's word is that: it stands in for the lifetime that a response does not give, and for
//! nothing that a response forbids.

use std::time::Duration;

use http::StatusCode;

/// Statuses, or all of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All with this first digit.
    Class(u16),
}

impl Statuses {
    /// Whether they include `status`.
    pub fn include(self, status: StatusCode) -> bool {
        match self {
            Self::One(one) => one == status.as_u16(),
            Self::Class(class) => class == status.as_u16() / 100,
        }
    }
}

/// Lifetimes by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifetimesByStatus(Vec<(Statuses, Duration)>);

impl LifetimesByStatus {
    /// These lifetimes. Of those for a status and for its class the former counts.
    pub fn new(lifetimes: impl IntoIterator<Item = (Statuses, Duration)>) -> Self {
        let mut lifetimes: Vec<_> = lifetimes.into_iter().collect();
        lifetimes.sort_unstable();
        Self(lifetimes)
    }

    /// The lifetime of a response with `status`.
    pub fn get(&self, status: StatusCode) -> Option<Duration> {
        // Single statuses are sorted before classes.
        let found = self.0.iter().find(|(those, _)| those.include(status));
        found.map(|(_, lifetime)| *lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_for_more_than_its_class() {
        let secs = Duration::from_secs;
        let lifetimes = LifetimesByStatus::new([
            (Statuses::Class(4), secs(10)),
            (Statuses::One(404), secs(30)),
            (Statuses::One(302), secs(5)),
        ]);
        for (status, expected) in [
            (404, Some(30)),
            (403, Some(10)),
            (499, Some(10)),
            (302, Some(5)),
            (301, None),
            (200, None),
            (500, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(lifetimes.get(status), expected.map(secs), "{status}");
        }
    }
}
