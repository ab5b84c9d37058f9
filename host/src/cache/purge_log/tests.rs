//! What a log holds after it was cut, damaged, or ended at any call to the system.

use std::sync::Arc;

use super::super::purges::{Purges, Standing};
use super::*;
use crate::cache::purge_file::FRAMES;
use crate::entry::{SiteId, Tag};
use crate::tier::Selection;
use crate::tier::envelope::Born;

const SITE: SiteId = SiteId(1);

fn tags(tags: std::ops::Range<u64>) -> Selection {
    Selection::of_tags(tags.map(Tag))
}

fn open(path: &Path) -> Purges {
    Purges::open(PurgeLog::open(path, false).unwrap())
}

fn standing(purges: &Purges, born: &Born, tag: u64) -> Standing {
    purges.standing(born, SITE, std::iter::once(Tag(tag)))
}

#[test]
fn purges_outlast_the_process_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let born = {
        let purges = open(&path);
        let born = purges.born(purges.latest(), 0);
        assert_eq!(purges.record(&tags(0..3), Effect::Hard).number, 1);
        assert_eq!(purges.record(&tags(5..120_000), Effect::Soft).number, 2);
        purges.sync().unwrap();
        born
    };
    let mut latest = 2;
    for _ in 0..2 {
        let purges = open(&path);
        assert!(purges.latest() > latest, "{latest}");
        latest = purges.latest();
        assert_eq!(purges.node(), born.node);
        assert_eq!(standing(&purges, &born, 2), Standing::Purged);
        assert_eq!(standing(&purges, &born, 3), Standing::Valid);
        for tag in [5, 119_999] {
            assert!(matches!(
                standing(&purges, &born, tag),
                Standing::Softened(_)
            ));
        }
    }
    let purges = open(&path);
    assert_eq!(
        purges.record(&Selection::everything(), Effect::Hard).number,
        purges.latest()
    );
    purges.sync().unwrap();
    drop(purges);
    assert!(fs::metadata(&path).unwrap().len() > 100_000);
    let purges = open(&path);
    assert_eq!(standing(&purges, &born, 3), Standing::Purged);
    assert!(fs::metadata(&path).unwrap().len() < 120, "compacted");
}

/// As [`several`], of tags 1, 2 and 3.
fn three(path: &Path) -> (Vec<u8>, Born, Born) {
    several(path, 3)
}

/// The bytes of a new log that `count` acknowledged purges were appended to, of a tag each from 1
/// on, and what was stored before them and after them.
fn several(path: &Path, count: u64) -> (Vec<u8>, Born, Born) {
    drop(fs::remove_file(path));
    let purges = open(path);
    let before = purges.born(purges.latest(), 0);
    for tag in 1..=count {
        purges.record(&tags(tag..tag + 1), Effect::Hard);
        purges.sync().unwrap();
    }
    let after = purges.born(purges.latest(), 0);
    (fs::read(path).unwrap(), before, after)
}

#[test]
fn wherever_a_log_is_cut_nothing_older_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    for count in 1..5 {
        let (whole, before, after) = several(&path, count);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            // Also by the process after the next.
            for _ in 0..2 {
                let purges = open(&path);
                for (tag, born) in (0..=count).flat_map(|tag| [(tag, &before), (tag, &after)]) {
                    let found = standing(&purges, born, tag);
                    assert_eq!(found, Standing::Purged, "{tag} of {count} in {length}");
                }
                let later = purges.born(purges.latest(), 0);
                assert_eq!(standing(&purges, &later, 1), Standing::Valid, "{length}");
            }
        }
        fs::write(&path, &whole).unwrap();
        let purges = open(&path);
        assert_eq!(standing(&purges, &before, count), Standing::Purged);
        assert_eq!(standing(&purges, &before, 0), Standing::Valid);
        assert_eq!(standing(&purges, &after, count), Standing::Valid);
    }
}

#[test]
fn what_lies_behind_what_was_synced_was_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let (whole, before, _) = three(&path);
    let frame = &whole[usize::try_from(FRAMES).unwrap()..];
    let frame = &frame[..frame.len() / 3];
    let zeros = [0; 4_096];
    let torn = (1..frame.len()).map(|length| &frame[..length]);
    let garbage = b"anything else".as_slice();
    for tail in torn.chain([zeros.as_slice(), garbage]) {
        fs::write(&path, [&whole, tail].concat()).unwrap();
        let purges = open(&path);
        assert_eq!(standing(&purges, &before, 3), Standing::Purged);
        assert_eq!(standing(&purges, &before, 4), Standing::Valid, "{tail:?}");
        drop(purges);
        assert!(fs::metadata(&path).unwrap().len() <= u64::try_from(whole.len() + 30).unwrap());
    }
}

