//! What the tier is opened with.

use std::fmt;
use std::time::Duration;

/// What the tier is opened with. [`Settings::new`] has every default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
    /// `file:///directory` or `memory://`.
    pub url: String,
    /// Whether it is written to.
    pub mode: Mode,
    /// Endpoints and credentials.
    pub environment: Environment,
    /// How long requests may take.
    pub deadlines: Deadlines,
    /// Bytes of entries that wait to be uploaded, at most. What comes beyond is dropped.
    pub queue_bytes: u64,
    /// Uploads at once.
    pub uploads: usize,
    /// Reads at once: lookups, and readers of large content. What comes beyond is refused.
    pub reads: usize,
    /// How long the content of a large entry stays after it was replaced or removed, for those
    /// who still read it.
    pub grace: Duration,
    /// How often a 256th of the store is searched for content that no entry has.
    pub sweep: Duration,
    /// How old such content must be before it is deleted. Longer than any upload takes, and than
    /// the clocks of nodes and store differ.
    pub orphaned: Duration,
}

impl Settings {
    /// The defaults, for the store at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            mode: Mode::ReadWrite,
            environment: Environment::of_process(),
            deadlines: Deadlines::default(),
            queue_bytes: 64 << 20,
            uploads: 4,
            reads: 256,
            grace: Duration::from_mins(10),
            sweep: Duration::from_mins(10),
            orphaned: Duration::from_hours(1),
        }
    }
}

/// Whether the tier is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    ReadWrite,
    /// Nothing is ever written or deleted, not even to test the store.
    ReadOnly,
}

/// How long requests may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To make a TCP connection.
    pub connect: Duration,
    /// A request for a head, or to write or delete something small, with all its repetitions.
    pub small: Duration,
    /// Until the next chunk of large content has come.
    pub chunk: Duration,
    /// To write a part of large content, 8 MiB mostly.
    pub part: Duration,
    /// To finish what is queued when the tier stops.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(300),
            small: Duration::from_secs(2),
            chunk: Duration::from_secs(5),
            part: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// Environment variables: what the command line tools of the services read too.
#[derive(Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            name.into_string().ok().zip(value.into_string().ok())
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// Just `variables`.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.map(owned).into())
    }

    /// Those whose names begin with `prefix`, in lower case.
    pub(super) fn below(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let matching = self
            .0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix));
        matching.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }

    /// The value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}
