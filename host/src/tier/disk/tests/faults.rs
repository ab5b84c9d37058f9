//! A device that fails while the tier runs: no panic, no wrong answer, and it goes on afterwards.

use std::time::Instant;

use rustix::io::Errno;

use super::device::{Call, Device};
use super::*;
use crate::tier::slow::{Health, SlowTier};

/// Puts until it is found: the device is sound again.
async fn recovers(tier: &DiskTier) {
    let began = Instant::now();
    loop {
        tier.put(&small("again", 77, 1_000), BORN).await;
        tier.settle().await;
        if tier.which("again").await == Some(77) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it recovers");
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_full_device_makes_the_tier_smaller_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::sound();
    let tier = open_on(dir.path(), 20 * MIB, &device).unwrap();
    run(async {
        let fill = async |from: u64| {
            for number in from..from + 100 {
                tier.put(&small(&format!("{number}"), number, 40_000), BORN)
                    .await;
                tier.settle().await;
            }
        };
        fill(0).await;
        device.fail(Call::Allocate, Errno::NOSPC);
        let before = occupied(dir.path());
        fill(100).await;
        assert!(occupied(dir.path()) <= before);
        assert_eq!(
            tier.which("199").await,
            Some(199),
            "it goes round in what it has"
        );
        assert!(tier.health().reason().unwrap().contains("No space left"));
        device.heal();
        let began = Instant::now();
        while occupied(dir.path()) <= before {
            fill(200).await;
            assert!(began.elapsed() < Duration::from_secs(10), "it grows again");
        }
        assert_eq!(tier.health(), Health::Online);
    });
    tier.stop();
}

#[test]
fn writes_that_fail_lose_what_was_written_and_nothing_else() {
    for errno in [Errno::IO, Errno::NOSPC] {
        for call in [Call::Write, Call::Sync] {
            let dir = tempfile::tempdir().unwrap();
            let device = Device::sound();
            let tier = open_on(dir.path(), 8 * MIB, &device).unwrap();
            run(async {
                tier.put(&small("old", 1, 1_000), BORN).await;
                tier.settle().await;
                device.fail(call, errno);
                for number in 0..200 {
                    tier.put(&small("k", number, 40_000), BORN).await;
                    tier.put(&large("l", number, 400_000), BORN).await;
                    tier.settle().await;
                    for key in ["k", "l"] {
                        let found = tier.which(key).await;
                        assert!(found.is_none_or(|found| found == number));
                    }
                }
                assert!(tier.stats().write_errors.get() > 0);
                assert!(matches!(tier.health(), Health::Degraded(_)));
                device.heal();
                recovers(&tier).await;
                assert_eq!(tier.health(), Health::Online);
            });
            tier.stop();
            drop(tier);
            let tier = open(dir.path(), 8 * MIB);
            assert_eq!(run(tier.which("again")), Some(77));
            let found = run(tier.which("k"));
            assert!(found.is_none_or(|found| found == 199), "{found:?}");
            tier.stop();
        }
    }
}

/// Puts "k", and content too large for one record, which it looks up.
async fn small_and_large(tier: &DiskTier) -> Arc<dyn crate::entry::Kept> {
    tier.put(&small("k", 1, 1_000), BORN).await;
    tier.put(&large("l", 2, 400_000), BORN).await;
    tier.settle().await;
    let Ok(Some(found)) = tier.get(view("l")).await else {
        panic!("it is there")
    };
    let FoundBody::Kept(kept) = found.body else {
        panic!("it is large")
    };
    kept
}

#[test]
fn reads_that_fail_are_no_misses_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::sound();
    let tier = open_on(dir.path(), 8 * MIB, &device).unwrap();
    run(async {
        let kept = small_and_large(&tier).await;
        device.fail(Call::Read, Errno::IO);
        for _ in 0..3 {
            let read = tier.get(view("k")).await;
            assert!(matches!(read, Err(Unavailable::Failed(_))), "{read:?}");
        }
        let read = kept.read(0).await;
        assert_eq!(read.unwrap_err(), crate::entry::Unreadable::Failed);
        assert!(matches!(tier.health(), Health::Degraded(_)));
        assert_eq!(tier.stats().read_errors.get(), 4);
        device.heal();
        assert_eq!(tier.which("k").await, Some(1));
        assert_eq!(tier.health(), Health::Online);
        assert_eq!(kept.read(0).await.unwrap(), content(2, 64 << 10));
    });
    tier.stop();
}

#[test]
fn what_the_device_brings_soon_is_read_without_a_thread_and_is_a_good_read() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::sound();
    let tier = open_on(dir.path(), 8 * MIB, &device).unwrap();
    run(async {
        let kept = small_and_large(&tier).await;
        let awaited = || {
            let stats = tier.stats();
            (stats.awaited.get(), stats.awaited_in_vain.get())
        };
        assert_eq!(awaited(), (0, 1), "nothing came");
        // Every read by a thread fails.
        device.fail(Call::Read, Errno::IO);
        for _ in 0..3 {
            assert!(kept.read(0).await.is_err());
        }
        assert!(matches!(tier.health(), Health::Degraded(_)));
        // Some go to a thread first, since asking was in vain: many, if this was late to look.
        for _ in 0..2_000 {
            device.bring_by(2);
            if tier.get(view("k")).await.is_ok() {
                break;
            }
        }
        assert_eq!(awaited(), (1, 1));
        assert_eq!(tier.health(), Health::Online);
    });
    tier.stop();
}

#[test]
fn a_device_that_hangs_keeps_nobody_longer_than_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::sound();
    let io: Arc<dyn Io> = Arc::<Device>::clone(&device);
    let settings = Settings {
        read_deadline: Duration::from_millis(200),
        ..settings(dir.path(), 8 * MIB)
    };
    let tier = DiskTier::open_with(&settings, everything_valid(), io).unwrap();
    tier.shared.loaded();
    run(async {
        tier.put(&small("k", 1, 1_000), BORN).await;
        tier.settle().await;
        assert_eq!(tier.which("k").await, Some(1));
        device.hold(true);
        // One for each thread; they wait side by side.
        let (a, b) = tokio::join!(tier.get(view("k")), tier.get(view("k")));
        for read in [a, b] {
            assert_eq!(read.unwrap_err(), Unavailable::TimedOut);
        }
        assert!(matches!(tier.health(), Health::Degraded(_)));
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(
                tier.get(view("k")).await.unwrap_err(),
                Unavailable::TimedOut
            );
        }
        assert!(
            began.elapsed() < Duration::from_millis(150),
            "they do not wait"
        );
        assert_eq!(tier.which("another").await, None, "a miss asks no device");
        device.hold(false);
        let began = Instant::now();
        while tier.get(view("k")).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(5));
            tokio::task::yield_now().await;
        }
        assert_eq!(tier.health(), Health::Online);
    });
    tier.stop();
}

#[test]
fn a_directory_that_is_removed_while_it_runs_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tier");
    let tier = open(&path, 8 * MIB);
    run(async {
        tier.put(&small("k", 1, 1_000), BORN).await;
        tier.settle().await;
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(tier.which("k").await, Some(1), "the file is still held");
        for number in 0..300 {
            tier.put(&small("n", number, 40_000), BORN).await;
            tier.settle().await;
            assert_eq!(tier.which("n").await, Some(number));
        }
    });
    tier.stop();
    let tier = open(&path, 8 * MIB);
    assert_eq!(run(tier.which("k")), None);
    tier.stop();
}
