//! A directory as the store: what its files become, what is cleared up, and what damage does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::entry::KeyHasher;
use larder::tier::envelope::Born;
use larder::tier::found::FoundBody;
use larder::tier::object::{ObjectTier, Settings};
use tempfile::TempDir;

use crate::edge::{BORN, check, check_bytes, entry, get, key, open, read_checked, upload, wait};
use crate::support::{eventually, now};

const MIB: usize = 1 << 20;

fn tier(change: impl FnOnce(&mut Settings)) -> (Arc<ObjectTier>, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(format!("file://{}", place.path().display()));
    change(&mut settings);
    (open(settings), place)
}

/// The files below a directory of the store.
fn files(place: &TempDir, below: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![place.path().join("v1").join(below)]);
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut open } else { &mut found }.push(path);
        }
    }
    found.sort();
    found
}

fn age(path: &Path, age: Duration) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(now() - age).unwrap();
}

#[test]
fn content_that_was_replaced_or_removed_goes_after_a_while() {
    let (tier, place) = tier(|settings| settings.grace = Duration::from_millis(1));
    upload(&tier, &[("a", 2 * MIB), ("b", 2 * MIB)]);
    assert_eq!(files(&place, "body").len(), 2);
    upload(&tier, &[("a", 3 * MIB)]);
    tier.remove(key("b").view());
    wait(tier.settle());
    eventually("one content is left", || files(&place, "body").len() == 1);
    check("a", get(&tier, "a").unwrap().unwrap());
    assert_eq!(files(&place, "obj").len(), 1);
}

#[test]
fn what_waits_to_be_replaced_or_removed_is_not_found() {
    let (tier, place) = tier(|_| {});
    upload(
        &tier,
        &[("small", 1_000), ("large", 2 * MIB), ("other", 1_000)],
    );
    tier.stop();
    // Nothing is ever written by this one.
    let mut settings = Settings::new(format!("file://{}", place.path().display()));
    settings.uploads = 0;
    let tier = open(settings);
    for (name, length) in [("small", 2 * MIB), ("large", 2_000)] {
        check(name, get(&tier, name).unwrap().unwrap());
        tier.put(&entry(name, length), BORN).unwrap();
        assert!(get(&tier, name).unwrap().is_none(), "{name} is superseded");
    }
    tier.remove(key("other").view());
    assert!(get(&tier, "other").unwrap().is_none(), "it is removed");
}

#[test]
fn an_entry_with_a_new_head_keeps_its_content_where_it_is() {
    let (tier, place) = tier(|settings| settings.grace = Duration::ZERO);
    upload(&tier, &[("large", 20 * MIB)]);
    let bodies = files(&place, "body");
    let written = tier.stats().written_bytes.get();
    let again = Arc::new(
        get(&tier, "large")
            .unwrap()
            .unwrap()
            .into_entry(&KeyHasher::default()),
    );
    let later = Born { purge: 23, ..BORN };
    tier.put(&again, later).unwrap();
    assert_eq!(wait(tier.settle()).items, 0);
    assert_eq!(files(&place, "body"), bodies);
    assert!(tier.stats().written_bytes.get() < written + 100_000);
    let found = get(&tier, "large").unwrap().unwrap();
    assert_eq!(found.envelope.born, later);
    // Content that was lost meanwhile is written again from where it is.
    fs::rename(&bodies[0], place.path().join("aside")).unwrap();
    let (other, _elsewhere) = self::tier(|_| {});
    upload(&other, &[("large", 20 * MIB)]);
    let found = get(&other, "large").unwrap().unwrap();
    let from_elsewhere = Arc::new(found.into_entry(&KeyHasher::default()));
    tier.put(&again, BORN).unwrap();
    wait(tier.settle());
    assert_eq!(
        tier.stats().write_failures.get(),
        1,
        "there is nothing to read"
    );
    tier.put(&from_elsewhere, BORN).unwrap();
    assert_eq!(wait(tier.settle()).items, 0);
    assert!(read_checked(&tier, "large"));
    assert_ne!(files(&place, "body"), bodies);
}

