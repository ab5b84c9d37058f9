//! Where each value came from, and errors that say so.
//!
//! A problem names its place (file and line, variable or flag), the path of its key, what was
//! found and what is accepted. Lines are found in the parsed document, never by searching text.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is built in.
    #[default]
    Default,
    /// In the file, at this line, counted from 1.
    File(PathBuf, usize),
    /// In this environment variable.
    Variable(String),
    /// In this flag.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The path of the key, such as `site[0].origin`; empty where the file is no TOML.
    pub key: String,
    /// What was found and what is accepted.
    pub clause: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::Default {
            write!(f, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.clause)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can be read and is wrong. One line a problem.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A value that is sound by itself and turned out not to work on this machine, such as a port in
/// use. Start-up returns it; [`Sources::locate`] adds where the value was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {clause}")]
pub struct Unusable {
    /// The path of the key.
    pub key: String,
    /// What was found, why it does not work, what would.
    pub clause: String,
}

/// Where every value of a configuration was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    places: BTreeMap<String, Place>,
}

impl Sources {
    /// The places of every key and table of the document `text`.
    pub(super) fn of_document(path: &Path, text: &str, document: &DeTable<'_>) -> Self {
        let mut sources = Self::default();
        sources.note_table("", path, text, document);
        sources
    }

    fn note_table(&mut self, parent: &str, path: &Path, text: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let own = if parent.is_empty() {
                name.to_string()
            } else {
                format!("{parent}.{name}")
            };
            self.note(
                &own,
                Place::File(path.to_owned(), line_at(text, key.span().start)),
            );
            self.note_value(&own, path, text, value.get_ref());
        }
    }

    fn note_value(&mut self, own: &str, path: &Path, text: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.note_table(own, path, text, table),
            DeValue::Array(items) => {
                for (position, item) in items.iter().enumerate() {
                    let own = format!("{own}[{position}]");
                    let line = line_at(text, item.span().start);
                    self.note(&own, Place::File(path.to_owned(), line));
                    self.note_value(&own, path, text, item.get_ref());
                }
            }
            _ => {}
        }
    }

    pub(super) fn note(&mut self, key: &str, place: Place) {
        self.places.insert(key.to_owned(), place);
    }

    /// Where the value of `key` was written.
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or_default()
    }

    /// Where `key` was written, or else the nearest table around it.
    pub fn nearest(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = key.get(..end).unwrap_or_default(),
                None => return Place::Default,
            }
        }
    }

    /// The problem `clause` with `key`.
    pub fn problem(&self, key: impl Into<String>, clause: impl Into<String>) -> Problem {
        let key = key.into();
        Problem {
            place: self.nearest(&key),
            key,
            clause: clause.into(),
        }
    }

    /// Adds where the value was written to what start-up found.
    pub fn locate(&self, unusable: &Unusable) -> Problem {
        self.problem(unusable.key.as_str(), unusable.clause.as_str())
    }
}

/// The line, counted from 1, of the byte at `offset`.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.split(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line() {
        let text = "a = 1\n\n[b]\nc = { d = 2 }\n[[e]]\nf = [\n  1,\n  2]\n[[e]]\n";
        let document = DeTable::parse(text).unwrap();
        let sources = Sources::of_document(Path::new("x.toml"), text, document.get_ref());
        for (key, expected) in [
            ("a", "x.toml:1"),
            ("b", "x.toml:3"),
            ("b.c.d", "x.toml:4"),
            ("e[0]", "x.toml:5"),
            ("e[0].f", "x.toml:6"),
            ("e[0].f[1]", "x.toml:8"),
            ("e[1]", "x.toml:9"),
            ("e[1].f", "default"),
            ("q", "default"),
        ] {
            assert_eq!(sources.place(key).to_string(), expected, "{key}");
        }
        assert_eq!(sources.nearest("e[1].f").to_string(), "x.toml:9");
        assert_eq!(sources.nearest("b.x.y").to_string(), "x.toml:3");
        assert_eq!(sources.nearest("q.x"), Place::Default);
    }

    #[test]
    fn lines_are_counted_from_one() {
        for (offset, expected) in [(0, 1), (1, 1), (2, 2), (3, 3), (99, 3)] {
            assert_eq!(line_at("a\n\nb", offset), expected, "{offset}");
        }
    }
}
