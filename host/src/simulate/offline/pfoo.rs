//! PFOO-L: a lower bound on misses that holds for objects of any sizes.
//!
//! To hit, an object must have been kept since the request before, which takes its size for that
//! long of the cache. All caches together have capacity times requests of this to give. Giving it
//! to the cheapest hits first, wherever they are, is more than any real cache can do. (Berger,
//! Beckmann and Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes",
//! 2018.)

use super::{Future, Misses, NEVER};
use crate::simulate::number::count;

/// A hit that may be bought.
struct Interval {
    /// What is paid for one unit of what is wanted: for requests its whole price, for bytes the
    /// price of one.
    order: u128,
    price: u128,
    size: u64,
}

/// The fewest missed requests and the fewest missed bytes at each of `capacities`.
pub(super) fn lower(future: &Future, capacities: &[u64]) -> Vec<Misses> {
    let requests = bought(future, capacities, |_, price| price);
    let bytes = bought(future, capacities, |distance, _| u128::from(distance));
    let (all, all_bytes) = future.totals();
    requests
        .iter()
        .zip(bytes)
        .map(|(requests, bytes)| Misses {
            requests: all - requests.requests,
            bytes: all_bytes.saturating_sub(bytes.bytes),
        })
        .collect()
}

/// The hits that each of `capacities` buys in the order of `worth`.
fn bought(future: &Future, capacities: &[u64], worth: fn(u32, u128) -> u128) -> Vec<Misses> {
    let mut intervals: Vec<_> = future
        .requests()
        .filter(|(_, next, _)| *next != NEVER)
        .map(|(at, next, size)| {
            let distance = next - at;
            let price = u128::from(distance) * u128::from(size);
            Interval {
                order: worth(distance, price),
                price,
                size,
            }
        })
        .collect();
    intervals.sort_unstable_by_key(|interval| interval.order);
    let buy = |capacity: &u64| {
        let mut left = u128::from(*capacity) * u128::from(count(future.sizes.len()));
        let mut hits = Misses::default();
        for interval in intervals
            .iter()
            .filter(|interval| interval.size <= *capacity)
        {
            let Some(rest) = left.checked_sub(interval.price) else {
                // A part of the next one: the bound is that of the relaxed problem, and what is
                // not whole is rounded in its favour.
                let part = u128::from(interval.size) * left / interval.price;
                hits.requests += 1;
                hits.bytes = hits
                    .bytes
                    .saturating_add(u64::try_from(part).unwrap_or(0) + 1);
                break;
            };
            left = rest;
            hits.requests += 1;
            hits.bytes = hits.bytes.saturating_add(interval.size);
        }
        hits
    };
    capacities.iter().map(buy).collect()
}
