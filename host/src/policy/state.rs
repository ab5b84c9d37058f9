//! What operators activated, kept across restarts, and how it meets the configuration file.
//!
//! One rule decides: an activation overrides the file until the file's own value for that hook
//! changes. Each record therefore keeps what the file said when it was made. The rules are pure
//! functions over a [`Table`]; [`Activations`] adds the file, which is written whole before a
//! change counts. A damaged file is set aside and the configuration applies.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::durable::{self, FileError};
use super::hook::Hook;

/// The layout of the file. A newer layout is set aside like a damaged file.
const FORMAT: u32 = 1;

/// Changes of one site that can be rolled back.
const HISTORY: usize = 16;

/// Bytes of the file; parameters are small.
const FILE_BYTES: u64 = 64 << 20;

/// A policy at a hook, as an operator chose it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `NAME@VERSION`, or `native:...`.
    pub policy: String,
    /// The parameters it is configured with.
    pub params: Map<String, Value>,
    /// What the configuration file said for this hook at the time.
    pub file_value: Value,
}

/// Which of the two decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effective<'a> {
    /// The configuration file.
    FromFile,
    /// An activation.
    FromState(&'a Record),
}

/// What decides at a hook for which the file says `file_value` now.
pub fn effective<'a>(file_value: &Value, record: Option<&'a Record>) -> Effective<'a> {
    match record {
        Some(record) if record.file_value == *file_value => Effective::FromState(record),
        _ => Effective::FromFile,
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The hook that changed.
    pub hook: Hook,
    /// Counts every change of every site.
    pub generation: u64,
    /// What decides now; none is the configuration file.
    pub active: Option<Record>,
    /// What decided before; none is the configuration file.
    pub previous: Option<Record>,
}

/// Every activation of every site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    generation: u64,
    sites: BTreeMap<String, Site>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Site {
    records: BTreeMap<Hook, Record>,
    /// Oldest first.
    history: Vec<Past>,
}

/// What a change replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Past {
    hook: Hook,
    /// None: the configuration file decided.
    before: Option<Record>,
}

impl Table {
    /// Counts every change of every site.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The record of a hook, in effect or not; see [`effective`].
    pub fn record(&self, site: &str, hook: Hook) -> Option<&Record> {
        self.sites.get(site)?.records.get(&hook)
    }

    /// Whether `policy` is the record of any hook, in effect or not. Histories do not count, so a
    /// version that is only there can be deleted, and a rollback to it is then refused.
    pub fn is_recorded(&self, policy: &str) -> bool {
        let mut records = self.sites.values().flat_map(|site| site.records.values());
        records.any(|record| record.policy == policy)
    }

    /// Puts `record` in effect. Its `file_value` must be what the file says now.
    pub fn activate(&mut self, site: &str, hook: Hook, record: Record) -> Change {
        let generation = self.next_generation();
        let site = self.sites.entry(site.to_owned()).or_default();
        let previous = site.in_effect(hook, &record.file_value);
        if site.history.len() >= HISTORY {
            site.history.remove(0);
        }
        site.history.push(Past {
            hook,
            before: previous.clone(),
        });
        site.records.insert(hook, record.clone());
        Change {
            hook,
            generation,
            active: Some(record),
            previous,
        }
    }

    /// Takes back the most recent change of a site, or of one of its hooks. `file_value` answers
    /// what the file says now. Where the file has overridden an activation since, that activation
    /// is what was there before, and comes back.
    ///
    /// # Errors
    /// There is no change to take back.
    pub fn roll_back(
        &mut self,
        site: &str,
        hook: Option<Hook>,
        file_value: impl Fn(Hook) -> Value,
    ) -> Result<Change, NothingToRollBack> {
        let nothing = || NothingToRollBack {
            site: site.to_owned(),
            hook,
        };
        let held = self.sites.get_mut(site).ok_or_else(nothing)?;
        let matches = |past: &Past| hook.is_none_or(|hook| hook == past.hook);
        let position = held.history.iter().rposition(matches);
        let hook = position
            .and_then(|position| held.history.get(position))
            .map(|past| past.hook);
        let (Some(position), Some(hook)) = (position, hook) else {
            return Err(nothing());
        };
        let now = file_value(hook);
        let previous = held.in_effect(hook, &now);
        let overridden = previous
            .is_none()
            .then(|| held.records.get(&hook).cloned())
            .flatten();
        let restored = match overridden {
            Some(record) => Some(record),
            None => held.history.remove(position).before,
        };
        let active = restored.map(|record| Record {
            file_value: now,
            ..record
        });
        match &active {
            Some(record) => held.records.insert(hook, record.clone()),
            None => held.records.remove(&hook),
        };
        let generation = self.next_generation();
        Ok(Change {
            hook,
            generation,
            active,
            previous,
        })
    }

