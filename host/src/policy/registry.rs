//! Every policy this host knows: those it ships and those that were uploaded.
//!
//! A policy is known by its name and the digest of its bytes, so a version never changes. An
//! upload is stored only after everything that can be checked was checked, and is on the disk
//! before the answer says so. Bytes are verified against their digest whenever they are handed
//! out: a damaged file is reported and never run.
//!
//! Without a directory, uploads live in memory. All calls may block on the disk.

mod files;
mod identity;
mod uploads;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::identity::{PolicyId, Version, check_name};

use self::files::Description;
use self::uploads::{Upload, Uploads};
use super::durable::FileError;
use super::hook::Hook;
use super::inspect::{self, Limits};
use super::refusal::{Refusal, RefusalKind};
use crate::embedded::Shipped;

/// Where a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Built into this program, and trusted like it.
    Shipped,
    /// Uploaded.
    Uploaded,
}

/// A component whose bytes are those its identity says.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Name and version.
    pub id: PolicyId,
    /// blake3 of the bytes.
    pub digest: blake3::Hash,
    /// The hooks it offers.
    pub hooks: Vec<Hook>,
    /// Where it came from.
    pub source: Source,
    bytes: Cow<'static, [u8]>,
}

impl PolicyFile {
    /// The component.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for PolicyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("PolicyFile");
        fields
            .field("id", &self.id)
            .field("hooks", &self.hooks)
            .field("source", &self.source);
        fields
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// One line of the list of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name and version.
    pub id: PolicyId,
    /// Length of the component.
    pub bytes: u64,
    /// The hooks it offers.
    pub hooks: Vec<Hook>,
    /// Where it came from.
    pub source: Source,
}

/// Whether an upload was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Checked and stored now.
    New,
    /// The same bytes were uploaded under this name before.
    Known,
}

/// An upload that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Name and version.
    pub id: PolicyId,
    /// Length of the component.
    pub bytes: u64,
    /// The hooks it offers.
    pub hooks: Vec<Hook>,
    /// Whether it was news.
    pub arrival: Arrival,
}

/// The policies of this host.
#[derive(Debug)]
pub struct Registry {
    dir: Option<PathBuf>,
    limits: Limits,
    shipped: Vec<Arc<PolicyFile>>,
    uploads: Mutex<Uploads>,
}