#[test]
fn content_that_no_entry_has_is_swept() {
    let (tier, place) = tier(|settings| settings.sweep = Duration::from_millis(2));
    upload(
        &tier,
        &[("kept", 2 * MIB), ("small", 2 * MIB), ("young", 2 * MIB)],
    );
    for file in files(&place, "body") {
        age(&file, Duration::from_hours(2));
    }
    // Small content follows its head: what there was before is named no more.
    upload(&tier, &[("small", 10)]);
    // An upload that was cut short leaves content without a head, for a while.
    let head = |name: &str| {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        place.path().join(format!("v1/obj/{}/{hash}", &hash[..2]))
    };
    fs::remove_file(head("young")).unwrap();
    eventually("what no entry has is gone", || {
        files(&place, "body").len() == 1
    });
    eventually("both are counted", || tier.stats().swept.get() == 2);
    check("kept", get(&tier, "kept").unwrap().unwrap());
    check("small", get(&tier, "small").unwrap().unwrap());
}

#[test]
fn no_bit_of_a_file_can_change_unseen() {
    let (tier, place) = tier(|_| {});
    upload(&tier, &[("small", 3_000), ("large", 2 * MIB)]);
    let originals: Vec<(PathBuf, Vec<u8>)> = files(&place, "")
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains("probe"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert_eq!(originals.len(), 3);
    let mut noticed = 0;
    for (path, original) in &originals {
        for round in 0_usize..100 {
            let bit = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (original.len() * 8);
            let mut changed = original.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if round % 10 == 0 {
                changed.truncate(bit / 8);
            }
            fs::write(path, &changed).unwrap();
            noticed += u32::from(!(read_checked(&tier, "small") && read_checked(&tier, "large")));
        }
        fs::write(path, original).unwrap();
    }
    assert_eq!(noticed, 300, "each of them was, and none was served");
    assert!(read_checked(&tier, "small") && read_checked(&tier, "large"));
    assert!(tier.stats().damaged.get() + tier.stats().foreign.get() > 200);
}

#[test]
fn the_last_of_many_versions_is_the_one_that_stays() {
    let (tier, _place) = tier(|_| {});
    for length in 1..=200 {
        tier.put(&entry("contested", length), BORN).unwrap();
        if length % 50 == 0 {
            tier.remove(key("contested").view());
            tier.put(&entry("contested", length + 1_000), BORN).unwrap();
        }
    }
    assert_eq!(wait(tier.settle()).items, 0);
    let found = get(&tier, "contested").unwrap().unwrap();
    assert_eq!(check("contested", found), 1_200);
    let stats = tier.stats();
    let done = stats.writes.get() + stats.removals.get() + stats.superseded.get();
    assert_eq!(done, 208);
}

#[test]
fn what_others_put_there_is_a_miss() {
    let (tier, place) = tier(|_| {});
    upload(&tier, &[("a", 100), ("b", 100)]);
    let heads = files(&place, "obj");
    // The entry of another key under this one's name.
    fs::copy(&heads[0], &heads[1]).unwrap();
    let found = [get(&tier, "a").unwrap(), get(&tier, "b").unwrap()];
    assert_eq!(found.iter().flatten().count(), 1);
    fs::write(&heads[0], b"something else entirely").unwrap();
    fs::write(&heads[1], b"").unwrap();
    assert!(get(&tier, "a").unwrap().is_none());
    assert!(get(&tier, "b").unwrap().is_none());
    assert_eq!(tier.stats().errors.get(), 0);
    // And is replaced by what belongs there.
    upload(&tier, &[("a", 200), ("b", 200)]);
    check("a", get(&tier, "a").unwrap().unwrap());
    check("b", get(&tier, "b").unwrap().unwrap());
}

#[test]
fn more_readers_than_there_may_be_are_turned_away() {
    let (tier, _place) = tier(|settings| settings.reads = 2);
    upload(&tier, &[("large", 4 * MIB)]);
    let FoundBody::Kept(kept) = get(&tier, "large").unwrap().unwrap().body else {
        panic!("large content is read as it is wanted")
    };
    // By its third piece it has a window of some, which waits for it, and holds a place meanwhile.
    let mut at = 0;
    for _ in 0..3 {
        let bytes = wait(kept.read(at)).unwrap();
        check_bytes("large", at, &bytes);
        at += u64::try_from(bytes.len()).unwrap();
    }
    // A lookup needs two for large content.
    assert!(get(&tier, "large").is_err());
    drop(kept);
    eventually("the place is free", || tier.reading() == 0);
    check("large", get(&tier, "large").unwrap().unwrap());
}
