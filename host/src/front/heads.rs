//! The heads of hot responses, ready to be sent.
//!
//! A hit needs the stored fields with `Age` and `Cache-Status` filled in. Both change once a
//! second at most, so a worker keeps the last head it made for the responses it serves often, and
//! clones that. The clone's reference counts are then this worker's own, too: two workers serving
//! one response do not fight for them. A response must be seen twice in a row at its place before
//! its head is kept, so that traffic without favourites pays nothing. Nothing here is content.

use http::HeaderMap;

use super::cache_status::{CacheStatus, Outcome};
use super::{answer, fields};
use crate::entry::StoredResponse;

/// Heads kept, at most; a power of two.
const PLACES: usize = 256;

/// The heads of one worker.
#[derive(Debug)]
pub struct Heads {
    places: Box<[Place]>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// The response that was seen last.
    serial: u64,
    age: u64,
    headers: Option<HeaderMap>,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            places: vec![Place::default(); PLACES].into(),
        }
    }
}

impl Heads {
    /// The head of `stored`, which is `serial`, at `age` seconds with `ttl` seconds left.
    #[inline]
    pub fn get(&mut self, serial: u64, stored: &StoredResponse, age: u64, ttl: i64) -> HeaderMap {
        let index = usize::try_from(serial).unwrap_or(0) & (PLACES - 1);
        let Some(place) = self.places.get_mut(index) else {
            return made(stored, age, ttl);
        };
        if place.serial != serial {
            *place = Place {
                serial,
                age: 0,
                headers: None,
            };
            return made(stored, age, ttl);
        }
        match &mut place.headers {
            Some(headers) if place.age == age => headers.clone(),
            kept => {
                place.age = age;
                kept.insert(fields::compact(&made(stored, age, ttl)))
                    .clone()
            }
        }
    }
}

fn made(stored: &StoredResponse, age: u64, ttl: i64) -> HeaderMap {
    let mut headers = stored.headers.clone();
    let status = CacheStatus {
        outcome: Outcome::Hit { ttl },
        key: None,
        detail: None,
    };
    answer::fill_places(&mut headers, Some(age), &status);
    headers
}
