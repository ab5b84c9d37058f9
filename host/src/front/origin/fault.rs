//! Why a request to an origin has no answer.

use std::error::Error;
use std::fmt;
use std::io;

use http::Request;

use super::outgoing::{Outgoing, OutgoingError};
use crate::cache::flight::Failure;

/// What a library says.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a request to an origin has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its name leads to no address.
    #[error("the name of the origin has no address: {0}")]
    Name(String),
    /// There was no connection.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// There was no connection in time.
    #[error("no connection in time")]
    ConnectTimedOut,
    /// There was a connection, and no agreement on TLS or HTTP.
    #[error("no agreement over TLS")]
    Tls(#[source] io::Error),
    /// There was no response in time.
    #[error("no response in time")]
    TimedOut,
    /// The connection ended before a byte of a response.
    #[error("the connection ended without a response")]
    Closed(#[source] Cause),
    /// The connection broke within the head of a response, or that was none.
    #[error("no sound response")]
    Broken(#[source] Cause),
    /// A response that cannot be told from what follows, or that nobody asked for.
    #[error("no sound response: {0}")]
    Unsound(&'static str),
    /// The client's own body cannot be sent on.
    #[error(transparent)]
    Client(OutgoingError),
}

/// Why a request that was handed to a connection has no answer.
pub(super) enum Lost {
    /// It was not sent; here it is.
    Unsent(Box<Request<Outgoing>>),
    /// The origin says that it has not acted on it; here it is.
    Refused(Box<Request<Outgoing>>, Fault),
    /// It was sent, in part at least.
    Sent(Fault),
}

/// The kinds of failure that are counted apart. The words are the values of the metric label
/// `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The name has no address.
    Name,
    /// No connection.
    Connect,
    /// No agreement on TLS.
    Tls,
    /// A deadline passed.
    Timeout,
    /// The connection ended before a response.
    Closed,
    /// What came was no sound response.
    Protocol,
}

impl FaultKind {
    /// Every kind, in the order of the metrics.
    pub const ALL: [Self; 6] = [
        Self::Name,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Closed,
        Self::Protocol,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }

    /// Its place among all kinds.
    pub const fn index(self) -> usize {
        match self {
            Self::Name => 0,
            Self::Connect => 1,
            Self::Tls => 2,
            Self::Timeout => 3,
            Self::Closed => 4,
            Self::Protocol => 5,
        }
    }
}

impl Fault {
    /// How it is counted; `None` if it is the client's.
    pub fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Name(_) => Some(FaultKind::Name),
            Self::Connect(_) => Some(FaultKind::Connect),
            Self::Tls(_) => Some(FaultKind::Tls),
            Self::ConnectTimedOut | Self::TimedOut => Some(FaultKind::Timeout),
            Self::Closed(_) => Some(FaultKind::Closed),
            Self::Broken(_) | Self::Unsound(_) => Some(FaultKind::Protocol),
            Self::Client(_) => None,
        }
    }

    /// Whether it speaks of the origin as a whole, and not perhaps of this request alone.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Connect(_)
            | Self::ConnectTimedOut
            | Self::Tls(_)
            | Self::TimedOut => true,
            Self::Closed(_) | Self::Broken(_) | Self::Unsound(_) | Self::Client(_) => false,
        }
    }

    /// What clients are told.
    pub fn failure(&self) -> Failure {
        match self {
            Self::ConnectTimedOut | Self::TimedOut => Failure::TimedOut,
            Self::Client(OutgoingError::TooLarge) => Failure::BodyTooLarge,
            Self::Client(OutgoingError::Client(_)) => Failure::BodyBrokeOff,
            _ => Failure::Unreachable,
        }
    }

    /// Why hyper has no answer. `heard`: whether a byte came since the request was sent.
    pub(super) fn of_exchange(error: hyper::Error, heard: bool) -> Self {
        for cause in causes(&error) {
            if let Some(error) = cause.downcast_ref::<OutgoingError>() {
                return Self::Client(*error);
            }
        }
        if heard || error.is_parse() {
            Self::Broken(Box::new(error))
        } else {
            Self::Closed(Box::new(error))
        }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

/// An error with everything that caused it.
pub(super) struct Chain<'a>(pub(super) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cause) in causes(self.0).enumerate() {
            let separator = if number == 0 { "" } else { ": " };
            write!(f, "{separator}{cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::h1::upload::BrokeOff;

    #[test]
    fn kinds_are_in_their_places() {
        for (place, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
        }
    }

    #[test]
    fn only_deadlines_are_504_and_the_clients_faults_are_not_the_origins() {
        let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for (fault, kind, failure) in [
            (
                Fault::Connect(io()),
                Some(FaultKind::Connect),
                Failure::Unreachable,
            ),
            (Fault::Tls(io()), Some(FaultKind::Tls), Failure::Unreachable),
            (
                Fault::ConnectTimedOut,
                Some(FaultKind::Timeout),
                Failure::TimedOut,
            ),
            (Fault::TimedOut, Some(FaultKind::Timeout), Failure::TimedOut),
            (
                Fault::Unsound("x"),
                Some(FaultKind::Protocol),
                Failure::Unreachable,
            ),
            (
                Fault::Client(OutgoingError::TooLarge),
                None,
                Failure::BodyTooLarge,
            ),
            (
                Fault::Client(OutgoingError::Client(BrokeOff)),
                None,
                Failure::BodyBrokeOff,
            ),
        ] {
            assert_eq!((fault.kind(), fault.failure()), (kind, failure), "{fault}");
        }
        let text = Chain(&Fault::Connect(io())).to_string();
        assert_eq!(text, "no connection: connection refused");
    }
}
