//! Whether an address of an origin is worth trying, learnt from the requests that tried it.
//!
//! An address that cannot be connected to is down at once, one that connects and does not answer
//! after a few in a row. It stays down for a time that doubles with each failed probe; then one
//! request at a time may probe it. The first answer brings it back.

use std::time::Duration;

use crate::clock::Moment;

/// Requests in a row that an address may leave unanswered before it is down.
const UNANSWERED_MAX: u32 = 3;
/// How long an address is down at first.
const DOWN_FIRST: Duration = Duration::from_secs(1);
/// How long an address is down between two probes, at most, before jitter.
const DOWN_MAX: Duration = Duration::from_mins(1);

/// What a request learnt about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered.
    Answered,
    /// It was connected to and did not answer.
    Unanswered,
    /// It could not be connected to.
    Unconnected,
}

/// Whether an address may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By everyone.
    Up,
    /// By one request, to see whether it is back.
    Due,
    /// By nobody who has a choice, until this moment.
    Down(Moment),
}

/// A change of standing, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was up and is down.
    WentDown,
    /// It was down and is up.
    CameBack,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Requests in a row that were not answered.
    unanswered: u32,
    /// Times in a row that it was found down; 0: it is up.
    downs: u32,
    /// When it may be probed.
    until: Moment,
    probing: bool,
}

impl Health {
    /// Whether it may be tried at `now`.
    pub fn standing(&self, now: Moment) -> Standing {
        match self.downs {
            0 => Standing::Up,
            _ if self.probing || now < self.until => Standing::Down(self.until),
            _ => Standing::Due,
        }
    }

    /// A request is about to try it as a probe: until it has learnt something, no other one does.
    pub fn begin_probe(&mut self) {
        self.probing = true;
    }

    /// The probe ended without having learnt anything.
    pub fn give_up_probe(&mut self) {
        self.probing = false;
    }

    /// Notes what a request has learnt at `now`. `was_probe`: it was tried although down. `jitter`
    /// spreads probes of many hosts: 0 is three quarters of the time down, `u16::MAX` five
    /// quarters.
    pub fn note(
        &mut self,
        sign: Sign,
        was_probe: bool,
        now: Moment,
        jitter: u16,
    ) -> Option<Change> {
        if was_probe {
            self.probing = false;
        }
        let was_up = self.downs == 0;
        match sign {
            Sign::Answered => {
                *self = Self::default();
                return (!was_up).then_some(Change::CameBack);
            }
            // Whoever tried it while it was still up has nothing new to tell.
            _ if !was_up && !was_probe => return None,
            Sign::Unanswered => {
                self.unanswered = self.unanswered.saturating_add(1);
                if was_up && self.unanswered < UNANSWERED_MAX {
                    return None;
                }
            }
            Sign::Unconnected => {}
        }
        self.downs = self.downs.saturating_add(1);
        self.until = now.after(time_down(self.downs, jitter));
        was_up.then_some(Change::WentDown)
    }
}

/// How long an address is down when it was found so `downs` times in a row.
fn time_down(downs: u32, jitter: u16) -> Duration {
    let doubled = DOWN_FIRST.saturating_mul(1 << downs.saturating_sub(1).min(16));
    let whole = doubled.min(DOWN_MAX);
    let spread = (whole / 2).saturating_mul(u32::from(jitter)) / u32::from(u16::MAX);
    whole / 4 * 3 + spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIDDLE: u16 = u16::MAX / 2;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn a_failed_connection_is_enough_and_one_answer_brings_it_back() {
        let mut health = Health::default();
        assert_eq!(health.standing(at(0)), Standing::Up);
        let change = health.note(Sign::Unconnected, false, at(0), MIDDLE);
        assert_eq!(change, Some(Change::WentDown));
        assert!(matches!(health.standing(at(900)), Standing::Down(_)));
        assert_eq!(health.standing(at(1_001)), Standing::Due);
        health.begin_probe();
        assert!(
            matches!(health.standing(at(1_001)), Standing::Down(_)),
            "one probe at a time"
        );
        let change = health.note(Sign::Answered, true, at(1_002), MIDDLE);
        assert_eq!(change, Some(Change::CameBack));
        assert_eq!(health, Health::default());
    }

    #[test]
    fn answers_in_between_keep_an_address_up() {
        let mut health = Health::default();
        for turn in 0..10 {
            let note = |health: &mut Health, sign| health.note(sign, false, at(turn), 0);
            assert_eq!(note(&mut health, Sign::Unanswered), None);
            assert_eq!(note(&mut health, Sign::Unanswered), None);
            assert_eq!(note(&mut health, Sign::Answered), None);
        }
        for expected in [None, None, Some(Change::WentDown)] {
            let change = health.note(Sign::Unanswered, false, at(20), 0);
            assert_eq!(change, expected);
        }
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let mut health = Health::default();
        health.note(Sign::Unconnected, false, at(0), MIDDLE);
        let once = health;
        for _ in 0..100 {
            assert_eq!(health.note(Sign::Unconnected, false, at(5), MIDDLE), None);
        }
        assert_eq!(health, once);
    }

    #[test]
    fn a_probe_that_learns_nothing_leaves_room_for_the_next() {
        let mut health = Health::default();
        health.note(Sign::Unconnected, false, at(0), 0);
        health.begin_probe();
        health.give_up_probe();
        assert_eq!(health.standing(at(1_000)), Standing::Due);
    }

    proptest! {
        #[test]
        fn time_down_grows_to_a_bound(downs in 1_u32..=u32::MAX, jitter: u16) {
            let time = time_down(downs, jitter);
            prop_assert!(time >= DOWN_FIRST * 3 / 4);
            prop_assert!(time <= DOWN_MAX * 5 / 4);
            prop_assert!(time_down(downs.saturating_add(2), 0) >= time_down(downs, u16::MAX).min(DOWN_MAX * 3 / 4));
        }

        #[test]
        fn whatever_happens_it_can_come_back(signs in proptest::collection::vec((0_usize..3, any::<bool>(), any::<u16>()), 0..50)) {
            let mut health = Health::default();
            let mut now = 0;
            for (sign, probe, jitter) in signs {
                now += 1_000;
                if health.standing(at(now)) == Standing::Due && probe {
                    health.begin_probe();
                }
                let sign = [Sign::Answered, Sign::Unanswered, Sign::Unconnected][sign];
                health.note(sign, probe, at(now), jitter);
            }
            health.give_up_probe();
            prop_assert!(!matches!(health.standing(at(now + 75_000)), Standing::Down(_)));
            health.note(Sign::Answered, true, at(now), 0);
            prop_assert_eq!(health.standing(at(now)), Standing::Up);
        }
    }
}
