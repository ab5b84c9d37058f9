//! The directory of uploaded policies: `NAME/VERSION.wasm` beside `NAME/VERSION.json`.
//!
//! The component is written first and removed first. So after a crash a description without its
//! component is what remains of a deletion and is removed; a component without its description
//! had passed every check and is described again, if its bytes have the digest its name says.
//! Nothing here is trusted when it is used: [`read`] verifies the digest every time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::identity::{PolicyId, Version, check_name};
use crate::policy::durable::{self, FileError};
use crate::policy::hook::Hook;
use crate::policy::inspect::{self, Limits};

/// Bytes of a description.
const DESCRIPTION_BYTES: u64 = 4 << 10;

/// Bytes of a component, whatever limit uploads have now.
const COMPONENT_BYTES: u64 = 64 << 20;

/// What is known of a stored component without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// blake3 of the component, in hexadecimal.
    pub(super) digest: String,
    /// Its length.
    pub(super) bytes: u64,
    /// The hooks it offers.
    pub(super) hooks: Vec<Hook>,
    /// The place in the order of uploads; the highest of a name is its newest.
    pub(super) sequence: u64,
}

impl Description {
    pub(super) fn is_of(&self, digest: &blake3::Hash) -> bool {
        blake3::Hash::from_hex(&self.digest).is_ok_and(|own| own == *digest)
    }
}

fn path(root: &Path, id: &PolicyId, extension: &str) -> PathBuf {
    root.join(id.name())
        .join(format!("{}.{extension}", id.version()))
}

/// Stores a component and its description.
pub(super) fn write(
    root: &Path,
    id: &PolicyId,
    wasm: &[u8],
    description: &Description,
) -> Result<(), FileError> {
    let dir = root.join(id.name());
    durable::create_dir(&dir).map_err(FileError::at("create", &dir))?;
    let component = path(root, id, "wasm");
    durable::replace(&component, wasm).map_err(FileError::at("write", &component))?;
    describe(root, id, description)
}

/// Stores a description.
pub(super) fn describe(
    root: &Path,
    id: &PolicyId,
    description: &Description,
) -> Result<(), FileError> {
    let path = path(root, id, "json");
    let json = serde_json::to_vec(description).map_err(io::Error::other);
    json.and_then(|json| durable::replace(&path, &json))
        .map_err(FileError::at("write", &path))
}

/// Reads a component and verifies that it is the one described.
pub(super) fn read(
    root: &Path,
    id: &PolicyId,
    description: &Description,
) -> Result<Vec<u8>, FileError> {
    let path = path(root, id, "wasm");
    let wasm = durable::read(&path, description.bytes).map_err(FileError::at("read", &path))?;
    if description.is_of(&blake3::hash(&wasm)) {
        return Ok(wasm);
    }
    let damaged = io::Error::new(
        io::ErrorKind::InvalidData,
        "its bytes are not those that were uploaded",
    );
    Err(FileError::at("read", &path)(damaged))
}

/// Removes a component and its description, and the directory of the name when it was the last.
pub(super) fn remove(root: &Path, id: &PolicyId) -> Result<(), FileError> {
    for extension in ["wasm", "json"] {
        let path = path(root, id, extension);
        durable::remove(&path).map_err(FileError::at("remove", &path))?;
    }
    // Fails while other versions are there.
    drop(fs::remove_dir(root.join(id.name())));
    Ok(())
}

/// Finds every stored component, and cleans up after a crash.
pub(super) fn scan(
    root: &Path,
    limits: &Limits,
) -> Result<Vec<(PolicyId, Description)>, FileError> {
    durable::create_dir(root).map_err(FileError::at("create", root))?;
    let mut found = Vec::new();
    for name in durable::entries(root).map_err(FileError::at("read", root))? {
        let dir = root.join(&name);
        if check_name(&name).is_err() || !dir.is_dir() {
            tracing::warn!(path = %dir.display(), "ignored: not a policy directory");
            continue;
        }
        for file in durable::entries(&dir).map_err(FileError::at("read", &dir))? {
            let (stem, extension) = file.split_once('.').unwrap_or((&file, ""));
            let id = stem
                .parse::<Version>()
                .and_then(|version| PolicyId::new(&name, version));
            let Ok(id) = id else { continue };
            match extension {
                // One bad file does not keep the others from being served.
                "wasm" => match load(root, id.clone(), limits) {
                    Ok(described) => found.extend(described),
                    Err(error) => {
                        tracing::warn!(policy = %id, reason = %error.source, "ignored: {error}");
                    }
                },
                "json" if !path(root, &id, "wasm").exists() => remove(root, &id)?,
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The description of a stored component, made anew if it is missing or damaged.
fn load(
    root: &Path,
    id: PolicyId,
    limits: &Limits,
) -> Result<Option<(PolicyId, Description)>, FileError> {
    let described = durable::read(&path(root, &id, "json"), DESCRIPTION_BYTES).ok();
    let described = described.and_then(|json| serde_json::from_slice::<Description>(&json).ok());
    let belongs = |digest: &str| {
        blake3::Hash::from_hex(digest)
            .is_ok_and(|digest| Version::of_digest(&digest) == id.version())
    };
    if let Some(description) = described.filter(|description| belongs(&description.digest)) {
        return Ok(Some((id, description)));
    }
    let component = path(root, &id, "wasm");
    let wasm =
        durable::read(&component, COMPONENT_BYTES).map_err(FileError::at("read", &component))?;
    let digest = blake3::hash(&wasm);
    let hooks = match inspect::inspect(&wasm, limits) {
        Ok(hooks) if Version::of_digest(&digest) == id.version() => hooks,
        _ => {
            tracing::warn!(policy = %id, "removed: damaged, and without a description");
            remove(root, &id)?;
            return Ok(None);
        }
    };
    tracing::warn!(policy = %id, "the description was missing or damaged and is written again");
    let bytes = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
    let description = Description {
        digest: digest.to_hex().to_string(),
        bytes,
        hooks,
        sequence: 0,
    };
    describe(root, &id, &description)?;
    Ok(Some((id, description)))
}
