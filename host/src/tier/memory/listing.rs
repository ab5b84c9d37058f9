//! Listing what a domain holds, a page at a time: a stripe is locked for a few slots only, so a hit
//! never waits for a listing.

use std::sync::Arc;

use super::Domain;
use crate::entry::Entry;

/// Slots that one hold of a lock looks at.
const STEP: u32 = 64;
/// Steps of one page: what is sparse comes in many short pages.
const STEPS_MAX: u32 = 512;

/// How far a listing has come; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The stripe.
    pub stripe: usize,
    /// The first slot in it that was not looked at.
    pub slot: u32,
}

impl Domain {
    /// About `most` entries from `from` on, fewer where they are sparse, and where to go on; none at
    /// the end. What comes or goes meanwhile may be missed; what stays is listed once.
    pub fn list(&self, from: Position, most: usize) -> (Vec<Arc<Entry>>, Option<Position>) {
        let stripes = self.inner.stripes.len();
        let (mut entries, mut spots, mut at) = (Vec::new(), Vec::new(), from);
        for _ in 0..STEPS_MAX {
            if at.stripe >= stripes || entries.len() >= most {
                break;
            }
            let stripe = self.inner.lock(at.stripe);
            let (end, until) = (stripe.slots_end(), at.slot.saturating_add(STEP));
            spots.clear();
            stripe.spots(at.slot..until.min(end), u64::MAX, |_| true, &mut spots);
            entries.extend(spots.iter().filter_map(|spot| stripe.at(*spot)).cloned());
            drop(stripe);
            at = match until < end {
                true => Position { slot: until, ..at },
                false => Position {
                    stripe: at.stripe + 1,
                    slot: 0,
                },
            };
        }
        (entries, (at.stripe < stripes).then_some(at))
    }
}
