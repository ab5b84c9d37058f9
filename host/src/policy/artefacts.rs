//! Compiled policies kept across restarts, and the one place that turns bytes into running code.
//!
//! Loading machine code from a file is as dangerous as the file, and wasmtime does not check it.
//! So each artefact carries a keyed hash over the identity of the engine, the digest of the
//! component and the code. It is verified on every load, over the same bytes in memory that are
//! then loaded. The key is made at the first start and readable by the owner only.
//! What does not verify is reported, counted and compiled again; it is never an error of a request.
//!
//! Without a data directory, artefacts live in memory in the same sealed form.

use std::collections::HashMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile::Compiled;
use super::durable::{self, FileError};
use super::refusal::{Refusal, RefusalKind};
use super::registry::Version;
use crate::metrics::Counter;

/// First bytes of a sealed artefact; the last one is the version of the layout.
const MAGIC: &[u8; 8] = b"LARDERC\x01";

/// Ends the name of every artefact.
const EXTENSION: &str = "cwasm";

/// Bytes of the key and of a keyed hash.
const HASH_BYTES: usize = blake3::OUT_LEN;

/// Bytes of a sealed artefact; the compiler's own limit is lower.
const FILE_BYTES: u64 = 80 << 20;

/// Bytes of artefacts kept in memory when there is no data directory.
const MEMORY_BYTES: usize = 64 << 20;

/// What happened to artefacts so far.
#[derive(Debug, Default)]
pub struct ArtefactCounts {
    /// Loaded without compiling.
    pub loaded: Counter,
    /// Present, and refused because it did not verify or did not load.
    pub rejected: Counter,
    /// Compiled, because there was none that could be loaded.
    pub compiled: Counter,
    /// Compiled and not kept, because it could not be written.
    pub write_failures: Counter,
}

/// Compiled artefacts of one engine.
#[derive(Debug)]
pub struct Artefacts {
    engine: Engine,
    /// Stands for wasmtime's version, the settings and the CPU features that code was compiled for.
    compatibility: blake3::Hash,
    key: Key,
    place: Place,
    counts: ArtefactCounts,
}

/// Never shown.
struct Key([u8; HASH_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Memory(Mutex<HashMap<blake3::Hash, Arc<[u8]>>>),
}

impl Artefacts {
    /// The artefacts under `data_dir` (`compiled/`, with the key in `state/`), or in memory.
    /// Artefacts of other engines can never be loaded again and are removed.
    ///
    /// # Errors
    /// A directory or the key cannot be made, or not be read.
    pub fn open(data_dir: Option<&Path>, engine: &Engine) -> Result<Self, FileError> {
        let compatibility = compatibility(engine);
        let (key, place) = match data_dir {
            None => (random_key()?, Place::Memory(Mutex::default())),
            Some(data_dir) => {
                let state = data_dir.join("state");
                durable::create_dir(&state).map_err(FileError::at("create", &state))?;
                let key = open_key(&state.join("artefact.key"))?;
                let compiled = data_dir.join("compiled");
                durable::create_dir(&compiled).map_err(FileError::at("create", &compiled))?;
                remove_foreign(&compiled, &suffix(&compatibility))?;
                (key, Place::Directory(compiled))
            }
        };
        let counts = ArtefactCounts::default();
        Ok(Self {
            engine: engine.clone(),
            compatibility,
            key,
            place,
            counts,
        })
    }

    /// What happened so far.
    pub const fn counts(&self) -> &ArtefactCounts {
        &self.counts
    }

    /// The component whose bytes have the digest `wasm`: from its artefact if there is a sound one,
    /// else from what `compile` answers, which is then kept.
    ///
    /// # Errors
    /// What `compile` refused, or code of our own compiler that cannot be loaded.
    pub fn component(
        &self,
        wasm: &blake3::Hash,
        compile: impl FnOnce() -> Result<Compiled, Refusal>,
    ) -> Result<Component, Refusal> {
        if let Some(component) = self.load(wasm) {
            return Ok(component);
        }
        let compiled = compile()?;
        self.counts.compiled.increment();
        if let Err(error) = self.keep(wasm, &compiled) {
            self.counts.write_failures.increment();
            tracing::warn!(policy = %Version::of_digest(wasm), error = %error.source, "{error}");
        }
        self.deserialize(Trusted(compiled.as_bytes()))
            .map_err(|error| {
                let message = format!("the compiled policy cannot be loaded: {error:#}");
                Refusal::new(
                    RefusalKind::Host,
                    "artefact_unusable",
                    message,
                    "see the server's log",
                )
            })
    }

    /// The component whose bytes have the digest `wasm`, if there is a sound artefact of it.
    pub fn load(&self, wasm: &blake3::Hash) -> Option<Component> {
        let sealed = self.read(wasm)?;
        let reason = match self
            .unseal(wasm, &sealed)
            .map(|code| self.deserialize(code))
        {
            Some(Ok(component)) => {
                self.counts.loaded.increment();
                return Some(component);
            }
            Some(Err(error)) => format!("{error:#}"),
            None => "it was changed, or made with another key".to_owned(),
        };
        self.counts.rejected.increment();
        let policy = Version::of_digest(wasm);
        tracing::warn!(%policy, reason, "a compiled policy is unusable and will be compiled again");
        None
    }

    /// Drops the artefact of the component whose bytes have the digest `wasm`, if there is one.
    ///
    /// # Errors
    /// The file is still there.
    pub fn remove(&self, wasm: &blake3::Hash) -> Result<(), FileError> {
        match &self.place {
            Place::Memory(kept) => {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(wasm);
                Ok(())
            }
            Place::Directory(dir) => {
                let path = self.path(dir, wasm);
                durable::remove(&path).map_err(FileError::at("remove", &path))
            }
        }
    }

    fn path(&self, dir: &Path, wasm: &blake3::Hash) -> PathBuf {
        dir.join(format!(
            "{}{}",
            Version::of_digest(wasm),
            suffix(&self.compatibility)
        ))
    }

    fn read(&self, wasm: &blake3::Hash) -> Option<Arc<[u8]>> {
        let dir = match &self.place {
            Place::Memory(kept) => {
                return kept
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(wasm)
                    .cloned();
            }
            Place::Directory(dir) => dir,
        };
        let path = self.path(dir, wasm);
        match durable::read(&path, FILE_BYTES) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.counts.rejected.increment();
                tracing::warn!(path = %path.display(), %error, "a compiled policy cannot be read");
                None
            }
        }
    }

    fn keep(&self, wasm: &blake3::Hash, compiled: &Compiled) -> Result<(), FileError> {
        let code = compiled.as_bytes();
        let mut sealed = Vec::with_capacity(MAGIC.len() + HASH_BYTES + code.len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(self.tag(wasm, code).as_bytes());
        sealed.extend_from_slice(code);
        match &self.place {
            Place::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes: usize = kept.values().map(|sealed| sealed.len()).sum();
                // A rare case: forgetting everything costs one compilation each, when next loaded.
                if bytes.saturating_add(sealed.len()) > MEMORY_BYTES {
                    kept.clear();
                }
                kept.insert(*wasm, sealed.into());
                Ok(())
            }
            Place::Directory(dir) => {
                let path = self.path(dir, wasm);
                durable::replace(&path, &sealed).map_err(FileError::at("write", &path))
            }
        }
    }

    /// The keyed hash of an artefact. The two digests have a fixed length, so no other triple gives
    /// the same input.
    fn tag(&self, wasm: &blake3::Hash, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher
            .update(self.compatibility.as_bytes())
            .update(wasm.as_bytes())
            .update(code);
        hasher.finalize()
    }

    fn unseal<'a>(&self, wasm: &blake3::Hash, sealed: &'a [u8]) -> Option<Trusted<'a>> {
        let (tag, code) = sealed.strip_prefix(MAGIC)?.split_at_checked(HASH_BYTES)?;
        let tag = blake3::Hash::from_bytes(tag.try_into().ok()?);
        // The comparison of two hashes takes constant time.
        (self.tag(wasm, code) == tag).then_some(Trusted(code))
    }

    #[expect(
        unsafe_code,
        reason = "loading machine code; the argument's type carries the proof"
    )]
    fn deserialize(&self, code: Trusted<'_>) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are the unmodified output of this program's compiler. A `Trusted` is
        // made in two places: of a `Compiled`, which only the compiler makes, and in `unseal`,
        // after a keyed hash over these very bytes in memory proved that this host sealed them for
        // an engine of the same compatibility hash.
        unsafe { Component::deserialize(&self.engine, code.0) }
    }
}

