//! The heads of hot responses, ready to be sent; for small ones, the whole message.
//!
//! A hit needs the stored fields with `Age` and `Cache-Status` filled in. Both change once a
//! second at most, so a worker keeps the last head it made for the responses it serves often, and
//! clones that. The clone's reference counts are then this worker's own, too: two workers serving
//! one response do not fight for them. A response must be seen twice in a row at its place before
//! its head is kept, so that traffic without favourites pays nothing. The lookup always comes first:
//! what is here is reached by the serial of the entry that was found, and so never outlives it.
//!
//! A worker keeps at most [`PLACES`] heads and as many small contents: 2 MiB.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::cache_status::{CacheStatus, Outcome};
use super::h1::encode::{self, Delimited};
use super::h1::head::After;
use super::{answer, fields};
use crate::entry::StoredResponse;

/// Heads kept, at most; a power of two.
const PLACES: usize = 256;
/// Bytes of content up to which the whole message is kept.
const CONTENT_MAX: usize = 4 << 10;
/// Room for a head.
const HEAD_BYTES: usize = 512;

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
    /// The whole message, if its content is small.
    encoded: Option<Bytes>,
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
            *place = Place::of(serial);
            return made(stored, age, ttl);
        }
        match &mut place.headers {
            Some(headers) if place.age == age => headers.clone(),
            kept => {
                place.age = age;
                place.encoded = None;
                kept.insert(fields::compact(&made(stored, age, ttl)))
                    .clone()
            }
        }
    }

    /// The whole message that answers with `stored` in HTTP/1.1, if its content is small and it is
    /// asked for a second time.
    #[inline]
    pub fn encoded(
        &mut self,
        serial: u64,
        stored: &StoredResponse,
        age: u64,
        ttl: i64,
    ) -> Option<Bytes> {
        let content = match stored.body.pieces() {
            [] => &[],
            [content] if content.len() <= CONTENT_MAX => &**content,
            _ => return None,
        };
        let index = usize::try_from(serial).unwrap_or(0) & (PLACES - 1);
        let place = self.places.get_mut(index)?;
        if place.serial != serial {
            *place = Place::of(serial);
            return None;
        }
        match &place.encoded {
            Some(encoded) if place.age == age => Some(encoded.clone()),
            _ if place.age != age => {
                place.age = age;
                (place.headers, place.encoded) = (None, None);
                None
            }
            _ => {
                let length = Some(stored.body.len());
                let delimited = Delimited::of(&Method::GET, stored.status, length, false);
                let mut out = Vec::with_capacity(HEAD_BYTES + content.len());
                let headers = made(stored, age, ttl);
                encode::head(
                    &mut out,
                    stored.status,
                    &headers,
                    delimited,
                    After::KeepAlive,
                );
                if delimited != Delimited::Nothing {
                    out.extend_from_slice(content);
                }
                Some(place.encoded.insert(out.into()).clone())
            }
        }
    }
}

impl Place {
    fn of(serial: u64) -> Self {
        Self {
            serial,
            ..Self::default()
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