#[test]
fn either_tally_will_do_and_none_will_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let (whole, before, _) = three(&path);
    let [first, second] = TALLIES.map(|at| usize::try_from(at).unwrap());
    for (torn, expected) in [
        (&[first][..], Standing::Valid),
        (&[second], Standing::Valid),
        (&[first, second], Standing::Purged),
    ] {
        for byte in 0..16 {
            let mut damaged = whole.clone();
            for at in torn {
                damaged[at + byte] ^= 1;
            }
            fs::write(&path, &damaged).unwrap();
            let purges = open(&path);
            assert_eq!(standing(&purges, &before, 3), Standing::Purged);
            assert_eq!(standing(&purges, &before, 4), expected, "{torn:?} {byte}");
        }
    }
}

#[test]
fn a_log_without_tallies_is_read_and_gets_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let (whole, before, _) = three(&path);
    let mut old = whole[..20].to_vec();
    old[8..12].copy_from_slice(&1_u32.to_le_bytes());
    old.extend(crc32fast::hash(&old).to_le_bytes());
    old.extend(&whole[usize::try_from(FRAMES).unwrap()..]);
    for (tail, expected) in [
        (&[][..], Standing::Valid),
        (&[0; 9], Standing::Valid),
        (&[1], Standing::Purged),
    ] {
        fs::write(&path, [&old, tail].concat()).unwrap();
        let purges = open(&path);
        assert_eq!(purges.node(), before.node);
        assert_eq!(standing(&purges, &before, 3), Standing::Purged);
        assert_eq!(standing(&purges, &before, 4), expected, "{tail:?}");
        drop(purges);
        let fresh = fs::read(&path).unwrap();
        assert_eq!(fresh[8..12], VERSION.to_le_bytes());
        fs::write(&path, &fresh[..fresh.len() - 1]).unwrap();
        assert_eq!(standing(&open(&path), &before, 4), Standing::Purged);
    }
}

#[test]
fn the_number_of_a_purge_that_is_missing_is_not_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let purges = open(&path);
    let on_the_device = fs::read(&path).unwrap();
    let older = purges.born(purges.latest(), 0);
    purges.record(&tags(1..2), Effect::Hard);
    // It came to the device, and the purge before it did not.
    let stored = purges.born(purges.latest(), 0);
    fs::write(&path, on_the_device).unwrap();
    let purges = open(&path);
    assert_eq!(standing(&purges, &stored, 2), Standing::Purged);
    assert_eq!(standing(&purges, &older, 2), Standing::Valid);
    let number = purges.record(&tags(2..3), Effect::Hard).number;
    assert!(number > stored.purge + 1, "{number}");
    for born in [&stored, &older] {
        assert_eq!(standing(&purges, born, 2), Standing::Purged);
    }
    purges.sync().unwrap();
    for _ in 0..3 {
        let purges = open(&path);
        assert_eq!(standing(&purges, &stored, 2), Standing::Purged);
        assert_eq!(standing(&purges, &older, 3), Standing::Valid);
    }
}

#[test]
fn what_was_stored_without_a_purge_in_between_outlasts_many_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let mut stored = Vec::new();
    let mut longest = 0;
    for process in 0..6 {
        let purges = open(&path);
        stored.push(purges.born(purges.latest(), 0));
        for born in &stored {
            assert_eq!(standing(&purges, born, 1), Standing::Valid, "{process}");
        }
        longest = longest.max(fs::metadata(&path).unwrap().len());
    }
    assert!(longest < 110, "what is superseded goes: {longest}");
}

#[test]
fn after_damage_nothing_that_was_stored_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let purges = open(&path);
    let born = purges.born(0, 0);
    for tag in 1..4 {
        purges.record(&tags(tag..tag + 1), Effect::Hard);
    }
    purges.sync().unwrap();
    let whole = fs::read(&path).unwrap();
    let frames = usize::try_from(FRAMES).unwrap();
    for at in frames..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            let purges = open(&path);
            for tag in 1..4 {
                assert_eq!(
                    standing(&purges, &born, tag),
                    Standing::Purged,
                    "{at} {bit}"
                );
            }
            let later = purges.born(purges.latest(), 0);
            assert_eq!(standing(&purges, &later, 9), Standing::Valid);
        }
    }
    for at in 0..usize::try_from(TALLIES[0]).unwrap() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(
            matches!(PurgeLog::open(&path, false), Err(LogError::Foreign { .. })),
            "{at}"
        );
    }
}