/// Bytes that came out of this host's compiler.
#[derive(Clone, Copy)]
struct Trusted<'a>(&'a [u8]);

/// Everything that makes code of one engine unusable for another, as one digest.
fn compatibility(engine: &Engine) -> blake3::Hash {
    struct Feed(blake3::Hasher);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let digest = self.0.finalize();
            digest
                .as_bytes()
                .first_chunk()
                .copied()
                .map(u64::from_le_bytes)
                .unwrap_or_default()
        }
    }
    let mut feed = Feed(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize()
}

/// The end of the name of every artefact of one engine.
fn suffix(compatibility: &blake3::Hash) -> String {
    let hex = compatibility.to_hex();
    format!("-{}.{EXTENSION}", hex.get(..16).unwrap_or_default())
}

fn remove_foreign(dir: &Path, suffix: &str) -> Result<(), FileError> {
    for name in durable::entries(dir).map_err(FileError::at("read", dir))? {
        let path = dir.join(&name);
        let is_artefact = path
            .extension()
            .is_some_and(|extension| extension == EXTENSION);
        if is_artefact && !name.ends_with(suffix) {
            durable::remove(&path).map_err(FileError::at("remove", &path))?;
        }
    }
    Ok(())
}

/// Permissions of group and others are the six lowest bits of a file's mode.
const FOREIGN_MODE_BITS: u32 = 6;

/// The key in `path`. One that is missing, damaged or readable by others proves nothing any more
/// and is replaced, which makes every artefact be compiled again.
fn open_key(path: &Path) -> Result<Key, FileError> {
    let read = durable::read(path, 1 << 10);
    let reason = match (read, fs::metadata(path)) {
        (Ok(bytes), Ok(metadata)) => match bytes.try_into() {
            Ok(key) if metadata.permissions().mode().trailing_zeros() >= FOREIGN_MODE_BITS => {
                return Ok(Key(key));
            }
            Ok(_) => Some("others may read it"),
            Err(_) => Some("it has the wrong length"),
        },
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => None,
        (Err(error), _) | (_, Err(error)) => return Err(FileError::at("read", path)(error)),
    };
    if let Some(reason) = reason {
        let path = path.display();
        tracing::warn!(%path, reason, "the key of the compiled policies is replaced");
    }
    let key = random_key()?;
    durable::replace(path, &key.0).map_err(FileError::at("write", path))?;
    Ok(key)
}

fn random_key() -> Result<Key, FileError> {
    let source = Path::new("/dev/urandom");
    let mut key = [0; HASH_BYTES];
    let read = fs::File::open(source).and_then(|mut source| source.read_exact(&mut key));
    read.map_err(FileError::at("read", source))?;
    Ok(Key(key))
}

#[cfg(test)]
mod tests;
