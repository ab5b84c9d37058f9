//! Files that are not what was written: flipped bits, lost ends, pages in the wrong place, foreign
//! files, somebody else's directory. What cannot be verified is a miss, and what cannot be used is
//! refused by name.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::below::count;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;
use crate::truth::{Dice, TAGS, knob};
use crate::world::World;

/// Flips within one round of damage at rest.
const FLIPS: u64 = 400;
/// The file of the purges that were acknowledged.
const PURGES: &str = "purges.log";
/// Bytes of it before the first purge.
const PURGES_HEAD: u64 = 56;

fn setup(world: &World) -> Setup {
    Setup::before(world.origin())
        .keeping()
        .flag("--memory", "4MiB")
        .flag("--disk", "24MiB")
}

/// The files below `dir` that hold anything.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if entry.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a file");
    name.to_string_lossy().into_owned()
}

fn is_segment(path: &Path) -> bool {
    name(path).starts_with("seg-")
}

fn open(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Flips a bit of `file`, more often near its ends, which tell of the rest.
fn flip(dice: &mut Dice, file: &File) {
    let length = file.metadata().expect("it is open").len();
    let near = length.min(8_192);
    let at = match dice.below(8) {
        0 => dice.below(near),
        1 => length - 1 - dice.below(near),
        _ => dice.below(length),
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    byte = byte.map(|byte| byte ^ (1 << dice.below(8)));
    file.write_all_at(&byte, at).expect("within the file");
}

/// Starts `edge` on what was damaged. It may be refused, by the name of what is damaged, which is
/// then put back as it was in `sound`. Whether it was.
#[track_caller]
fn start(edge: &mut Edge, sound: &[(PathBuf, Vec<u8>)]) -> bool {
    let Err(ended) = edge.try_restart() else {
        return false;
    };
    let named = |(path, _): &(PathBuf, Vec<u8>)| ended.log.contains(&name(path));
    let told = sound.iter().any(named) || ended.log.contains("data/cache");
    assert!(told && matches!(ended.code, Some(1 | 2)), "{ended:?}");
    for (path, content) in sound {
        fs::write(path, content).expect("a file");
    }
    edge.restart();
    true
}

/// Has an edge hold new, superseded and purged things, ends it one way or the other, damages its
/// files by `hurt`, and asks for everything; `rounds` times.
fn after(rounds: u64, mut hurt: impl FnMut(&mut Dice, &[PathBuf])) -> String {
    let world = World::of(150, 600_000);
    let mut edge = setup(&world).start();
    let mut dice = Dice::new(3);
    let (mut refused, mut corrupt) = (0, 0);
    for round in 0..rounds {
        let until = Instant::now() + Duration::from_millis(300);
        world.load(&edge, round, 3, |_| {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        });
        world.sweep(&edge);
        edge.flush();
        // What it covers is not asked for again, so nothing takes its place.
        let tag = format!("t{}", round % pattern::to_u64(TAGS));
        let purged = world.purge(edge.admin_address(), &json!({"tags": [tag]}), |resource| {
            pattern::to_u64(resource % TAGS) == round % pattern::to_u64(TAGS)
        });
        assert_eq!(purged, Some(true));
        if round % 2 == 0 {
            edge.stop();
        } else {
            edge.kill();
        }
        let found = files(&edge.data_dir());
        let small = found.iter().filter(|path| !is_segment(path));
        let sound: Vec<(PathBuf, Vec<u8>)> = small
            .map(|path| (path.clone(), fs::read(path).expect("a file")))
            .collect();
        hurt(&mut dice, &found);
        world.lose();
        refused += u64::from(start(&mut edge, &sound));
        for _ in 0..2 {
            world.sweep(&edge);
        }
        corrupt += count(&edge, "disk", "corrupt");
    }
    format!(
        "{rounds} rounds: {}; {refused} starts refused, {corrupt} records found damaged",
        world.told()
    )
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn flipped_bits_at_rest_are_in_no_answer() {
    let flips = knob("LARDER_FLIPS", 4_000);
    let rounds = flips.div_ceil(FLIPS);
    let told = after(rounds, |dice, files| {
        let segments: Vec<File> = files
            .iter()
            .filter(|it| is_segment(it))
            .map(|it| open(it))
            .collect();
        for _ in 0..FLIPS {
            let segment = dice.index(segments.len());
            flip(dice, segments.get(segment).expect("one of them"));
        }
        // A flip in one of the others costs much of what there is.
        for path in files.iter().filter(|path| !is_segment(path)) {
            if dice.below(3) == 0 {
                flip(dice, &open(path));
            }
        }
    });
    eprintln!("at least {flips} flips: {told}");
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn flipped_bits_are_in_no_answer_while_it_runs() {
    let flips = knob("LARDER_FLIPS", 4_000);
    let world = World::of(150, 600_000);
    let edge = setup(&world).start();
    world.sweep(&edge);
    edge.flush();
    let mut dice = Dice::new(5);
    let segments: Vec<File> = files(&edge.data_dir().join("cache"))
        .iter()
        .filter(|path| is_segment(path))
        .map(|path| open(path))
        .collect();
    world.load(&edge, 6, 3, |_| {
        for _ in 0..flips {
            let segment = dice.index(segments.len());
            flip(&mut dice, segments.get(segment).expect("one of them"));
            std::thread::park_timeout(Duration::from_micros(300));
        }
    });
    world.sweep(&edge);
    let corrupt = count(&edge, "disk", "corrupt");
    eprintln!(
        "{flips} flips: {}; {corrupt} records found damaged",
        world.told()
    );
    assert!(corrupt > 0, "none of it was ever read");
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn files_that_are_cut_short_are_in_no_answer() {
    let told = after(knob("LARDER_CUTS", 8), |dice, files| {
        for path in files {
            if dice.below(3) == 0 {
                let file = open(path);
                let length = file.metadata().expect("it is open").len();
                // Also a few bytes, and none.
                let most = [length, 64, 1];
                let most = most.get(dice.index(most.len())).copied().unwrap_or(1);
                let cut = dice.below(most.min(length));
                file.set_len(cut).expect("a file");
            }
        }
    });
    eprintln!("{told}");
}

/// Where in `log` the purges begin, and where each of them ends.
fn ends(log: &[u8]) -> Vec<u64> {
    let mut ends = vec![PURGES_HEAD];
    loop {
        let end = *ends.last().expect("it begins");
        let at = usize::try_from(end).expect("small");
        let Some(length) = log.get(at..at + 4) else {
            assert_eq!(end, pattern::to_u64(log.len()), "it is whole");
            return ends;
        };
        // Behind the length comes a checksum.
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        ends.push(end + 8 + u64::from(length));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn a_purge_log_that_ends_between_two_purges_brings_nothing_back() {
    let told = after(knob("LARDER_CUTS", 8), |dice, files| {
        let log = files.iter().find(|path| name(path) == PURGES);
        let log = log.expect("there were purges");
        let mut ends = ends(&fs::read(log).expect("a file"));
        // As if the last had never been, or some before it as well.
        assert!(ends.pop().is_some() && !ends.is_empty(), "{ends:?}");
        let lost = dice.below(2) * dice.below(pattern::to_u64(ends.len()));
        let kept = ends.iter().rev().nth(usize::try_from(lost).expect("small"));
        open(log)
            .set_len(*kept.expect("one of them"))
            .expect("a file");
    });
    eprintln!("{told}");
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn pages_in_the_wrong_place_are_in_no_answer() {
    const PAGE: u64 = 4_096;
    let told = after(knob("LARDER_CUTS", 8), |dice, files| {
        let segments: Vec<File> = files
            .iter()
            .filter(|it| is_segment(it))
            .map(|it| open(it))
            .collect();
        let pages = segments
            .first()
            .map_or(1, |it| it.metadata().map_or(1, |it| it.len() / PAGE));
        for _ in 0..200 {
            let mut page = vec![0; usize::try_from(PAGE).expect("small")];
            let (from, to) = (dice.index(segments.len()), dice.index(segments.len()));
            if dice.below(4) > 0 {
                let from = segments.get(from).expect("one of them");
                from.read_exact_at(&mut page, dice.below(pages) * PAGE)
                    .expect("within the file");
            }
            let to = segments.get(to).expect("one of them");
            to.write_all_at(&page, dice.below(pages) * PAGE)
                .expect("within the file");
        }
        // And two files that took each other's names.
        let named: Vec<_> = files.iter().filter(|it| is_segment(it)).collect();
        if let [first, .., last] = named.as_slice() {
            let aside = first.with_extension("aside");
            fs::rename(first, &aside).expect("a file");
            fs::rename(last, first).expect("a file");
            fs::rename(&aside, last).expect("a file");
        }
    });
    eprintln!("{told}");
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn files_that_are_missing_bring_nothing_back() {
    let told = after(knob("LARDER_CUTS", 8), |dice, files| {
        for path in files {
            if dice.below(4) == 0 {
                fs::remove_file(path).expect("it was there");
            }
        }
    });
    eprintln!("{told}");
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let world = World::of(20, 100_000);
    let first = setup(&world).start();
    world.sweep(&first);
    let data = first.data_dir().display().to_string();
    let began = Instant::now();
    let second = Setup::before(world.origin())
        .flag("--data-dir", &data)
        .flag("--disk", "24MiB")
        .try_start();
    let ended = second.expect_err("the directory is taken");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it says so at once"
    );
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    assert!(ended.log.contains("another larder uses"), "{}", ended.log);
    assert!(ended.log.contains(&data), "{}", ended.log);
    let cache = first.data_dir().join("cache").display().to_string();
    let third = Setup::before(world.origin())
        .keeping()
        .flag("--disk", "24MiB")
        .set("disk.dir", &cache)
        .try_start();
    let ended = third.expect_err("the tier's directory is taken as well");
    let process = format!("process {}", first.pid());
    assert!(ended.log.contains(&process), "{}", ended.log);
    assert!(ended.log.contains(&cache), "{}", ended.log);
    world.load(&first, 1, 2, |_| {
        std::thread::park_timeout(Duration::from_millis(200));
    });
    world.sweep(&first);
}

/// What starting on a directory said that `prepare` has filled, and what it left of that.
fn refused(prepare: impl Fn(&Path)) -> (String, Vec<(PathBuf, Vec<u8>)>) {
    let origin = Origin::always(Reply::cached("content"));
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("cache");
    fs::create_dir_all(&cache).expect("a directory");
    prepare(&cache);
    let setup = Setup::before(&origin)
        .flag("--data-dir", &dir.path().display().to_string())
        .flag("--disk", "24MiB");
    let ended = setup.try_start().expect_err("it is not ours");
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    let left = files(&cache).into_iter().map(|path| {
        let content = fs::read(&path).expect("a file");
        (path, content)
    });
    (ended.log, left.collect())
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_as_it_is() {
    for file in ["precious.txt", "seg-000000", "manifest"] {
        let (log, left) = refused(|cache| {
            fs::write(cache.join(file), "keep me").expect("a file");
        });
        assert!(log.contains(file), "{log}");
        assert!(log.contains("cache"), "{log}");
        let [(path, content)] = left.as_slice() else {
            panic!("{left:?}")
        };
        assert_eq!((&*name(path), &**content), (file, &b"keep me"[..]));
    }
}

#[test]
fn a_directory_of_a_later_version_is_refused_and_left_as_it_is() {
    let world = World::of(20, 100_000);
    let mut edge = setup(&world).start();
    world.sweep(&edge);
    edge.stop();
    let cache = edge.data_dir().join("cache");
    let manifest = cache.join("manifest");
    let sound = fs::read(&manifest).expect("a file");
    // Magic, version, and the checksum of both.
    let mut later = sound.clone();
    let head = later.get_mut(..16).expect("a head");
    head[8..12].copy_from_slice(&99_u32.to_le_bytes());
    let crc = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&manifest, &later).expect("a file");
    let before: Vec<_> = files(&cache)
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    let ended = edge.try_restart().expect_err("it is of a later version");
    assert!(ended.log.contains("version 99"), "{}", ended.log);
    let after: Vec<_> = files(&cache)
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    assert!(before == after, "nothing was changed");
    fs::write(&manifest, &sound).expect("a file");
    edge.restart();
    assert!(world.sweep(&edge) > 10, "what it held is there");
}

#[test]
fn links_are_not_followed() {
    let world = World::of(40, 100_000);
    let mut edge = setup(&world).start();
    world.sweep(&edge);
    edge.stop();
    let cache = edge.data_dir().join("cache");
    let outside = edge.dir().join("outside");
    for file in [
        "seg-000000",
        "seg-000001",
        "manifest",
        "LOCK",
        "manifest.new",
    ] {
        let link = cache.join(file);
        fs::write(&outside, "keep me").expect("a file");
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(&outside, &link).expect("a link");
        world.forget();
        match edge.try_restart() {
            Ok(()) => {
                world.sweep(&edge);
                world.load(&edge, 1, 2, |_| {
                    std::thread::park_timeout(Duration::from_millis(200));
                });
                edge.stop();
            }
            Err(ended) => assert!(ended.log.contains("cache"), "{file}: {}", ended.log),
        }
        assert_eq!(fs::read(&outside).expect("a file"), b"keep me", "{file}");
        // What is left of the link is of the edge's own making, or refused.
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(&link).expect("a link");
        }
    }
    edge.restart();
    world.sweep(&edge);
}

#[test]
fn a_directory_that_is_removed_while_it_runs_harms_no_answer() {
    let world = World::of(100, 600_000);
    let mut edge = setup(&world).start();
    world.sweep(&edge);
    world.load(&edge, 33, 3, |edge| {
        let cache = edge.data_dir().join("cache");
        // The tier may make a file while the others are removed.
        eventually("the directory to go", || {
            drop(fs::remove_dir_all(&cache));
            !cache.exists()
        });
        std::thread::park_timeout(Duration::from_millis(700));
    });
    world.sweep(&edge);
    edge.kill();
    world.forget();
    edge.restart();
    world.sweep(&edge);
    assert!(count(&edge, "disk", "writes") > 0);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_by_name() {
    let origin = Origin::always(Reply::cached("content"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("data");
    fs::write(&file, "a file").expect("a file");
    let setup = Setup::before(&origin)
        .flag("--data-dir", &file.display().to_string())
        .flag("--disk", "24MiB");
    let ended = setup.try_start().expect_err("a file is no directory");
    assert!(ended.log.contains("data"), "{}", ended.log);
}
