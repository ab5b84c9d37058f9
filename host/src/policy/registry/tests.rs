//! Uploads, restarts, damage, crashes and bounds, with a directory and without.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use super::*;
use crate::policy::inspect::fixtures::{exporting, numbered_policy, policy, wasm};

fn open(dir: &Path) -> Registry {
    Registry::open(Some(dir.to_owned()), shipped(), Limits::default()).unwrap()
}

fn in_memory() -> Registry {
    Registry::open(None, shipped(), Limits::default()).unwrap()
}

/// One shipped policy, `lru`.
fn shipped() -> &'static [Shipped] {
    let wasm: &'static [u8] = exporting(&[Hook::Eviction.interface()], "").leak();
    vec![Shipped { name: "lru", wasm }].leak()
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the type of every vetting function"
)]
fn accept(_: &[u8], _: &[Hook]) -> Result<(), Refusal> {
    Ok(())
}

fn push(registry: &Registry, name: &str, number: u16) -> PolicyId {
    registry
        .push(name, &numbered_policy(number), accept)
        .unwrap()
        .id
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

/// Runs `test` on a registry with a directory and on one without.
fn both(test: impl Fn(&Registry)) {
    let dir = tempfile::tempdir().unwrap();
    test(&open(&dir.path().join("policies")));
    test(&in_memory());
}

#[test]
fn an_upload_is_vetted_once_and_found_by_its_version() {
    both(|registry| {
        let bytes = policy();
        let vetted = Cell::new(0);
        let vet = |seen: &[u8], hooks: &[Hook]| {
            vetted.set(vetted.get() + 1);
            assert_eq!((seen, hooks), (bytes.as_slice(), [Hook::Keying].as_slice()));
            Ok(())
        };
        let first = registry.push("my-keys", &bytes, vet).unwrap();
        let again = registry.push("my-keys", &bytes, vet).unwrap();
        assert_eq!(
            (first.arrival, again.arrival, vetted.get()),
            (Arrival::New, Arrival::Known, 1)
        );
        assert_eq!(
            (&first.id, first.bytes, &first.hooks),
            (&again.id, again.bytes, &again.hooks)
        );
        let version = blake3::hash(&bytes).to_hex()[..12].to_owned();
        assert_eq!(first.id.to_string(), format!("my-keys@{version}"));
        let file = registry.get(&first.id).unwrap();
        assert_eq!(
            (file.bytes(), file.source),
            (bytes.as_slice(), Source::Uploaded)
        );
        assert_eq!(
            (file.digest, &file.hooks),
            (blake3::hash(&bytes), &vec![Hook::Keying])
        );
    });
}

#[test]
fn nothing_of_a_refused_upload_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let no = || Refusal::unacceptable("smoke_call", "it traps", "fix it");
    assert_eq!(registry.push("a", &policy(), |_, _| Err(no())), Err(no()));
    let uninspected = |_: &[u8], _: &[Hook]| -> Result<(), Refusal> { panic!("vetted too early") };
    let wrong_world = wasm("(component)");
    for (name, bytes, status) in [
        ("a", b"GIF89a".as_slice(), 400),
        ("a", &wrong_world, 422),
        ("a", &vec![0; (1 << 20) + 1], 413),
        ("../a", &policy(), 400),
        ("lru", &policy(), 400),
    ] {
        assert_eq!(
            registry
                .push(name, bytes, uninspected)
                .unwrap_err()
                .status(),
            status
        );
    }
    assert_eq!((registry.list().len(), files(dir.path())), (1, 0));
    assert_eq!(open(dir.path()).list().len(), 1);
}

#[test]
fn names_are_safe_as_paths() {
    let long = "a".repeat(65);
    for name in [
        "",
        ".",
        "..",
        "a..b",
        "a/b",
        "/a",
        "A",
        "-a",
        ".a",
        "_a",
        "a b",
        "a\0",
        "ä",
        "a@b",
        "native",
        "native:lru",
        "native-lru",
        &long,
    ] {
        let refusal = check_name(name).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.status()),
            ("bad_name", 400),
            "{name:?}"
        );
        assert!(refusal.message.len() < 300);
    }
    for name in ["a", "0", "a.b", "my_keys-2", "a-native", &long[..64]] {
        assert_eq!(check_name(name), Ok(()), "{name:?}");
    }
}

#[test]
fn versions_are_read_as_they_are_printed() {
    let version = Version::of(b"x");
    assert_eq!(version.to_string().parse(), Ok(version));
    assert_eq!(
        "00ff00ff00ff".parse::<Version>().unwrap().to_string(),
        "00ff00ff00ff"
    );
    let id = PolicyId::new("a", version).unwrap();
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in [
        "",
        "0",
        "00ff00ff00f",
        "00ff00ff00ff0",
        "00FF00FF00FF",
        "+0ff00ff00ff",
        "zzzzzzzzzzzz",
    ] {
        assert_eq!(
            text.parse::<Version>().unwrap_err().code,
            "bad_version",
            "{text:?}"
        );
    }
}

