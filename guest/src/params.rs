//! The operator's parameters: a typed reader over one flat JSON object.
//!
//! Every getter takes the parameter's name and answers `None` when the operator did not give it,
//! so a default is an `unwrap_or`. A value of the wrong kind is an error that names the parameter,
//! what it is and what it should be; a name that no getter asked for is refused by
//! [`Params::finish`], which the host-facing side of this crate calls after `configure`.

mod json;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use json::Value;

/// The parameters given to `configure`.
#[derive(Debug, Default)]
pub struct Params {
    given: Vec<Given>,
    /// Names that were asked for, which is what the policy accepts.
    accepted: RefCell<Vec<&'static str>>,
}

#[derive(Debug)]
struct Given {
    name: String,
    value: Value,
    read: Cell<bool>,
}

/// A unit's suffix, and how many of the smallest unit it is.
type Unit = (&'static str, u64);

/// Longest suffix first among those that end alike.
const DURATION_UNITS: [Unit; 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZE_UNITS: [Unit; 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl Params {
    /// Reads one flat JSON object: strings, numbers, booleans and lists of strings.
    ///
    /// # Errors
    /// The text is not such an object; the message says what was found where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = json::object(text)?
            .into_iter()
            .map(|(name, value)| Given {
                name,
                value,
                read: Cell::new(false),
            })
            .collect();
        Ok(Self {
            given,
            accepted: RefCell::default(),
        })
    }

    /// A text.
    ///
    /// # Errors
    /// The parameter is not a string.
    pub fn string(&self, name: &'static str) -> Result<Option<&str>, String> {
        self.read(name, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// The parameter is not a list of strings.
    pub fn list(&self, name: &'static str) -> Result<Option<&[String]>, String> {
        self.read(name, "a list of strings", |value| match value {
            Value::List(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// A switch.
    ///
    /// # Errors
    /// The parameter is not a boolean.
    pub fn bool(&self, name: &'static str) -> Result<Option<bool>, String> {
        self.read(name, "true or false", |value| match value {
            Value::Bool(on) => Some(*on),
            _ => None,
        })
    }

    /// A whole number.
    ///
    /// # Errors
    /// The parameter is not a whole number from 0 to 2^64 - 1.
    pub fn u64(&self, name: &'static str) -> Result<Option<u64>, String> {
        self.read(name, "a whole number", |value| match value {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        })
    }

    /// A number.
    ///
    /// # Errors
    /// The parameter is not a number.
    pub fn f64(&self, name: &'static str) -> Result<Option<f64>, String> {
        self.read(name, "a number", |value| match value {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        })
    }

    /// A time with its unit: `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`.
    ///
    /// # Errors
    /// The parameter is not such a string.
    pub fn duration(&self, name: &'static str) -> Result<Option<Duration>, String> {
        self.read(
            name,
            "a time such as \"30s\", \"5m\", \"1h\" or \"1d\"",
            |value| match value {
                Value::String(text) => parse_duration(text),
                _ => None,
            },
        )
    }

    /// Bytes, as a whole number or with a unit: `4096`, `"64KiB"`, `"1MB"`.
    ///
    /// # Errors
    /// The parameter is neither.
    pub fn size(&self, name: &'static str) -> Result<Option<u64>, String> {
        self.read(
            name,
            "a size such as \"64KiB\" or \"1MB\"",
            |value| match value {
                Value::String(text) => with_unit(text, &SIZE_UNITS),
                Value::Number(digits) => digits.parse().ok(),
                _ => None,
            },
        )
    }

    /// Refuses parameters that nothing asked for. Called for every policy after `configure`.
    ///
    /// # Errors
    /// Names the first unknown parameter, and all accepted ones.
    pub fn finish(&self) -> Result<(), String> {
        let Some(unknown) = self.given.iter().find(|given| !given.read.get()) else {
            return Ok(());
        };
        let mut message = ["unknown parameter `", &unknown.name, "`; "].concat();
        let accepted = self.accepted.borrow();
        if accepted.is_empty() {
            message.push_str("this policy takes none");
        } else {
            message.push_str("accepted: ");
            message.push_str(&accepted.join(", "));
        }
        Err(message)
    }

    fn read<'a, T>(
        &'a self,
        name: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let mut accepted = self.accepted.borrow_mut();
        if !accepted.contains(&name) {
            accepted.push(name);
        }
        let Some(given) = self.given.iter().find(|given| given.name == name) else {
            return Ok(None);
        };
        given.read.set(true);
        match convert(&given.value) {
            Some(value) => Ok(Some(value)),
            None => Err([
                "parameter `",
                name,
                "`: expected ",
                expected,
                ", found ",
                &given.value.describe(),
            ]
            .concat()),
        }
    }
}

/// Reads a time with its unit, as [`Params::duration`] does.
pub fn parse_duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATION_UNITS).map(Duration::from_millis)
}

fn with_unit(text: &str, units: &[Unit]) -> Option<u64> {
    units.iter().find_map(|(suffix, scale)| {
        let digits = text.strip_suffix(suffix)?;
        // `parse` alone would also take a leading plus sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(*scale)
    })
}

#[cfg(test)]
mod tests;
