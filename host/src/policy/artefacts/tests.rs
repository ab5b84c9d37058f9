//! Artefacts across restarts, damage, other keys, other engines and full disks.

use std::cell::Cell;

use proptest::prelude::*;

use super::super::compile::compile_here;
use super::super::engine::{compile_config, engine};
use super::super::inspect::fixtures::{numbered_policy, policy};
use super::*;

/// A data directory with the artefact of one policy in it.
struct Fixture {
    dir: tempfile::TempDir,
    engine: Engine,
    wasm: Vec<u8>,
    digest: blake3::Hash,
}

impl Fixture {
    fn new() -> Self {
        let engine = Engine::new(&compile_config()).unwrap();
        let (dir, wasm) = (tempfile::tempdir().unwrap(), policy());
        let digest = blake3::hash(&wasm);
        let fixture = Self {
            dir,
            engine,
            wasm,
            digest,
        };
        assert_eq!(fixture.compilations(&fixture.open()), 1);
        fixture
    }

    fn open(&self) -> Artefacts {
        Artefacts::open(Some(self.dir.path()), &self.engine).unwrap()
    }

    /// Asks for the component and answers how often it was compiled.
    fn compilations(&self, artefacts: &Artefacts) -> u32 {
        let count = Cell::new(0);
        let compile = || {
            count.set(count.get() + 1);
            compile_here(&self.engine, &self.wasm)
        };
        artefacts.component(&self.digest, compile).unwrap();
        count.get()
    }

    fn file(&self) -> PathBuf {
        let dir = self.dir.path().join("compiled");
        let names = durable::entries(&dir).unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        dir.join(&names[0])
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("state/artefact.key")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_artefact_survives_a_restart() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    assert_eq!(fixture.compilations(&artefacts), 0);
    let counts = artefacts.counts();
    assert_eq!(
        (
            counts.loaded.get(),
            counts.compiled.get(),
            counts.rejected.get()
        ),
        (1, 0, 0)
    );
    for file in [fixture.file(), fixture.key_file()] {
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }
}

#[test]
fn an_absent_artefact_is_no_damage() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    artefacts.remove(&fixture.digest).unwrap();
    artefacts.remove(&fixture.digest).unwrap();
    assert!(artefacts.load(&fixture.digest).is_none());
    assert_eq!(artefacts.counts().rejected.get(), 0);
    assert_eq!(fixture.compilations(&artefacts), 1);
}

#[test]
fn no_flipped_byte_of_the_header_and_no_cut_loads() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    let sound = fs::read(fixture.file()).unwrap();
    let mut tried = 0;
    let mut check = |bytes: &[u8]| {
        fs::write(fixture.file(), bytes).unwrap();
        assert!(artefacts.load(&fixture.digest).is_none());
        tried += 1;
        assert_eq!(artefacts.counts().rejected.get(), tried);
    };
    for at in 0..MAGIC.len() + HASH_BYTES + 64 {
        for bits in [1, 0x80, 0xff] {
            let mut flipped = sound.clone();
            flipped[at] ^= bits;
            check(&flipped);
        }
    }
    for length in (0..100).chain([sound.len() / 2, sound.len() - 1]) {
        check(&sound[..length]);
    }
    check(&[sound.as_slice(), b"\0"].concat());
    // Anyone can write an unkeyed hash.
    let code = &sound[MAGIC.len() + HASH_BYTES..];
    check(&[MAGIC.as_slice(), blake3::hash(code).as_bytes(), code].concat());
    fs::write(fixture.file(), &sound).unwrap();
    assert!(artefacts.load(&fixture.digest).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_flipped_byte_of_the_body_loads(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 32)
    ) {
        let fixture = Fixture::new();
        let artefacts = fixture.open();
        let sound = fs::read(fixture.file()).unwrap();
        for (at, bits) in flips {
            let mut flipped = sound.clone();
            let at = at.index(flipped.len());
            flipped[at] ^= bits;
            fs::write(fixture.file(), &flipped).unwrap();
            prop_assert!(artefacts.load(&fixture.digest).is_none());
        }
    }
}

#[test]
fn a_damaged_artefact_is_compiled_again_and_replaced() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    fs::write(fixture.file(), b"LARDERC").unwrap();
    assert_eq!(fixture.compilations(&artefacts), 1);
    assert_eq!(fixture.compilations(&artefacts), 0);
}