    fn next_generation(&mut self) -> u64 {
        self.generation = self.generation.saturating_add(1);
        self.generation
    }
}

impl Site {
    fn in_effect(&self, hook: Hook, file_value: &Value) -> Option<Record> {
        match effective(file_value, self.records.get(&hook)) {
            Effective::FromState(record) => Some(record.clone()),
            Effective::FromFile => None,
        }
    }
}

/// No activation of the site, or of its hook, is left to take back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "site {site:?} has no {}activation to roll back",
    hook.map(|hook| format!("{hook} ")).unwrap_or_default()
)]
pub struct NothingToRollBack {
    /// The site.
    pub site: String,
    /// The hook, if one was named.
    pub hook: Option<Hook>,
}

/// Why a change was not kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It could not be made durable; everything is as it was.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another change came first; take the table again.
    #[error("another change of the active policies came first")]
    Outdated,
}

/// The table and the file behind it.
#[derive(Debug)]
pub struct Activations {
    path: Option<PathBuf>,
    table: Mutex<Table>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format: u32,
    table: T,
}

impl Activations {
    /// The activations in `data_dir` (`state/activations.json`), or in memory only.
    ///
    /// # Errors
    /// The file is there and cannot be read, or a damaged one cannot be set aside.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, FileError> {
        let Some(data_dir) = data_dir else {
            return Ok(Self {
                path: None,
                table: Mutex::default(),
            });
        };
        let dir = data_dir.join("state");
        durable::create_dir(&dir).map_err(FileError::at("create", &dir))?;
        let path = dir.join("activations.json");
        let table = match durable::read(&path, FILE_BYTES) {
            Ok(json) => match parse(&json) {
                Ok(table) => table,
                Err(reason) => set_aside(&path, &reason)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Table::default(),
            Err(error) => return Err(FileError::at("read", &path)(error)),
        };
        Ok(Self {
            path: Some(path),
            table: Mutex::new(table),
        })
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the table, to read or to change and [`commit`](Self::commit).
    pub fn table(&self) -> Table {
        self.locked().clone()
    }

    /// Makes `table`, which is one change ahead, the durable one.
    ///
    /// # Errors
    /// Another change came first, or the file could not be written.
    pub fn commit(&self, table: Table) -> Result<(), StateError> {
        let mut current = self.locked();
        if table.generation != current.generation.saturating_add(1) {
            return Err(StateError::Outdated);
        }
        if let Some(path) = &self.path {
            let json = serde_json::to_vec_pretty(&Stored {
                format: FORMAT,
                table: &table,
            });
            let written = json
                .map_err(io::Error::other)
                .and_then(|json| durable::replace(path, &json));
            written.map_err(FileError::at("write", path))?;
        }
        *current = table;
        Ok(())
    }
}

fn parse(json: &[u8]) -> Result<Table, String> {
    let stored: Stored<Value> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        return Err(format!(
            "it has format {}; this Larder knows format {FORMAT}",
            stored.format
        ));
    }
    serde_json::from_value(stored.table).map_err(|error| error.to_string())
}

fn set_aside(path: &Path, reason: &str) -> Result<Table, FileError> {
    let aside = path.with_extension("json.corrupt");
    fs::rename(path, &aside).map_err(FileError::at("set aside", path))?;
    let (path, aside) = (path.display(), aside.display());
    tracing::warn!(%path, %aside, reason, "activations were unusable; the configuration file applies");
    Ok(Table::default())
}

#[cfg(test)]
mod tests;