#[test]
fn a_bare_name_is_the_newest_upload() {
    both(|registry| {
        let (first, second) = (push(registry, "keys", 1), push(registry, "keys", 2));
        assert_eq!(registry.resolve("keys"), Ok(second.clone()));
        assert_eq!(registry.resolve(&first.to_string()), Ok(first.clone()));
        push(registry, "keys", 1);
        assert_eq!(registry.resolve("keys"), Ok(first));
        registry
            .delete(&registry.resolve("keys").unwrap(), |_| false)
            .unwrap();
        assert_eq!(registry.resolve("keys"), Ok(second));
        let lru = registry.resolve("lru").unwrap();
        assert_eq!(registry.resolve(&lru.to_string()), Ok(lru.clone()));
        assert_eq!(registry.get(&lru).unwrap().source, Source::Shipped);
    });
}

#[test]
fn what_is_unknown_is_answered_with_what_is_known() {
    both(|registry| {
        let id = push(registry, "keys", 1);
        let check = |text: &str, code: &str, status: u16, hint: &str| {
            let refusal = registry.resolve(text).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.status()),
                (code, status),
                "{refusal:?}"
            );
            assert!(refusal.hint.contains(hint), "{refusal:?}");
        };
        check("kyes", "unknown_policy", 404, "lru, keys");
        check(
            "keys@000000000000",
            "unknown_version",
            404,
            &id.version().to_string(),
        );
        check("keys@", "bad_version", 400, "list");
        check("native:lru", "bad_name", 400, "");
        check("../keys", "bad_name", 400, "");
        let missing = PolicyId::new("keys", "000000000000".parse().unwrap()).unwrap();
        assert_eq!(registry.get(&missing).unwrap_err().status(), 404);
        assert_eq!(
            registry.delete(&missing, |_| false).unwrap_err().status(),
            404
        );
    });
}

#[test]
fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    for (name, number) in [("a", 1), ("b", 2), ("a", 3), ("a", 1), ("c", 4)] {
        push(&registry, name, number);
    }
    let reopened = open(dir.path());
    assert_eq!(reopened.list(), registry.list());
    assert_eq!(reopened.list().len(), 5);
    for text in ["a", "b", "c", "lru"] {
        let id = reopened.resolve(text).unwrap();
        assert_eq!(Ok(&id), registry.resolve(text).as_ref());
        assert_eq!(reopened.get(&id), registry.get(&id));
    }
    // The order goes on where it was.
    let newest = push(&reopened, "a", 9);
    assert_eq!(open(dir.path()).resolve("a"), Ok(newest));
}

#[test]
fn a_damaged_component_is_reported_and_a_new_upload_repairs_it() {
    let dir = tempfile::tempdir().unwrap();
    let id = push(&open(dir.path()), "a", 1);
    let path = dir.path().join(format!("a/{}.wasm", id.version()));
    let sound = fs::read(&path).unwrap();
    for at in [0, sound.len() / 2, sound.len() - 1] {
        let mut flipped = sound.clone();
        flipped[at] ^= 1;
        for damaged in [
            flipped.as_slice(),
            &sound[..at],
            &[sound.as_slice(), b"x"].concat(),
            b"",
        ] {
            fs::write(&path, damaged).unwrap();
            let registry = open(dir.path());
            let refusal = registry.get(&id).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.status()),
                ("damaged_policy", 500),
                "{refusal:?}"
            );
            assert_eq!(registry.resolve("a"), Ok(id.clone()));
        }
    }
    let registry = open(dir.path());
    let pushed = registry.push("a", &numbered_policy(1), accept).unwrap();
    assert_eq!(pushed.arrival, Arrival::New);
    assert_eq!(registry.get(&id).unwrap().bytes(), sound);
}

