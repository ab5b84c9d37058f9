//! The uploads that are known, in memory, with their order and their bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::Description;
use super::{PolicyFile, PolicyId, Version};
use crate::policy::refusal::Refusal;

/// Versions of one name.
const VERSIONS: usize = 64;

/// Names of uploaded policies.
const NAMES: usize = 256;

/// Bytes of all uploads together. They are in memory where there is no directory.
const TOTAL_BYTES: u64 = 256 << 20;

#[derive(Debug, Default)]
pub(super) struct Uploads {
    pub(super) by_name: BTreeMap<String, BTreeMap<Version, Upload>>,
    /// The highest sequence number given out.
    pub(super) sequence: u64,
    bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) description: Description,
    /// The component itself, where there is no directory.
    pub(super) file: Option<Arc<PolicyFile>>,
}

impl Uploads {
    pub(super) fn get(&self, id: &PolicyId) -> Option<&Upload> {
        self.by_name.get(id.name())?.get(&id.version())
    }

    pub(super) fn insert(&mut self, id: &PolicyId, upload: Upload) {
        self.remove(id);
        self.sequence = self.sequence.max(upload.description.sequence);
        self.bytes = self.bytes.saturating_add(upload.description.bytes);
        self.by_name
            .entry(id.name().to_owned())
            .or_default()
            .insert(id.version(), upload);
    }

    pub(super) fn remove(&mut self, id: &PolicyId) {
        let Some(versions) = self.by_name.get_mut(id.name()) else {
            return;
        };
        if let Some(upload) = versions.remove(&id.version()) {
            self.bytes = self.bytes.saturating_sub(upload.description.bytes);
        }
        if versions.is_empty() {
            self.by_name.remove(id.name());
        }
    }

    pub(super) fn check_room(&self, id: &PolicyId, bytes: u64) -> Result<(), Refusal> {
        let full = |message: String| {
            Err(Refusal::unacceptable(
                "registry_full",
                message,
                "delete versions that are not in use",
            ))
        };
        // Repairing a damaged file takes no new room.
        if self.get(id).is_some() {
            return Ok(());
        }
        match self.by_name.get(id.name()) {
            Some(versions) if versions.len() >= VERSIONS => {
                return full(format!(
                    "{} has {VERSIONS} versions, which is all it may have",
                    id.name()
                ));
            }
            None if self.by_name.len() >= NAMES => {
                return full(format!(
                    "there are {NAMES} names of policies, which is all there may be"
                ));
            }
            _ => {}
        }
        if self.bytes.saturating_add(bytes) > TOTAL_BYTES {
            return full(format!(
                "policies together would exceed {} MiB",
                TOTAL_BYTES >> 20
            ));
        }
        Ok(())
    }

    pub(super) fn newest(&self, name: &str) -> Option<Version> {
        let versions = self.by_name.get(name)?.iter();
        let newest = versions.max_by_key(|(_, upload)| upload.description.sequence);
        newest.map(|(version, _)| *version)
    }
}
