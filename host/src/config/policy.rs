//! `[site.policy]`: which policy answers each hook of a site.
//!
//! A choice is a name, or a table with a name, a version and parameters. Only its shape is
//! checked here; whether the policy exists is the registry's to say.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::text::Rejected;

/// The policies of a site, one for each hook.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// Decides which requests share a stored response. Default `native:default`.
    pub keying: PolicyChoice,
    /// Decides how long a response may be answered from the cache. Default `native:rfc9111`.
    pub freshness: PolicyChoice,
    /// Decides what leaves a full memory tier. Default `s3-fifo`.
    pub eviction: PolicyChoice,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            keying: PolicyChoice::named("native:default"),
            freshness: PolicyChoice::named("native:rfc9111"),
            eviction: PolicyChoice::named("s3-fifo"),
        }
    }
}

/// A policy and what it is told at activation.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyChoice {
    /// The name of a native rule (`native:...`), of a shipped policy or of an uploaded one.
    pub name: String,
    /// Twelve hexadecimal digits. `None`: the newest version at activation, then pinned.
    pub version: Option<String>,
    /// Parameters for `configure`.
    pub params: Map<String, Value>,
}

impl PolicyChoice {
    /// `name` in its newest version, without parameters.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: None,
            params: Map::new(),
        }
    }

    /// Whether the host's own rule is meant.
    pub fn is_native(&self) -> bool {
        self.name.starts_with("native:")
    }

    /// Reads `NAME` or `NAME@VERSION`.
    ///
    /// # Errors
    ///
    /// The text has neither shape.
    pub fn parse(text: &str) -> Result<Self, Rejected> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        check_name(name)?;
        if let Some(version) = version {
            check_version(version)?;
        }
        Ok(Self {
            version: version.map(str::to_owned),
            ..Self::named(name)
        })
    }
}

/// `NAME` or `NAME@VERSION`; parameters are left out.
impl fmt::Display for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(version) = &self.version {
            write!(f, "@{version}")?;
        }
        Ok(())
    }
}

/// Whether `name` may name a policy that is not native.
///
/// # Errors
///
/// It may not; the error says what a name looks like.
pub fn check_name(name: &str) -> Result<(), Rejected> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let own = name.strip_prefix("native:").unwrap_or(name);
    let sound = (1..=64).contains(&own.len())
        && own.bytes().next().is_some_and(plain)
        && own
            .bytes()
            .all(|byte| plain(byte) || b"._-".contains(&byte))
        && !own.contains("..");
    if sound {
        return Ok(());
    }
    Err(Rejected::new(
        name,
        "a policy name",
        "write 1 to 64 of the characters a-z, 0-9, \".\", \"_\" and \"-\", a letter or digit first",
    ))
}

fn check_version(version: &str) -> Result<(), Rejected> {
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if version.len() == 12 && version.bytes().all(hexadecimal) {
        return Ok(());
    }
    let accepted = "write the twelve hexadecimal digits that `larder policy list` shows";
    Err(Rejected::new(version, "a policy version", accepted))
}

impl<'de> Deserialize<'de> for PolicyChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ChoiceVisitor)
    }
}

/// The table form, with `version` and `params` as they were written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceTable {
    name: String,
    version: Option<String>,
    #[serde(default)]
    params: toml::Table,
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = PolicyChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy name or { name = \"...\", version = \"...\", params = { ... } }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PolicyChoice, E> {
        PolicyChoice::parse(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PolicyChoice, A::Error> {
        let table = ChoiceTable::deserialize(MapAccessDeserializer::new(map))?;
        let mut choice = PolicyChoice::parse(&table.name).map_err(de::Error::custom)?;
        if let Some(version) = table.version {
            if choice.version.is_some() {
                let clause = "the version is given twice, in `name` and in `version`";
                return Err(de::Error::custom(clause));
            }
            check_version(&version).map_err(de::Error::custom)?;
            choice.version = Some(version);
        }
        for (key, value) in table.params {
            let value = parameter(value)
                .map_err(|reason| de::Error::custom(format!("parameter \"{key}\": {reason}")))?;
            choice.params.insert(key, value);
        }
        Ok(choice)
    }
}

/// Parameters reach a policy as JSON, which has no dates and no infinities.
fn parameter(value: toml::Value) -> Result<Value, &'static str> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or("a parameter must be a finite number")?,
        toml::Value::Datetime(_) => return Err("write a date as a string"),
        toml::Value::Array(items) => items
            .into_iter()
            .map(parameter)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| parameter(value).map(|value| (key, value)))
            .collect::<Result<Map<_, _>, _>>()?
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policies(text: &str) -> Result<Policies, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_choice_is_a_name_or_a_table() {
        let text = r#"
            keying = "normalize-query"
            freshness = "ttl@0123456789ab"
            eviction = { name = "mine", version = "ba9876543210", params = { a = [1, 2.5], b = { c = true } } }
        "#;
        let found = policies(text).unwrap();
        assert_eq!(found.keying, PolicyChoice::named("normalize-query"));
        assert_eq!(found.freshness.to_string(), "ttl@0123456789ab");
        assert_eq!(found.eviction.to_string(), "mine@ba9876543210");
        assert_eq!(
            Value::Object(found.eviction.params),
            json!({ "a": [1, 2.5], "b": { "c": true } })
        );
    }

    #[test]
    fn a_misshapen_choice_is_refused() {
        let check = |text: &str, expected: &str| assert_eq!(policies(text).unwrap_err(), expected);
        let name = "write 1 to 64 of the characters a-z, 0-9, \".\", \"_\" and \"-\", \
                    a letter or digit first";
        check(
            "keying = \"\"",
            &format!("\"\" is not a policy name; {name}"),
        );
        check(
            "keying = \"../x\"",
            &format!("\"../x\" is not a policy name; {name}"),
        );
        check(
            "keying = \"a..b\"",
            &format!("\"a..b\" is not a policy name; {name}"),
        );
        check(
            "keying = \"Upper\"",
            &format!("\"Upper\" is not a policy name; {name}"),
        );
        check(
            "keying = \"a@12\"",
            "\"12\" is not a policy version; write the twelve hexadecimal digits that \
             `larder policy list` shows",
        );
        check(
            "keying = { name = \"a@0123456789ab\", version = \"0123456789ab\" }",
            "the version is given twice, in `name` and in `version`",
        );
        check(
            "keying = { name = \"a\", params = { when = 1979-05-27 } }",
            "parameter \"when\": write a date as a string",
        );
        check(
            "keying = { name = \"a\", params = { x = [inf] } }",
            "parameter \"x\": a parameter must be a finite number",
        );
        check(
            "keying = 3",
            "invalid type: integer `3`, expected a policy name or { name = \"...\", \
             version = \"...\", params = { ... } }",
        );
    }
}