impl Registry {
    /// The shipped policies and the uploads in `dir`, which is made if needed. What a crash left
    /// behind is cleaned up.
    ///
    /// # Errors
    /// The directory cannot be read or written, or a shipped policy is not a policy.
    pub fn open(
        dir: Option<PathBuf>,
        shipped: &'static [Shipped],
        limits: Limits,
    ) -> Result<Self, Refusal> {
        let shipped = shipped.iter().map(shipped_file).collect::<Result<_, _>>()?;
        let mut uploads = Uploads::default();
        if let Some(dir) = &dir {
            for (id, description) in files::scan(dir, &limits)? {
                uploads.insert(
                    &id,
                    Upload {
                        description,
                        file: None,
                    },
                );
            }
        }
        Ok(Self {
            dir,
            limits,
            shipped,
            uploads: Mutex::new(uploads),
        })
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts `wasm` as a version of `name`. It is inspected and given to `vet` with the hooks it
    /// offers, and stored only if that succeeds. Bytes known under this name are not vetted again;
    /// they become the newest version. The lock is not held while `vet` runs.
    ///
    /// # Errors
    /// The name is not allowed, the component is refused, there is no room, or it cannot be stored.
    pub fn push(
        &self,
        name: &str,
        wasm: &[u8],
        vet: impl FnOnce(&[u8], &[Hook]) -> Result<(), Refusal>,
    ) -> Result<Pushed, Refusal> {
        let digest = blake3::hash(wasm);
        let id = PolicyId::new(name, Version::of_digest(&digest))?;
        if self.shipped.iter().any(|file| file.id.name() == name) {
            let message = format!("{name:?} is the name of a policy that comes with Larder");
            return Err(Refusal::new(
                RefusalKind::Malformed,
                "bad_name",
                message,
                "choose another name",
            ));
        }
        let bytes = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
        if let Some(hooks) = self.renew(&id, &digest)? {
            return Ok(Pushed {
                id,
                bytes,
                hooks,
                arrival: Arrival::Known,
            });
        }
        let hooks = inspect::inspect(wasm, &self.limits)?;
        self.uploads().check_room(&id, bytes)?;
        vet(wasm, &hooks)?;
        let mut uploads = self.uploads();
        // Others may have come while the lock was free.
        uploads.check_room(&id, bytes)?;
        let sequence = uploads.sequence.saturating_add(1);
        let digest_text = digest.to_hex().to_string();
        let description = Description {
            digest: digest_text,
            bytes,
            hooks: hooks.clone(),
            sequence,
        };
        let file = match &self.dir {
            Some(dir) => {
                files::write(dir, &id, wasm, &description)?;
                None
            }
            None => Some(Arc::new(PolicyFile {
                id: id.clone(),
                digest,
                hooks: hooks.clone(),
                source: Source::Uploaded,
                bytes: Cow::Owned(wasm.to_owned()),
            })),
        };
        uploads.insert(&id, Upload { description, file });
        Ok(Pushed {
            id,
            bytes,
            hooks,
            arrival: Arrival::New,
        })
    }

    /// Makes a known version the newest of its name and answers its hooks. None if it is not known,
    /// or its stored bytes are damaged, so that the upload repairs them.
    fn renew(&self, id: &PolicyId, digest: &blake3::Hash) -> Result<Option<Vec<Hook>>, Refusal> {
        let mut uploads = self.uploads();
        let Some(held) = uploads.get(id) else {
            return Ok(None);
        };
        if !held.description.is_of(digest) {
            let message = format!("another component already has the version {id}");
            let hint = "change the component in any way and build it again";
            return Err(Refusal::unacceptable("version_collision", message, hint));
        }
        let mut held = held.clone();
        if let Some(dir) = &self.dir
            && files::read(dir, id, &held.description).is_err()
        {
            return Ok(None);
        }
        let hooks = held.description.hooks.clone();
        if held.description.sequence < uploads.sequence {
            held.description.sequence = uploads.sequence.saturating_add(1);
            if let Some(dir) = &self.dir {
                files::describe(dir, id, &held.description)?;
            }
            uploads.insert(id, held);
        }
        Ok(Some(hooks))
    }

    /// The component of a policy, verified.
    ///
    /// # Errors
    /// There is no such policy, or its file is damaged or cannot be read.
    pub fn get(&self, id: &PolicyId) -> Result<Arc<PolicyFile>, Refusal> {
        if let Some(file) = self.shipped.iter().find(|file| file.id == *id) {
            return Ok(Arc::clone(file));
        }
        // Reading under the lock keeps a deletion from coming in between.
        let uploads = self.uploads();
        let held = uploads
            .get(id)
            .ok_or_else(|| self.unknown(id.name(), Some(id.version()), &uploads))?;
        let dir = match (&held.file, &self.dir) {
            (Some(file), _) => return Ok(Arc::clone(file)),
            (None, Some(dir)) => dir,
            (None, None) => return Err(self.unknown(id.name(), Some(id.version()), &uploads)),
        };
        let bytes = files::read(dir, id, &held.description).map_err(damaged)?;
        Ok(Arc::new(PolicyFile {
            id: id.clone(),
            digest: blake3::hash(&bytes),
            hooks: held.description.hooks.clone(),
            source: Source::Uploaded,
            bytes: Cow::Owned(bytes),
        }))
    }

    /// The policy that `NAME` (its newest version) or `NAME@VERSION` stands for.
    ///
    /// # Errors
    /// The text is not of that form, or there is no such policy.
    pub fn resolve(&self, text: &str) -> Result<PolicyId, Refusal> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse::<Version>()?)),
            None => (text, None),
        };
        check_name(name)?;
        let uploads = self.uploads();
        let shipped = self
            .shipped
            .iter()
            .map(|file| &file.id)
            .filter(|id| id.name() == name);
        let uploaded = uploads.by_name.get(name);
        let found = match version {
            // A name that a later Larder ships is its own, but pinned uploads stay what they were.
            None => shipped
                .map(PolicyId::version)
                .next()
                .or_else(|| uploads.newest(name)),
            Some(version) => shipped
                .map(PolicyId::version)
                .chain(uploaded.into_iter().flat_map(BTreeMap::keys).copied())
                .find(|known| *known == version),
        };
        match found {
            Some(version) => PolicyId::new(name, version),
            None => Err(self.unknown(name, version, &uploads)),
        }
    }

    /// Every policy: by name, shipped ones first, then the newest first.
    pub fn list(&self) -> Vec<Listed> {
        let shipped = self.shipped.iter().map(|file| {
            let bytes = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
            let line = Listed {
                id: file.id.clone(),
                bytes,
                hooks: file.hooks.clone(),
                source: file.source,
            };
            (u64::MAX, line)
        });
        let uploads = self.uploads();
        let uploaded = uploads.by_name.iter().flat_map(|(name, versions)| {
            versions
                .iter()
                .filter_map(move |(version, Upload { description, .. })| {
                    let id = PolicyId::new(name, *version).ok()?;
                    let (bytes, hooks) = (description.bytes, description.hooks.clone());
                    Some((
                        description.sequence,
                        Listed {
                            id,
                            bytes,
                            hooks,
                            source: Source::Uploaded,
                        },
                    ))
                })
        });
        let mut lines: Vec<_> = shipped.chain(uploaded).collect();
        lines.sort_by(|(a_sequence, a), (b_sequence, b)| {
            a.id.name()
                .cmp(b.id.name())
                .then(b_sequence.cmp(a_sequence))
                .then(a.id.cmp(&b.id))
        });
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Deletes a version that is not in use. `in_use` is asked under the lock and must not call
    /// the registry.
    ///
    /// # Errors
    /// There is no such upload, it is in use, or its files cannot be removed.
    pub fn delete(
        &self,
        id: &PolicyId,
        in_use: impl FnOnce(&PolicyId) -> bool,
    ) -> Result<(), Refusal> {
        if self.shipped.iter().any(|file| file.id == *id) {
            let message = format!("{id} comes with Larder and cannot be deleted");
            return Err(Refusal::unacceptable(
                "shipped",
                message,
                "only uploads can be deleted",
            ));
        }
        let mut uploads = self.uploads();
        if uploads.get(id).is_none() {
            return Err(self.unknown(id.name(), Some(id.version()), &uploads));
        }
        if in_use(id) {
            let message = format!("{id} is in use");
            let hint = "activate another policy in its place first";
            return Err(Refusal::new(RefusalKind::InUse, "in_use", message, hint));
        }
        if let Some(dir) = &self.dir {
            files::remove(dir, id)?;
        }
        uploads.remove(id);
        Ok(())
    }

    fn unknown(&self, name: &str, version: Option<Version>, uploads: &Uploads) -> Refusal {
        let versions = uploads
            .by_name
            .get(name)
            .map(|versions| versions.keys().copied())
            .into_iter()
            .flatten();
        let shipped = self.shipped.iter().filter(|file| file.id.name() == name);
        let versions: Vec<_> = shipped
            .map(|file| file.id.version())
            .chain(versions)
            .collect();
        let (code, message, known) = match version {
            Some(version) if !versions.is_empty() => {
                let known: Vec<_> = versions.iter().map(Version::to_string).collect();
                (
                    "unknown_version",
                    format!("there is no version {version} of {name}"),
                    known,
                )
            }
            _ => {
                let shipped = self.shipped.iter().map(|file| file.id.name());
                let names = shipped.chain(uploads.by_name.keys().map(String::as_str));
                let known: Vec<_> = names.map(str::to_owned).collect();
                (
                    "unknown_policy",
                    format!("there is no policy {name:?}"),
                    known,
                )
            }
        };
        let hint = match known.as_slice() {
            [] => "upload one with `larder policy push`".to_owned(),
            known => {
                let first: Vec<_> = known.iter().take(12).map(String::as_str).collect();
                format!(
                    "known: {}{}",
                    first.join(", "),
                    if known.len() > 12 { ", ..." } else { "" }
                )
            }
        };
        Refusal::new(RefusalKind::NotFound, code, message, hint)
    }
}

fn shipped_file(shipped: &Shipped) -> Result<Arc<PolicyFile>, Refusal> {
    let digest = blake3::hash(shipped.wasm);
    Ok(Arc::new(PolicyFile {
        id: PolicyId::new(shipped.name, Version::of_digest(&digest))?,
        digest,
        hooks: inspect::inspect(shipped.wasm, &Limits::default())?,
        source: Source::Shipped,
        bytes: Cow::Borrowed(shipped.wasm),
    }))
}

fn damaged(error: FileError) -> Refusal {
    Refusal {
        code: "damaged_policy",
        hint: "push the policy again".to_owned(),
        ..error.into()
    }
}

#[cfg(test)]
mod tests;
