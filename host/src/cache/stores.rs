//! What became of a store in each tier that was given it, and whether that is a failure: which is
//! for the write policy of a site to say, and for nobody's answer to depend on.

use crate::config::WritePolicy;
use crate::tier::memory::put::{Put, Rejected};
use crate::tier::slow::Written;

/// What became of one store, tier by tier, the fastest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOutcome {
    /// Whether the first tier that is for it failed; none if no tier is.
    first_failed: Option<bool>,
    failed: Vec<&'static str>,
    too_large: bool,
}

impl StoreOutcome {
    /// Adds what `tier` made of it, which is slower than those before. A tier that it is too large
    /// for, or that has no need of it, is not for it.
    pub fn add(&mut self, tier: &'static str, written: Written) {
        let failed = written.is_failure();
        if failed {
            self.failed.push(tier);
        }
        match written {
            Written::Accepted | Written::Full | Written::Unavailable => {
                self.first_failed.get_or_insert(failed);
            }
            Written::TooLarge => self.too_large = true,
            Written::Unneeded => {}
        }
    }

    /// The same of the memory tier.
    pub fn add_memory(&mut self, put: Put) {
        let written = match put {
            Put::Stored => Written::Accepted,
            Put::Rejected(Rejected::NoRoom) => Written::Full,
            Put::Rejected(Rejected::TooLarge) => Written::TooLarge,
            Put::Rejected(Rejected::Disabled) | Put::Superseded => Written::Unneeded,
        };
        self.add(super::chain::MEMORY, written);
    }

    /// Whether any tier was for it.
    pub fn is_a_store(&self) -> bool {
        self.first_failed.is_some()
    }

    /// Whether `policy` calls it failed.
    pub fn fails(&self, policy: WritePolicy) -> bool {
        match policy {
            WritePolicy::Ignore => false,
            WritePolicy::L0 => self.first_failed == Some(true),
            WritePolicy::All => !self.failed.is_empty(),
        }
    }

    /// The tiers that failed.
    pub fn failed(&self) -> &[&'static str] {
        &self.failed
    }

    /// What whoever put it is told under `policy`.
    pub fn answer(&self, policy: WritePolicy) -> Put {
        match (self.is_a_store(), self.too_large) {
            (true, _) if self.fails(policy) => Put::Rejected(Rejected::NoRoom),
            (true, _) => Put::Stored,
            (false, true) => Put::Rejected(Rejected::TooLarge),
            (false, false) => Put::Rejected(Rejected::Disabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: [WritePolicy; 3] = [WritePolicy::Ignore, WritePolicy::L0, WritePolicy::All];

    /// Whether each policy calls it failed.
    fn fails(written: &[Written]) -> [bool; 3] {
        let mut outcome = StoreOutcome::default();
        for (written, tier) in written.iter().zip(["memory", "disk", "object_store"]) {
            outcome.add(tier, *written);
        }
        POLICIES.map(|policy| outcome.fails(policy))
    }

    #[test]
    fn whose_failure_counts_the_policy_says() {
        use Written::{Accepted, Full, TooLarge, Unavailable, Unneeded};
        for (written, expected) in [
            (&[][..], [false; 3]),
            (&[Accepted, Accepted, Accepted], [false; 3]),
            (&[Accepted, Full, Accepted], [false, false, true]),
            (&[Accepted, Accepted, Unavailable], [false, false, true]),
            (&[Full, Accepted, Accepted], [false, true, true]),
            (&[Full, Full, Full], [false, true, true]),
            // What is not for a tier is no failure of it, and the next one comes first.
            (&[TooLarge, Accepted, Unneeded], [false; 3]),
            (&[TooLarge, Unavailable, Accepted], [false, true, true]),
            (&[TooLarge, TooLarge, TooLarge], [false; 3]),
        ] {
            assert_eq!(fails(written), expected, "{written:?}");
        }
    }

    #[test]
    fn who_put_it_is_told_what_the_policy_says() {
        let told = |memory: Put, disk: Written| {
            let mut outcome = StoreOutcome::default();
            outcome.add_memory(memory);
            outcome.add("disk", disk);
            POLICIES.map(|policy| outcome.answer(policy))
        };
        let no_room = Put::Rejected(Rejected::NoRoom);
        let too_large = Put::Rejected(Rejected::TooLarge);
        let disabled = Put::Rejected(Rejected::Disabled);
        let stored = Put::Stored;
        assert_eq!(told(stored, Written::Full), [stored, stored, no_room]);
        assert_eq!(told(no_room, Written::Accepted), [stored, no_room, no_room]);
        assert_eq!(told(too_large, Written::Accepted), [stored; 3]);
        assert_eq!(told(disabled, Written::Accepted), [stored; 3]);
        assert_eq!(told(too_large, Written::TooLarge), [too_large; 3]);
        assert_eq!(told(disabled, Written::Unneeded), [disabled; 3]);
    }
}
