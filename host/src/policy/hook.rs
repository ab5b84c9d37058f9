//! The three places at which a policy is asked, and the interface that stands for each.
//!
//! The words are part of the outward contract: metric labels, JSON, configuration keys and the
//! names in `wit/policy` all use them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The package of every policy interface.
pub const PACKAGE: &str = "larder:policy";

/// The version of the package that this host was built against.
pub const PACKAGE_VERSION: &str = "0.1.0";

/// The interface that a policy may export beside eviction, to decide for a disk tier too. It is no
/// hook of its own: a site chooses both as one.
pub const REINSERTION: &str = "larder:policy/reinsertion@0.1.0";

/// The interface that a policy may export beside eviction, to be told and asked by one call.
pub const ROOM: &str = "larder:policy/room@0.1.0";

/// The interface that a policy may export beside eviction, to be told and asked by one call without
/// lists where there is little to hand over.
pub const NEWCOMER: &str = "larder:policy/newcomer@0.1.0";

/// The interfaces that are of use beside eviction only.
pub const BESIDE_EVICTION: [&str; 3] = [REINSERTION, ROOM, NEWCOMER];

/// One decision that a policy may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Which requests share a stored response.
    Keying,
    /// How long a response may be answered from the cache.
    Freshness,
    /// Which residents leave a full memory tier.
    Eviction,
}

impl Hook {
    /// Every hook, in the order in which a request meets them.
    pub const ALL: [Self; 3] = [Self::Keying, Self::Freshness, Self::Eviction];

    /// The word for this hook, which is also the name of its WIT interface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keying => "keying",
            Self::Freshness => "freshness",
            Self::Eviction => "eviction",
        }
    }

    /// The label of the rule that answers where no policy does.
    pub const fn native(self) -> &'static str {
        match self {
            Self::Keying => "native:default",
            Self::Freshness => "native:rfc9111",
            Self::Eviction => "native:lru",
        }
    }

    /// The export under which a component offers this hook.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Keying => "larder:policy/keying@0.1.0",
            Self::Freshness => "larder:policy/freshness@0.1.0",
            Self::Eviction => "larder:policy/eviction@0.1.0",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no hook.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hook; the hooks are keying, freshness and eviction")]
pub struct UnknownHook(pub String);

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(word: &str) -> Result<Self, UnknownHook> {
        let known = Self::ALL.into_iter().find(|hook| hook.as_str() == word);
        known.ok_or_else(|| UnknownHook(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_word_agrees() {
        for hook in Hook::ALL {
            let word = hook.as_str();
            assert_eq!(word.parse(), Ok(hook));
            assert_eq!(hook.to_string(), word);
            assert_eq!(serde_json::to_value(hook).unwrap(), word);
            assert_eq!(serde_json::from_value::<Hook>(word.into()).unwrap(), hook);
            assert_eq!(
                hook.interface(),
                format!("{PACKAGE}/{word}@{PACKAGE_VERSION}")
            );
        }
    }

    #[test]
    fn other_words_are_refused_with_the_choices() {
        for word in ["", "Keying", "key", "keying "] {
            let error = word.parse::<Hook>().unwrap_err().to_string();
            assert!(error.contains("keying, freshness and eviction"), "{error}");
        }
    }
}
