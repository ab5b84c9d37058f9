//! Names, versions and identities of policies, and which of them are allowed.
//!
//! A name becomes a directory and part of a URL, so its alphabet is small and checked once, here:
//! a [`PolicyId`] that exists is safe to use as a path.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::policy::refusal::{Refusal, RefusalKind};

/// Bytes of a name.
const NAME_BYTES: usize = 64;

/// Bytes of a version, twice as many hexadecimal digits.
const VERSION_BYTES: usize = 6;

/// The first twelve hexadecimal digits of the blake3 digest of a component.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; VERSION_BYTES]);

impl Version {
    /// The version of the component `wasm`.
    pub fn of(wasm: &[u8]) -> Self {
        Self::of_digest(&blake3::hash(wasm))
    }

    /// The version of the component with this digest.
    pub fn of_digest(digest: &blake3::Hash) -> Self {
        let mut version = [0; VERSION_BYTES];
        version
            .iter_mut()
            .zip(digest.as_bytes())
            .for_each(|(to, from)| *to = *from);
        Self(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Version {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let mut bytes = [0; VERSION_BYTES];
        let digits = text
            .bytes()
            .filter(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            .count();
        let is_hex = digits == text.len() && digits == VERSION_BYTES * 2;
        let parsed = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        let Some(number) = parsed else {
            return Err(Refusal::new(
                RefusalKind::Malformed,
                "bad_version",
                format!("{text:?} is not a version"),
                "a version is twelve lower-case hexadecimal digits, as `larder policy list` shows them",
            ));
        };
        let [_, _, low @ ..] = number.to_be_bytes();
        bytes.copy_from_slice(&low);
        Ok(Self(bytes))
    }
}

/// A policy by name and version. The name is valid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    name: Arc<str>,
    version: Version,
}

impl PolicyId {
    /// The policy `name` in `version`.
    ///
    /// # Errors
    /// The name is not allowed.
    pub fn new(name: &str, version: Version) -> Result<Self, Refusal> {
        check_name(name)?;
        Ok(Self {
            name: name.into(),
            version,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub const fn version(&self) -> Version {
        self.version
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `NAME@VERSION`.
impl FromStr for PolicyId {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (name, version) = text.split_once('@').unwrap_or((text, ""));
        Self::new(name, version.parse()?)
    }
}

/// Checks that `name` may name an uploaded or shipped policy.
///
/// # Errors
/// It has the wrong length or characters, or begins like the native rules' names.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let problem = if name.is_empty() || name.len() > NAME_BYTES {
        "it must have 1 to 64 characters"
    } else if !starts_well || !name.bytes().all(allowed) {
        "it must be of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
    } else if name.contains("..") {
        "it must not contain \"..\""
    } else if name.starts_with("native") {
        "names that begin with \"native\" are for the host's own rules"
    } else {
        return Ok(());
    };
    let shown = name
        .get(..name.floor_char_boundary(NAME_BYTES))
        .unwrap_or_default();
    let message = format!("{shown:?} cannot name a policy: {problem}");
    Err(Refusal::new(
        RefusalKind::Malformed,
        "bad_name",
        message,
        "choose a name like `my-keys`",
    ))
}
