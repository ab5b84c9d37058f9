//! The policies that are compared, and how they are written: `native:lru`, the name of a shipped
//! policy or a component file, with parameters as in `adaptive?objective=requests&ghosts=2`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::SimulateError;
use crate::config;
use crate::policy::activation::Activation;
use crate::policy::hook::Hook;
use crate::policy::inspect;
use crate::policy::library::{Library, PolicyLimits};
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::policy::sandbox::Limits;

/// The native order.
pub const NATIVE: &str = "native:lru";

/// Where the policies come from.
#[derive(Debug)]
pub(super) struct Stable {
    library: Library,
    /// Component files that were loaded, by the argument that named them.
    files: BTreeMap<String, String>,
}

/// A policy and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written<'a> {
    policy: &'a str,
    params: Map<String, Value>,
}

impl Stable {
    /// The shipped policies.
    ///
    /// # Errors
    /// This machine cannot run policies.
    pub(super) fn open() -> Result<Self, SimulateError> {
        let defaults = config::Limits::default();
        let limits = PolicyLimits {
            upload: inspect::Limits::default(),
            instance: Limits {
                memory: defaults.policy_memory.bytes(),
                deadline: defaults.policy_deadline.duration(),
            },
        };
        Ok(Self {
            library: Library::open(None, limits).map_err(SimulateError::Host)?,
            files: BTreeMap::new(),
        })
    }

    /// What is compared when nobody says: the native order and every shipped policy.
    pub(super) fn everything(&self) -> Vec<String> {
        std::iter::once(NATIVE.to_owned())
            .chain(self.shipped())
            .collect()
    }

    fn shipped(&self) -> impl Iterator<Item = String> {
        let listed = self.library.list().into_iter();
        listed
            .filter(|listed| listed.hooks.contains(&Hook::Eviction))
            .map(|listed| listed.id.name().to_owned())
            .filter(|name| !name.starts_with(FILE))
    }

    /// The policy that `text` asks for, tried out. Each call makes one that knows of no other.
    ///
    /// # Errors
    /// It is unknown, cannot be loaded, or refuses its parameters.
    pub(super) fn activation(&mut self, text: &str) -> Result<Arc<Activation>, SimulateError> {
        let Written { policy, params } = written(text)?;
        let extension = Path::new(policy).extension();
        let choice = if extension.is_some_and(|extension| extension == "wasm") {
            self.load(policy)?
        } else if policy == NATIVE || self.shipped().any(|name| name == policy) {
            policy.to_owned()
        } else {
            let names: Vec<_> = self.shipped().collect();
            return Err(SimulateError::Argument(format!(
                "{policy:?} is no eviction policy; write {NATIVE}, one of {}, or a .wasm file",
                names.join(", ")
            )));
        };
        let activation = self.library.activation(Hook::Eviction, &choice, &params);
        activation.map_err(|refusal| refused(text, &refusal))
    }

    /// Loads a component file and answers its name in the library.
    fn load(&mut self, path: &str) -> Result<String, SimulateError> {
        if let Some(name) = self.files.get(path) {
            return Ok(name.clone());
        }
        let wasm = std::fs::read(Path::new(path))
            .map_err(|error| SimulateError::Argument(format!("{path}: {error}")))?;
        let name = format!("{FILE}{}", self.files.len());
        self.library
            .push(&name, &wasm)
            .map_err(|refusal| refused(path, &refusal))?;
        self.files.insert(path.to_owned(), name.clone());
        Ok(name)
    }
}

/// Begins the names under which component files are loaded.
const FILE: &str = "file-";

fn refused(what: &str, refusal: &Refusal) -> SimulateError {
    if refusal.kind == RefusalKind::Host {
        return SimulateError::Host(anyhow::anyhow!("{what}: {refusal}; {}", refusal.hint));
    }
    SimulateError::Argument(format!("{what}: {refusal}; {}", refusal.hint))
}

/// Takes `text` apart. A value is JSON if it can be read as such, else text.
fn written(text: &str) -> Result<Written<'_>, SimulateError> {
    let (policy, query) = text.split_once('?').unwrap_or((text, ""));
    let mut params = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(SimulateError::Argument(format!(
                "{text}: {pair:?} is no parameter; write NAME?PARAMETER=VALUE&PARAMETER=VALUE"
            )));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        if params.insert(name.to_owned(), value).is_some() {
            return Err(SimulateError::Argument(format!(
                "{text}: the parameter {name} is given twice"
            )));
        }
    }
    Ok(Written { policy, params })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_follow_a_question_mark() {
        for (text, policy, params) in [
            ("lru", "lru", json!({})),
            ("lru?", "lru", json!({})),
            (
                "a?objective=requests",
                "a",
                json!({ "objective": "requests" }),
            ),
            (
                "./x.wasm?n=5&b=true&l=[1,2]",
                "./x.wasm",
                json!({ "n": 5, "b": true, "l": [1, 2] }),
            ),
            ("a?s=\"5\"&e=", "a", json!({ "s": "5", "e": "" })),
        ] {
            let read = written(text).unwrap();
            assert_eq!(
                (read.policy, Value::Object(read.params)),
                (policy, params),
                "{text}"
            );
        }
        for text in ["a?b", "a?=1", "a?b=1&b=2"] {
            assert!(
                matches!(written(text), Err(SimulateError::Argument(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_unknown_is_told_with_the_choices() {
        let mut stable = Stable::open().unwrap();
        assert!(stable.everything().len() > 1);
        for text in ["lur", "native:fifo", "ttl-by-path", "lru@1"] {
            let told = stable.activation(text).unwrap_err().to_string();
            assert!(told.contains("write native:lru, one of "), "{told}");
            assert!(
                told.contains(" lru, ") && told.contains(" s3-fifo, "),
                "{told}"
            );
        }
        let told = stable.activation("none.wasm").unwrap_err().to_string();
        assert!(told.starts_with("none.wasm: "), "{told}");
        let told = stable
            .activation("s3-fifo?small=0")
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("expected a percentage from 1 to 99"),
            "{told}"
        );
        let told = stable.activation("native:lru?a=1").unwrap_err().to_string();
        assert!(told.contains("takes no parameters"), "{told}");
    }
}