#[test]
fn the_artefact_of_another_policy_does_not_load() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    let other = numbered_policy(1);
    let digest = blake3::hash(&other);
    artefacts
        .component(&digest, || compile_here(&fixture.engine, &other))
        .unwrap();
    let dir = fixture.dir.path().join("compiled");
    let from = artefacts.path(&dir, &digest);
    fs::copy(from, artefacts.path(&dir, &fixture.digest)).unwrap();
    assert!(artefacts.load(&fixture.digest).is_none());
    assert!(artefacts.load(&digest).is_some());
}

#[test]
fn a_key_that_is_lost_damaged_or_readable_by_others_is_replaced() {
    let share = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let spoil: [&dyn Fn(&Path); 3] = [
        &|path| fs::remove_file(path).unwrap(),
        &|path| fs::write(path, [7; HASH_BYTES - 1]).unwrap(),
        &share,
    ];
    for spoil in spoil {
        let fixture = Fixture::new();
        let before = fs::read(fixture.key_file()).unwrap();
        spoil(&fixture.key_file());
        let artefacts = fixture.open();
        let after = fs::read(fixture.key_file()).unwrap();
        assert!(before != after && after.len() == HASH_BYTES);
        assert_eq!(mode(&fixture.key_file()), 0o600);
        assert_eq!(fixture.compilations(&artefacts), 1);
        assert_eq!(fixture.compilations(&fixture.open()), 0);
    }
}

#[test]
fn artefacts_of_another_engine_are_removed_and_other_files_stay() {
    let mut fixture = Fixture::new();
    let file = fixture.file();
    let notes = file.with_file_name("notes.txt");
    fs::write(&notes, b"mine").unwrap();
    let mut config = compile_config();
    config.epoch_interruption(false);
    fixture.engine = Engine::new(&config).unwrap();
    let artefacts = fixture.open();
    assert!(!file.exists() && notes.exists());
    assert_eq!(fixture.compilations(&artefacts), 1);
}

#[test]
fn a_seal_holds_for_one_engine() {
    let fixture = Fixture::new();
    let sealed = fs::read(fixture.file()).unwrap();
    let mut artefacts = fixture.open();
    assert!(artefacts.unseal(&fixture.digest, &sealed).is_some());
    artefacts.compatibility = blake3::hash(b"another engine");
    assert!(artefacts.unseal(&fixture.digest, &sealed).is_none());
}

#[test]
fn a_disk_that_takes_nothing_costs_a_compilation_and_no_policy() {
    let fixture = Fixture::new();
    let file = fixture.file();
    fs::remove_file(&file).unwrap();
    // A directory in the way can be neither read nor replaced, even by root.
    fs::create_dir(&file).unwrap();
    let artefacts = fixture.open();
    assert_eq!(fixture.compilations(&artefacts), 1);
    let counts = artefacts.counts();
    assert_eq!((counts.rejected.get(), counts.write_failures.get()), (1, 1));
}

#[test]
fn without_a_directory_artefacts_live_in_memory() {
    let fixture = Fixture::new();
    let artefacts = Artefacts::open(None, &fixture.engine).unwrap();
    assert_eq!(fixture.compilations(&artefacts), 1);
    assert_eq!(fixture.compilations(&artefacts), 0);
    artefacts.remove(&fixture.digest).unwrap();
    assert_eq!(fixture.compilations(&artefacts), 1);
}

#[test]
fn a_refused_compilation_leaves_nothing() {
    let fixture = Fixture::new();
    let artefacts = fixture.open();
    let digest = blake3::hash(b"other");
    let refusal = artefacts.component(&digest, || compile_here(&fixture.engine, b"other"));
    assert_eq!(refusal.unwrap_err().code, "invalid_component");
    assert!(artefacts.load(&digest).is_none());
    assert_eq!(
        fixture.file(),
        artefacts.path(&fixture.dir.path().join("compiled"), &fixture.digest)
    );
}

/// The child compiles with an engine of its own, which allocates in another way.
#[test]
fn the_pooling_engine_loads_what_the_compiling_engine_made() {
    let fixture = Fixture::new();
    let pooling = engine().unwrap();
    assert_eq!(compatibility(&pooling), compatibility(&fixture.engine));
    let artefacts = Artefacts::open(Some(fixture.dir.path()), &pooling).unwrap();
    assert_eq!(fixture.compilations(&artefacts), 0);
}
