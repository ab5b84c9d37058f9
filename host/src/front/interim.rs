//! Interim responses (1xx) of an origin, on their way to the one client whose request they are
//! for (RFC 9110 15.2).
//!
//! Best effort: a sender never waits, and what does not fit is dropped. 100 answers an expectation
//! that is ours and 101 an upgrade that we never ask for, so neither is handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};
use tokio::sync::mpsc;

use super::fields;

/// Interim responses that are handed on for one request, at most. An origin that says 102 again
/// and again must not keep a client busy.
pub const INTERIM_MAX: usize = 8;

/// An interim response, ready for a client.
#[derive(Clone, Debug)]
pub struct InterimResponse {
    /// 102, 103 or an unassigned 1xx.
    pub status: StatusCode,
    /// Its end-to-end fields.
    pub headers: HeaderMap,
}

/// Takes the interim responses to one request; by default drops them.
#[derive(Clone, Debug, Default)]
pub struct Interim(Option<Arc<Way>>);

#[derive(Debug)]
struct Way {
    left: AtomicUsize,
    sender: mpsc::Sender<InterimResponse>,
}

/// Where a connection finds the interim responses to one request.
#[derive(Debug)]
pub struct InterimResponses(mpsc::Receiver<InterimResponse>);

/// Both ends for one request.
pub fn channel() -> (Interim, InterimResponses) {
    let (sender, receiver) = mpsc::channel(INTERIM_MAX);
    let left = AtomicUsize::new(INTERIM_MAX);
    let interim = Interim(Some(Arc::new(Way { left, sender })));
    (interim, InterimResponses(receiver))
}

impl Interim {
    /// Whether anybody is there to take them.
    pub fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|way| !way.sender.is_closed())
    }

    /// Hands on a response of `status` with the fields `headers`, which came over `version`, if it
    /// is for a client.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap, version: Version) {
        let Some(way) = self.0.as_ref().filter(|_| is_for_clients(status)) else {
            return;
        };
        let take = |left: usize| left.checked_sub(1);
        let allowed = way
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if allowed.is_err() {
            return;
        }
        let mut headers = headers.clone();
        fields::remove_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        fields::append_via(&mut headers, version);
        if way
            .sender
            .try_send(InterimResponse { status, headers })
            .is_err()
        {
            tracing::debug!(%status, "an interim response was dropped: its client left or is slow");
        }
    }
}

fn is_for_clients(status: StatusCode) -> bool {
    status.is_informational() && !matches!(status.as_u16(), 100 | 101)
}

impl InterimResponses {
    /// The next one; `None` once there will be no more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<InterimResponse>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(responses: &mut InterimResponses) -> Vec<InterimResponse> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(response)) = responses.poll_next(&mut cx) {
            all.push(response);
        }
        all
    }

    #[test]
    fn only_what_is_for_clients_is_handed_on_without_what_is_for_the_hop() {
        let (interim, mut responses) = channel();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("link", "</a>; rel=preload"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "5"),
        ] {
            headers.append(name, http::HeaderValue::from_static(value));
        }
        for status in [100, 101, 102, 103, 150, 200] {
            interim.send(
                StatusCode::from_u16(status).unwrap(),
                &headers,
                Version::HTTP_2,
            );
        }
        let all = received(&mut responses);
        let statuses: Vec<u16> = all.iter().map(|one| one.status.as_u16()).collect();
        assert_eq!(statuses, [102, 103, 150]);
        for one in all {
            assert_eq!(one.headers.get("link"), headers.get("link"));
            assert_eq!(one.headers.get("via").unwrap(), "2 larder");
            assert_eq!(one.headers.len(), 2, "{:?}", one.headers);
        }
    }

    #[test]
    fn there_is_an_end_to_them_however_fast_they_are_taken() {
        let (interim, mut responses) = channel();
        let mut taken = 0;
        for _ in 0..3 * INTERIM_MAX {
            interim.send(StatusCode::EARLY_HINTS, &HeaderMap::new(), Version::HTTP_11);
            taken += received(&mut responses).len();
        }
        assert_eq!(taken, INTERIM_MAX);
        drop(interim);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(responses.poll_next(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn a_client_that_left_is_no_obstacle() {
        let (interim, responses) = channel();
        assert!(interim.is_wanted());
        drop(responses);
        assert!(!interim.is_wanted() && !Interim::default().is_wanted());
        interim.send(StatusCode::EARLY_HINTS, &HeaderMap::new(), Version::HTTP_11);
    }
}