#[test]
fn a_log_that_is_missing_is_begun_as_one_that_has_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let born = Purges::default().born(0, clock::unix_millis(clock::wall()));
    assert_eq!(standing(&open(&path), &born, 1), Standing::Valid);
    fs::remove_file(&path).unwrap();
    let purges = Purges::open(PurgeLog::open(&path, true).unwrap());
    assert_eq!(standing(&purges, &born, 1), Standing::Purged);
    drop(purges);
    // One that is there is none.
    let purges = Purges::open(PurgeLog::open(&path, true).unwrap());
    assert_eq!(standing(&purges, &born, 1), Standing::Purged);
    let later = purges.born(purges.latest(), 0);
    drop(purges);
    let purges = Purges::open(PurgeLog::open(&path, true).unwrap());
    assert_eq!(standing(&purges, &later, 1), Standing::Valid);
}

#[test]
fn what_is_no_log_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    fs::write(&path, b"something else").unwrap();
    let error = PurgeLog::open(&path, false).unwrap_err().to_string();
    assert!(
        error.contains("purges is no purge log of version 1 or 2"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"something else");
}

/// What was asked of the system.
#[derive(Clone, Debug)]
enum Call {
    Write(Vec<u8>, u64),
    Sync,
}

/// A system that keeps what is asked of it, and refuses one call: a write after half of it.
#[derive(Debug, Default)]
struct Recorder {
    refused: Option<usize>,
    calls: Mutex<Vec<Option<Call>>>,
}

