//! What a line of a web server's log is to a cache: a request, or nothing to it.
//!
//! A request counts if a cache could answer it: GET or HEAD, with a status that may be stored.
//! Answers without the whole content (304, 206, HEAD, none stated) have the size of the last whole
//! one of their key, which is why a log, unlike a CSV trace, needs some memory a key.

use crate::simulate::request::{KeyMap, NO_END, Request, key_of};

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Logged<'a> {
    /// Milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
    pub(super) method: &'a [u8],
    /// Whose target it is; empty where the log does not say.
    pub(super) host: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) status: u64,
    pub(super) bytes: Option<u64>,
}

/// What is remembered of a log.
#[derive(Debug, Default)]
pub(super) struct Web {
    sizes: KeyMap<u64>,
}

impl Web {
    /// The request that `logged` is, if it is one to a cache.
    pub(super) fn request(&mut self, logged: Logged<'_>) -> Option<Request> {
        let whole = match (logged.method, logged.status) {
            // RFC 9110 15.1: what may be stored without being told so, and RFC 9111 4.3.4.
            (b"GET", 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501) => true,
            (b"GET", 206 | 304) | (b"HEAD", 200..=299 | 304) => false,
            _ => return None,
        };
        let key = key_of([logged.host, logged.target]);
        let size = match logged.bytes.filter(|_| whole) {
            Some(bytes) => {
                self.sizes.insert(key, bytes);
                bytes
            }
            None => *self.sizes.entry(key).or_insert(logged.bytes.unwrap_or(0)),
        };
        let key_bytes = logged.host.len().saturating_add(logged.target.len());
        Some(Request {
            time_ms: logged.time_ms,
            key,
            size,
            key_bytes: u32::try_from(key_bytes).unwrap_or(u32::MAX),
            ttl_s: NO_END,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_cache_could_answer_counts_and_parts_have_the_size_of_the_whole() {
        let mut web = Web::default();
        let mut size = |method: &str, status, bytes| {
            web.request(Logged {
                time_ms: 1,
                method: method.as_bytes(),
                host: b"h",
                target: b"/a",
                status,
                bytes,
            })
            .map(|request| request.size)
        };
        assert_eq!(
            size("GET", 206, Some(10)),
            Some(10),
            "the whole is not known yet"
        );
        assert_eq!(size("GET", 200, Some(500)), Some(500));
        assert_eq!(size("GET", 206, Some(10)), Some(500));
        assert_eq!(size("GET", 304, None), Some(500));
        assert_eq!(size("HEAD", 200, Some(0)), Some(500));
        assert_eq!(size("GET", 200, Some(700)), Some(700), "it changed");
        assert_eq!(size("GET", 304, Some(0)), Some(700));
        for (method, status) in [
            ("POST", 200),
            ("GET", 500),
            ("GET", 302),
            ("HEAD", 404),
            ("", 200),
        ] {
            assert_eq!(size(method, status, Some(1)), None, "{method} {status}");
        }
    }
}
