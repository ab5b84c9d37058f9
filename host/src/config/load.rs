//! Builds a configuration: flags over environment over file over defaults.
//!
//! Reads one file and nothing else of the machine: the environment comes in as a value, so that
//! a test and a reload decide what it holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::settings::is_variable;
use super::source::{ConfigError, Place, Problem, Sources, line_at};
use super::{Config, Key, Origin, Site, rules};

/// The environment, or what a test puts in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl Variables {
    /// The variables of this process whose names start with `LARDER_`.
    pub fn of_process() -> Self {
        let text = |raw: std::ffi::OsString| raw.to_string_lossy().into_owned();
        let own = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| name.starts_with("LARDER_"));
        Self(own.collect())
    }

    /// The value of `name`; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Names that mean nothing to Larder, such as misspelt ones.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .map(String::as_str)
            .filter(|name| !is_variable(name))
    }
}

/// What a configuration is made of. A reload makes it again from the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Variables,
    /// Flags that stand for keys: the flag, the path of the key, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// The flag `--origin`.
    pub origin: Option<Origin>,
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// Where they were written.
    pub sources: Sources,
}

/// Builds the configuration that `inputs` describe and checks it.
///
/// # Errors
///
/// The file cannot be read, or anything in it, in the environment or in a flag is wrong. All
/// problems that can be told apart are told at once.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let (mut config, mut sources) = match &inputs.file {
        None => (Config::default(), Sources::default()),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            })?;
            parse(path, &text).map_err(|problem| ConfigError::Invalid(vec![problem]))?
        }
    };
    let mut problems = overlay(inputs, &mut config, &mut sources);
    problems.extend(replace_origin(inputs, &mut config, &mut sources));
    if problems.is_empty() {
        problems = rules::settle(&mut config, &sources, inputs.file.as_deref());
    }
    if problems.is_empty() {
        Ok(Loaded { config, sources })
    } else {
        Err(ConfigError::Invalid(problems))
    }
}

/// Reads the text of a file, key by key.
fn parse(path: &Path, text: &str) -> Result<(Config, Sources), Problem> {
    let no_toml = |error: &toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = line_at(text, start);
        let found = text.lines().nth(line - 1).unwrap_or_default().trim();
        let clause = format!("not TOML: {}, in `{found}`", error.message());
        Problem {
            place: Place::File(path.to_owned(), line),
            key: String::new(),
            clause,
        }
    };
    let document = DeTable::parse(text).map_err(|error| no_toml(&error))?;
    let sources = Sources::of_document(path, text, document.get_ref());
    let read = toml::Deserializer::parse(text).map_err(|error| no_toml(&error))?;
    match serde_path_to_error::deserialize(read) {
        Ok(config) => Ok((config, sources)),
        Err(error) => {
            let at = error.path().to_string();
            let (key, clause) = explain(&at, error.inner().message());
            let place = match error.inner().span() {
                Some(span) => Place::File(path.to_owned(), line_at(text, span.start)),
                None => sources.nearest(&key),
            };
            Err(Problem { place, key, clause })
        }
    }
}

/// Turns what the decoder says about `path` into the words of a configuration. Returns the key
/// that the problem is with, and the clause.
fn explain(path: &str, message: &str) -> (String, String) {
    let names = || message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let accepted = names().skip(1).collect::<Vec<_>>().join(", ");
        let clause = format!("unknown key; the keys here are {accepted}");
        return (path.to_owned(), clause);
    }
    if message.starts_with("duplicate field") {
        let name = names().next().unwrap_or_default();
        let clause = format!("{name} and {name}s are one key; write one of them");
        return (format!("{path}.{name}"), clause);
    }
    if message.starts_with("missing field") {
        let key = format!("{path}.{}", names().next().unwrap_or_default());
        return (key, "missing; this key is required".to_owned());
    }
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        let (found, expected) = rest
            .split_once(", expected ")
            .unwrap_or((rest, "another type"));
        let found = match found {
            "map" => "a table".to_owned(),
            "sequence" => "an array".to_owned(),
            scalar => scalar.replace('`', ""),
        };
        let expected = match expected {
            "a sequence" => "an array",
            "path string" => "a path",
            table if table.starts_with("struct ") || table == "a map" => "a table",
            other => other,
        };
        return (path.to_owned(), format!("found {found}; write {expected}"));
    }
    (path.to_owned(), message.to_owned())
}

/// Lays the environment and then the flags over what the file said.
fn overlay(inputs: &Inputs, config: &mut Config, sources: &mut Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut set = |key: Key, place: Place, text: &str| match key.set(config, text) {
        Ok(()) => sources.note(key.path, place),
        Err(rejected) => problems.push(Problem {
            place,
            key: key.path.to_owned(),
            clause: rejected.to_string(),
        }),
    };
    for key in Key::all() {
        let names = key.variables();
        let given = names
            .iter()
            .find_map(|name| Some((name, inputs.variables.get(name)?)));
        if let Some((name, text)) = given {
            set(*key, Place::Variable(name.clone()), text);
        }
    }
    for (flag, path, text) in &inputs.flags {
        if let Some(key) = Key::at(path) {
            set(key, Place::Flag(flag), text);
        }
    }
    problems
}

/// `--origin` or its variable: the origin of the only site, or of one that it creates.
fn replace_origin(inputs: &Inputs, config: &mut Config, sources: &mut Sources) -> Option<Problem> {
    const VARIABLE: &str = "LARDER_ORIGIN";
    let (place, origin) = match (&inputs.origin, inputs.variables.get(VARIABLE)) {
        (Some(origin), _) => (Place::Flag("--origin"), Ok(origin.clone())),
        (None, Some(text)) => (Place::Variable(VARIABLE.to_owned()), text.parse::<Origin>()),
        (None, None) => return None,
    };
    let problem = |clause| Problem {
        place: place.clone(),
        key: "site.origin".to_owned(),
        clause,
    };
    let origin = match origin {
        Ok(origin) => origin,
        Err(rejected) => return Some(problem(rejected.to_string())),
    };
    match config.sites.as_mut_slice() {
        [] => config.sites.push(Site::catch_all(origin)),
        [only] => only.origin = origin.into(),
        several => {
            let count = several.len();
            return Some(problem(format!(
                "it replaces the origin of a single site, and the file has {count}; remove it"
            )));
        }
    }
    sources.note("site[0].origin", place);
    None
}