impl Recorder {
    fn call(&self, call: impl FnOnce(bool) -> Option<Call>) -> io::Result<()> {
        let mut calls = lock(&self.calls);
        let is_refused = self.refused == Some(calls.len());
        calls.push(call(is_refused));
        match is_refused {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Medium for Arc<Recorder> {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.call(|is_refused| {
            let written = if is_refused {
                bytes.len() / 2
            } else {
                bytes.len()
            };
            Some(Call::Write(bytes[..written].to_vec(), at))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.call(|is_refused| (!is_refused).then_some(Call::Sync))
    }
}

/// What three groups of purges asked of the system, if it refused call number `refused`.
struct Run {
    /// The file as it was opened.
    opened: Vec<u8>,
    calls: Vec<Option<Call>>,
    /// The tags of purges that were acknowledged, and after how many calls.
    acknowledged: Vec<(u64, usize)>,
    born: Born,
}

/// A tag that no purge has.
const UNPURGED: u64 = 9;

/// A log over `recorder`, of `node`, for which earlier processes left `earlier`.
fn over(recorder: &Arc<Recorder>, node: u64, earlier: Vec<Logged>) -> Purges {
    let (_, tally) = purge_file::file(node, &earlier);
    let medium = Box::new(Arc::clone(recorder));
    let path = Path::new("purges");
    Purges::open(PurgeLog::over(medium, path, node, earlier, tally))
}

fn run(refused: Option<usize>) -> Run {
    let recorder = Arc::new(Recorder {
        refused,
        ..Recorder::default()
    });
    let (node, earlier) = earlier(None, false).unwrap();
    let (opened, _) = purge_file::file(node, &earlier);
    let purges = over(&recorder, node, earlier);
    let born = purges.born(purges.latest(), 0);
    let mut acknowledged = Vec::new();
    for group in [0..1, 1..3, 3..4] {
        for tag in group.clone() {
            purges.record(&tags(tag..tag + 1), Effect::Hard);
        }
        if purges.sync().is_ok() {
            let calls = lock(&recorder.calls).len();
            // Whatever was refused before, all so far is there now.
            acknowledged.extend((0..group.end).map(|tag| (tag, calls)));
        }
    }
    let calls = lock(&recorder.calls).clone();
    Run {
        opened,
        calls,
        acknowledged,
        born,
    }
}

/// Writes `bytes` at `at` into `image`, which has zeros where nothing was written.
fn put(image: &mut Vec<u8>, bytes: &[u8], at: u64) {
    let at = usize::try_from(at).unwrap();
    image.resize(image.len().max(at + bytes.len()), 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Run {
    /// Whether of a file like `image`, after so many calls, all that was acknowledged is in force,
    /// and nothing else.
    #[track_caller]
    fn holds(&self, image: &[u8], calls: usize) {
        let (node, earlier) = earlier(Some(image), false).unwrap();
        let purges = over(&Arc::default(), node, earlier);
        for (tag, after) in &self.acknowledged {
            if *after <= calls {
                let found = standing(&purges, &self.born, *tag);
                assert_eq!(found, Standing::Purged, "{tag} after {calls} calls");
            }
        }
        let found = standing(&purges, &self.born, UNPURGED);
        assert_eq!(found, Standing::Valid, "after {calls} calls");
    }

    /// The process ends before call number `calls`, or within it.
    fn killed(&self, calls: usize) {
        let mut image = self.opened.clone();
        for call in self.calls[..calls].iter().flatten() {
            if let Call::Write(bytes, at) = call {
                put(&mut image, bytes, *at);
            }
        }
        self.holds(&image, calls);
        if let Some(Some(Call::Write(bytes, at))) = self.calls.get(calls) {
            for written in 1..bytes.len() {
                let mut torn = image.clone();
                put(&mut torn, &bytes[..written], *at);
                self.holds(&torn, calls);
            }
        }
    }

    /// The power goes before call number `calls`: of what was written since the last sync any part
    /// is there, in any order. How many ways there were.
    fn cut(&self, calls: usize) -> usize {
        let so_far = &self.calls[..calls];
        let synced = so_far.iter().rposition(|it| matches!(it, Some(Call::Sync)));
        let (certain, open) = so_far.split_at(synced.unwrap_or_default());
        let mut image = self.opened.clone();
        for call in certain.iter().flatten() {
            if let Call::Write(bytes, at) = call {
                put(&mut image, bytes, *at);
            }
        }
        let open: Vec<(&Vec<u8>, u64)> = open
            .iter()
            .filter_map(|call| match call {
                Some(Call::Write(bytes, at)) => Some((bytes, *at)),
                _ => None,
            })
            .collect();
        // None of it, all of it, its first half, its second half.
        let ways = 4_usize.pow(u32::try_from(open.len()).unwrap());
        for way in 0..ways {
            let mut image = image.clone();
            for (place, (bytes, at)) in open.iter().enumerate() {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let middle = at + u64::try_from(first.len()).unwrap();
                match way >> (2 * place) & 3 {
                    0 => {}
                    1 => put(&mut image, bytes, *at),
                    2 => put(&mut image, first, *at),
                    _ => put(&mut image, second, middle),
                }
            }
            self.holds(&image, calls);
            // The length of a file may be on the device before what it holds.
            image.resize(image.len() + 200, 0);
            self.holds(&image, calls);
        }
        ways
    }
}

#[test]
fn ended_at_any_call_it_holds_what_was_acknowledged_and_is_not_damaged() {
    let calls = run(None).calls.len();
    assert_eq!(calls, 10, "of a group its purges, a sync and a tally");
    for refused in std::iter::once(None).chain((0..calls).map(Some)) {
        let run = run(refused);
        let mut ways = 0;
        for calls in 0..=run.calls.len() {
            run.killed(calls);
            ways += run.cut(calls);
        }
        assert!(ways > 20, "{ways}");
        let is_acknowledged = |tag| run.acknowledged.iter().any(|(it, _)| *it == tag);
        let is_sync = |call: usize| run.calls.get(call).is_some_and(Option::is_none);
        // After a sync that failed nothing is acknowledged; after a write the next makes up for it.
        if !refused.is_some_and(is_sync) && refused != Some(calls - 1) {
            assert!((0..4).all(is_acknowledged), "{refused:?}");
        }
    }
}

#[test]
fn a_start_that_ends_early_leaves_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("purges");
    let (whole, before, _) = three(&path);
    for length in 0..whole.len() {
        fs::write(&path, &whole).unwrap();
        fs::write(path.with_extension("new"), &whole[..length]).unwrap();
        let purges = open(&path);
        assert_eq!(standing(&purges, &before, 3), Standing::Purged);
        assert_eq!(standing(&purges, &before, 4), Standing::Valid);
        assert!(!path.with_extension("new").exists());
    }
}
