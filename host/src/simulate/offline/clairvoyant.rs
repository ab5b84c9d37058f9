//! Policies that know the future.
//!
//! An object in the cache is known by the number of its next request, so a request finds its own
//! number there or is a miss. What is never asked for again is not kept, and a newcomer may be the
//! victim itself: both do better than a policy that must let everybody in.

use std::collections::BTreeMap;

use super::{Future, Misses, NEVER};

/// Residents that are compared for one victim.
const SAMPLE: u64 = 128;

/// Evicts what is asked for again last.
pub(super) fn belady(future: &Future, capacity: u64) -> Misses {
    // Next request to size.
    let mut residents: BTreeMap<u32, u64> = BTreeMap::new();
    let mut used = 0_u64;
    let mut misses = Misses::default();
    for (at, next, size) in future.requests() {
        match residents.remove(&at) {
            Some(held) => used -= held,
            None => {
                misses.requests += 1;
                misses.bytes = misses.bytes.saturating_add(size);
            }
        }
        if next == NEVER || size > capacity {
            continue;
        }
        residents.insert(next, size);
        used = used.saturating_add(size);
        while used > capacity {
            let Some((_, freed)) = residents.pop_last() else {
                break;
            };
            used -= freed;
        }
    }
    misses
}

/// One resident of the sampling cache.
#[derive(Clone, Copy)]
struct Resident {
    next: u32,
    size: u64,
}

/// Evicts the largest product of size and distance among a sample.
pub(super) fn belady_size(future: &Future, capacity: u64) -> Misses {
    let mut residents: Vec<Resident> = Vec::new();
    // Next request to place among the residents.
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    let mut used = 0_u64;
    let mut misses = Misses::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for (at, next, size) in future.requests() {
        match places.get(&at).copied() {
            Some(place) => used -= leave(&mut residents, &mut places, place),
            None => {
                misses.requests += 1;
                misses.bytes = misses.bytes.saturating_add(size);
            }
        }
        if next == NEVER || size > capacity {
            continue;
        }
        places.insert(next, residents.len());
        residents.push(Resident { next, size });
        used = used.saturating_add(size);
        while used > capacity {
            let Some(victim) = worst(&residents, at, &mut random) else {
                break;
            };
            used -= leave(&mut residents, &mut places, victim);
        }
    }
    misses
}

/// The place of the worst of a sample.
fn worst(residents: &[Resident], now: u32, random: &mut u64) -> Option<usize> {
    let all = crate::simulate::number::count(residents.len());
    let cost = |place: usize| {
        let resident = residents.get(place)?;
        let distance = resident.next.saturating_sub(now);
        Some((u128::from(resident.size) * u128::from(distance), place))
    };
    let worst = if all <= SAMPLE {
        (0..residents.len()).filter_map(cost).max()
    } else {
        let drawn = (0..SAMPLE).filter_map(|_| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let place = (u128::from(*random) * u128::from(all)) >> 64;
            usize::try_from(place).ok().and_then(cost)
        });
        drawn.max()
    };
    worst.map(|(_, place)| place)
}

/// Takes the resident at `place` out; the last one moves there. Answers its size.
fn leave(residents: &mut Vec<Resident>, places: &mut BTreeMap<u32, usize>, place: usize) -> u64 {
    if place >= residents.len() {
        return 0;
    }
    let gone = residents.swap_remove(place);
    places.remove(&gone.next);
    if let Some(moved) = residents.get(place) {
        places.insert(moved.next, place);
    }
    gone.size
}
