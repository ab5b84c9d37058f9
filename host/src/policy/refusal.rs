//! Why an upload, a lookup or a deletion of a policy was turned down.
//!
//! One type for the whole path, because its only reader is the person who sent the request: the
//! admin API prints it as `{"error":{"code","message","hint"}}` and the command line as two lines.
//! A message names what was found, a hint says what to do next.

/// What went wrong, as far as the status of the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is malformed: a bad name, or a body that is not Wasm.
    Malformed,
    /// There is no such policy or version.
    NotFound,
    /// The policy is in use.
    InUse,
    /// The body is over the size cap.
    TooLarge,
    /// The request is well formed and the policy cannot be accepted.
    Unacceptable,
    /// The fault is the host's: a full disk, a damaged file.
    Host,
    /// Too many uploads wait already.
    Busy,
}

impl RefusalKind {
    /// The HTTP status of the answer (RFC 9110 section 15).
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotFound => 404,
            Self::InUse => 409,
            Self::TooLarge => 413,
            Self::Unacceptable => 422,
            Self::Host => 500,
            Self::Busy => 503,
        }
    }
}

/// A request about policies that was turned down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Decides the status.
    pub kind: RefusalKind,
    /// A stable word in `snake_case` for programs.
    pub code: &'static str,
    /// What was found, for people.
    pub message: String,
    /// What to do next, for people.
    pub hint: String,
}

impl Refusal {
    /// A refusal of kind `kind`.
    pub fn new(
        kind: RefusalKind,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The policy is well formed and cannot be accepted.
    pub fn unacceptable(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(RefusalKind::Unacceptable, code, message, hint)
    }

    /// The HTTP status of the answer.
    pub const fn status(&self) -> u16 {
        self.kind.status()
    }
}