#[test]
fn what_a_crash_leaves_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path());
    let (id, other) = (push(&registry, "a", 1), push(&registry, "a", 2));
    let sub = dir.path().join("a");
    let file = |id: &PolicyId, extension: &str| sub.join(format!("{}.{extension}", id.version()));
    // In the middle of an upload: a temporary file, or a component without a description.
    fs::write(sub.join(".writing-x.wasm"), b"\0asm").unwrap();
    fs::remove_file(file(&id, "json")).unwrap();
    // A description damaged later.
    fs::write(file(&other, "json"), b"{\"digest\":").unwrap();
    // Damaged, and nothing says what it was.
    fs::write(sub.join("000000000001.wasm"), policy()).unwrap();
    // In the middle of a deletion.
    fs::write(sub.join("000000000002.json"), b"{}").unwrap();
    // Not ours.
    fs::create_dir(dir.path().join("Not Ours")).unwrap();
    fs::write(dir.path().join("Not Ours/x"), b"").unwrap();

    let reopened = open(dir.path());
    let mut versions: Vec<_> = reopened.list().into_iter().map(|line| line.id).collect();
    versions.retain(|id| id.name() == "a");
    versions.sort();
    let mut expected = vec![id.clone(), other.clone()];
    expected.sort();
    assert_eq!(versions, expected);
    assert!(reopened.get(&id).is_ok() && reopened.get(&other).is_ok());
    // Two components, their descriptions, and the stranger.
    assert_eq!(files(dir.path()), 5);
    assert_eq!(open(dir.path()).list(), reopened.list());
}

#[test]
fn a_deletion_spares_what_is_in_use_or_shipped() {
    both(|registry| {
        let id = push(registry, "a", 1);
        let refusal = registry.delete(&id, |asked| *asked == id).unwrap_err();
        assert_eq!((refusal.code, refusal.status()), ("in_use", 409));
        let lru = registry.resolve("lru").unwrap();
        assert_eq!(
            registry.delete(&lru, |_| false).unwrap_err().code,
            "shipped"
        );
        registry.delete(&id, |_| false).unwrap();
        assert_eq!(registry.get(&id).unwrap_err().status(), 404);
        assert_eq!(registry.list().len(), 1);
        assert_eq!(push(registry, "a", 1), id);
    });
    let dir = tempfile::tempdir().unwrap();
    let id = push(&open(dir.path()), "a", 1);
    open(dir.path()).delete(&id, |_| false).unwrap();
    assert_eq!(
        (
            fs::read_dir(dir.path()).unwrap().count(),
            open(dir.path()).list().len()
        ),
        (0, 1)
    );
}

#[test]
fn the_registry_has_bounds() {
    let registry = in_memory();
    let full = |name: &str, number| {
        registry
            .push(name, &numbered_policy(number), accept)
            .unwrap_err()
    };
    for number in 0..64 {
        push(&registry, "a", number);
    }
    assert_eq!(
        (full("a", 64).code, full("a", 64).status()),
        ("registry_full", 422)
    );
    // What is known needs no room.
    push(&registry, "a", 0);
    for number in 1..256 {
        push(&registry, &format!("b{number}"), 1);
    }
    assert!(full("c", 1).message.contains("256 names"));
    registry
        .delete(&registry.resolve("b1").unwrap(), |_| false)
        .unwrap();
    push(&registry, "c", 1);
}

#[test]
fn all_uploads_together_have_a_bound() {
    let registry = in_memory();
    let large = |number: u16| {
        let mut bytes = numbered_policy(number);
        // A custom section of 1,000,000 bytes, the name of one byte among them.
        bytes.extend_from_slice(&[0, 0xc0, 0x84, 0x3d, 1, b'n']);
        bytes.resize(bytes.len() + 999_998, 0);
        bytes
    };
    let fits = (0..300_u16).take_while(|number| {
        registry
            .push(&format!("p{}", number % 10), &large(*number), accept)
            .is_ok()
    });
    assert_eq!(fits.count(), 268);
    let refusal = registry.push("q", &large(999), accept).unwrap_err();
    assert!(refusal.message.contains("256 MiB"), "{refusal:?}");
}

#[test]
fn two_uploads_of_the_same_bytes_at_once_agree() {
    both(|registry| {
        let barrier = std::sync::Barrier::new(2);
        let upload = || {
            let vet = |_: &[u8], _: &[Hook]| {
                barrier.wait();
                Ok(())
            };
            registry.push("a", &policy(), vet).unwrap().id
        };
        let (one, two) = std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(upload), scope.spawn(upload));
            (one.join().unwrap(), two.join().unwrap())
        });
        assert_eq!(one, two);
        assert_eq!(registry.list().len(), 2);
        assert!(registry.get(&one).is_ok());
    });
}

#[test]
fn two_uploads_at_once_do_not_share_the_last_place() {
    let registry = in_memory();
    for number in 1..64 {
        push(&registry, "a", number);
    }
    let barrier = std::sync::Barrier::new(2);
    let upload = |number| {
        let vet = |_: &[u8], _: &[Hook]| {
            barrier.wait();
            Ok(())
        };
        registry
            .push("a", &numbered_policy(number), vet)
            .map_err(|refusal| refusal.code)
    };
    let outcomes = std::thread::scope(|scope| {
        [100, 101]
            .map(|number| scope.spawn(move || upload(number)))
            .map(|task| task.join().unwrap())
    });
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
    assert!(outcomes.contains(&Err("registry_full")));
}
