//! A service that fails, through a proxy: no wrong byte is ever handed out, an error is never a
//! miss, nothing grows without a bound, and all is well again soon after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::tier::found::FoundBody;
use larder::tier::object::{
    BreakerState, Coordination, Dropped, Health, Mode, ObjectTier, Outcome, Request, Settings,
    Unavailable,
};

use crate::edge::{BORN, check_bytes, entry, get, key, online, open, read_checked, upload, wait};
use crate::moto::{self, Moto};
use crate::proxy::{Fault, Proxy};
use crate::support::{eventually, long};

const MIB: usize = 1 << 20;
/// How soon after a fault is over all must be well.
const RECOVERY: Duration = Duration::from_secs(5);

/// A tier on a bucket of its own, behind a proxy, with a few entries; none if there is no service.
fn behind_proxy(
    bucket: &str,
    change: impl FnOnce(&mut Settings),
) -> Option<(Arc<ObjectTier>, Proxy, &'static Moto)> {
    let moto = moto::start()?;
    moto::bucket(moto, bucket);
    let proxy = Proxy::before(moto.address);
    let mut settings = moto::settings(proxy.address, bucket);
    change(&mut settings);
    let tier = open(settings);
    upload(&tier, &[("small", 5_000), ("large", 5 * MIB)]);
    eventually("the self-test ends", || {
        tier.coordination() == Coordination::Supported
    });
    Some((tier, proxy, moto))
}

/// Waits until all is well again.
#[track_caller]
fn recovers(tier: &ObjectTier) {
    eventually("it answers again", || {
        read_checked(tier, "small") && read_checked(tier, "large")
    });
    eventually("nothing waits", || tier.waiting().items == 0);
    online(tier);
    assert_eq!(tier.breaker(), BreakerState::Closed);
}

#[test]
fn it_is_back_soon_after_an_outage() {
    let Some((tier, proxy, _)) = behind_proxy("back", |_| {}) else {
        return;
    };
    // The service shares this machine with others: the best of three.
    let mut took = Duration::MAX;
    for round in 0..3 {
        proxy.set(Fault::Outage);
        eventually("the breaker opens", || {
            assert!(get(&tier, "small").is_err());
            tier.breaker() == BreakerState::Open
        });
        let name = format!("queued {round}");
        tier.put(&entry(&name, 50_000), BORN).unwrap();
        proxy.set(Fault::None);
        let healed = Instant::now();
        recovers(&tier);
        assert!(read_checked(&tier, &name));
        took = took.min(healed.elapsed());
        if took < RECOVERY {
            return;
        }
    }
    panic!("{took:?}");
}

#[test]
fn an_outage_costs_nothing_after_some_failures_and_is_over_when_it_is_over() {
    let room = 8 << 20;
    let Some((tier, proxy, _)) = behind_proxy("outage", |it| it.queue_bytes = room) else {
        return;
    };
    proxy.set(Fault::Outage);
    eventually("the breaker opens", || {
        assert!(get(&tier, "small").is_err(), "an error is no miss");
        tier.breaker() == BreakerState::Open
    });
    assert!(
        matches!(tier.health(), Health::Offline(_)),
        "{:?}",
        tier.health()
    );
    let (asked, began) = (proxy.requests(), Instant::now());
    let offline = |_: &i32| get(&tier, "small").unwrap_err() == Unavailable::Offline;
    let refused = (0..1_000).filter(offline).count();
    assert!(
        refused >= 990,
        "{refused}: nothing is awaited but by probes"
    );
    // One request every two seconds, and a retry.
    let probes = 2 * (began.elapsed().as_secs() / 2 + 1);
    assert!(proxy.requests() <= asked + probes, "nothing else is asked");
    // A minute of it, where time is no matter: a few probes, and no more.
    let minute = Duration::from_secs(if long() { 60 } else { 0 });
    while began.elapsed() < minute {
        assert!(get(&tier, "small").is_err());
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(proxy.requests() < asked + 200, "little is asked");

    // Uploads wait, as many as there is room for.
    let mut queued = 0;
    for number in 0..100 {
        match tier.put(&entry(&format!("queued {number}"), 500_000), BORN) {
            Ok(()) => queued += 1,
            Err(dropped) => assert_eq!(dropped, Dropped::QueueFull),
        }
        assert!(tier.waiting().bytes <= room);
    }
    assert!((10..16).contains(&queued), "{queued}");
    assert_eq!(tier.stats().dropped_full.get(), 100 - queued);
    assert!(
        wait(tier.settle()).items > 0,
        "settling does not wait for the store"
    );

    proxy.set(Fault::None);
    eventually("the queue is empty", || tier.waiting().items == 0);
    recovers(&tier);
    for number in 0..queued {
        assert!(read_checked(&tier, &format!("queued {number}")), "{number}");
    }
    assert!(tier.stats().opened.get() >= 1);
    assert_eq!(tier.stats().write_failures.get(), 0);
}

#[test]
fn a_store_that_is_out_of_reach_at_first_is_used_once_it_answers() {
    let Some(moto) = moto::start() else { return };
    moto::bucket(moto, "later");
    let proxy = Proxy::before(moto.address);
    proxy.set(Fault::Outage);
    let tier = open(moto::settings(proxy.address, "later"));
    assert!(get(&tier, "small").is_err());
    assert_ne!(tier.health(), Health::Online);
    assert_eq!(tier.coordination(), Coordination::Unknown);
    tier.put(&entry("small", 5), BORN).unwrap();
    proxy.set(Fault::None);
    eventually("it is uploaded", || tier.waiting().items == 0);
    assert!(read_checked(&tier, "small"));
    eventually("the self-test ends", || {
        tier.coordination() == Coordination::Supported
    });
}

#[test]
fn a_slow_store_is_slow_and_right() {
    let Some((tier, proxy, _)) = behind_proxy("slow", |_| {}) else {
        return;
    };
    let slow = Duration::from_millis(500);
    proxy.set(Fault::Slow(slow));
    for name in ["small", "large"] {
        let began = Instant::now();
        assert!(read_checked(&tier, name));
        assert!(began.elapsed() >= slow);
    }
    let began = Instant::now();
    assert!(get(&tier, "missing").unwrap().is_none());
    assert!(began.elapsed() >= slow);
    upload(&tier, &[("more", 3 * MIB)]);
    proxy.set(Fault::None);
    recovers(&tier);
}

#[test]
fn a_store_that_does_not_answer_costs_its_deadline() {
    let Some((_, proxy, _)) = behind_proxy("silent", |_| {}) else {
        return;
    };
    let deadline = Duration::from_secs(1);
    let mut settings = moto::settings(proxy.address, "silent");
    settings.deadlines.small = deadline;
    // Of its own accord it asks for a listing, and for nothing else.
    settings.mode = Mode::ReadOnly;
    let tier = open(settings);
    proxy.set(Fault::Silence);
    let began = Instant::now();
    assert_eq!(get(&tier, "small").unwrap_err(), Unavailable::TimedOut);
    assert!((deadline..deadline * 5).contains(&began.elapsed()));
    // Whoever leaves takes the request along.
    let patience = Duration::from_millis(50);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let left = runtime
        .block_on(async { tokio::time::timeout(patience, tier.get(key("small").view())).await });
    assert!(left.is_err());
    assert_eq!(tier.reading(), 0);
    eventually("the request is given up", || {
        tier.stats().requests(Request::Get, Outcome::Abandoned) == 1
    });
    proxy.set(Fault::None);
    recovers(&tier);
}

#[test]
fn one_error_in_ten_is_made_up_for() {
    let Some((tier, proxy, _)) = behind_proxy("tenth", |_| {}) else {
        return;
    };
    proxy.set(Fault::TenthFails);
    let (mut answered, mut names) = (0, Vec::new());
    for number in 0..40 {
        let name = format!("upload {number}");
        tier.put(&entry(&name, 20_000), BORN).unwrap();
        names.push(name);
    }
    for _ in 0..100 {
        answered += u32::from(read_checked(&tier, "small"));
    }
    assert!(answered >= 80, "{answered}");
    assert_eq!(tier.stats().misses.get(), 0, "an error is no miss");
    eventually("all is uploaded", || tier.waiting().items == 0);
    assert!(tier.stats().retries.get() > 0);
    assert!(tier.stats().requests(Request::Get, Outcome::Failed) > 0);
    assert_eq!(tier.stats().write_failures.get(), 0);
    proxy.set(Fault::None);
    recovers(&tier);
    for name in names {
        assert!(read_checked(&tier, &name), "{name}");
    }
}

#[test]
fn what_a_store_asks_for_is_kept_to() {
    let Some((tier, proxy, _)) = behind_proxy("throttled", |_| {}) else {
        return;
    };
    proxy.set(Fault::Throttled(2));
    let began = Instant::now();
    assert_eq!(get(&tier, "small").unwrap_err(), Unavailable::Throttled);
    proxy.set(Fault::None);
    let asked = proxy.requests();
    tier.put(&entry("more", 100), BORN).unwrap();
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(get(&tier, "small").unwrap_err(), Unavailable::Throttled);
    }
    assert_eq!(proxy.requests(), asked, "it is left alone");
    assert!(
        matches!(tier.health(), Health::Degraded(_)),
        "{:?}",
        tier.health()
    );
    assert_eq!(tier.waiting().items, 1);
    eventually("the upload is done", || tier.waiting().items == 0);
    recovers(&tier);
    assert!(read_checked(&tier, "more"));
    assert_eq!(tier.stats().opened.get(), 0);
}

#[test]
fn bytes_that_are_wrong_or_missing_are_never_handed_out() {
    let Some((tier, proxy, _)) = behind_proxy("wrong", |_| {}) else {
        return;
    };
    for fault in [Fault::Flipped, Fault::Cut] {
        let damaged = tier.stats().damaged.get();
        proxy.set(fault);
        for _ in 0..60 {
            for name in ["small", "large"] {
                assert!(!read_checked(&tier, name), "{fault:?}: {name}");
            }
        }
        assert!(tier.stats().damaged.get() > damaged, "{fault:?}");
        proxy.set(Fault::None);
        recovers(&tier);
    }
    // What breaks is an error, not a short answer.
    let misses = tier.stats().misses.get();
    proxy.set(Fault::Broken);
    for _ in 0..20 {
        for name in ["small", "large"] {
            assert!(!read_checked(&tier, name), "{name}");
        }
    }
    assert_eq!(tier.stats().misses.get(), misses);
    proxy.set(Fault::None);
    recovers(&tier);
}

#[test]
fn content_that_breaks_while_it_is_read_is_read_on_or_an_error() {
    let Some((tier, proxy, _)) = behind_proxy("midway", |_| {}) else {
        return;
    };
    for (fault, reads_on) in [(Fault::TenthFails, true), (Fault::Flipped, false)] {
        let FoundBody::Kept(kept) = get(&tier, "large").unwrap().unwrap().body else {
            panic!("large content is read as it is wanted")
        };
        let mut at = 0;
        let mut failed = false;
        while at < kept.len() {
            match wait(kept.read(at)) {
                Ok(bytes) => {
                    check_bytes("large", at, &bytes);
                    at += u64::try_from(bytes.len()).unwrap();
                }
                Err(_) => {
                    failed = true;
                    break;
                }
            }
            proxy.set(fault);
        }
        assert_eq!(failed, !reads_on, "{fault:?}");
        proxy.set(Fault::None);
        recovers(&tier);
    }
}

#[test]
fn a_slow_answer_is_asked_for_twice() {
    let Some((tier, proxy, _)) = behind_proxy("hedged", |_| {}) else {
        return;
    };
    let learnt = (0..200).filter(|_| read_checked(&tier, "small")).count();
    assert!(learnt >= 150, "{learnt}");
    proxy.set(Fault::TenthSlow(Duration::from_secs(1)));
    // As long as the budget lasts: the machine may be slow by itself.
    let answered = (0..30).filter(|_| read_checked(&tier, "small")).count();
    assert!(answered >= 20, "{answered}");
    let stats = tier.stats();
    assert!(stats.hedges_won.get() >= 2, "{}", stats.hedges_won.get());
    assert!(
        stats.hedges.get() <= 10 + 230 / 10,
        "{}",
        stats.hedges.get()
    );
}

#[test]
fn a_store_that_lies_about_creation_is_found_out() {
    let Some(moto) = moto::start() else { return };
    moto::bucket(moto, "lying");
    let proxy = Proxy::before(moto.address);
    proxy.set(Fault::Unconditional);
    let tier = open(moto::settings(proxy.address, "lying"));
    upload(&tier, &[("small", 5_000)]);
    assert!(read_checked(&tier, "small"));
    eventually("the self-test ends", || {
        tier.coordination() != Coordination::Unknown
    });
    let Coordination::Unsupported(why) = tier.coordination() else {
        panic!("{:?}", tier.coordination())
    };
    assert!(why.contains("created"), "{why}");
    online(&tier);
}

#[test]
fn who_may_only_read_reads() {
    let Some((tier, proxy, _)) = behind_proxy("denied", |_| {}) else {
        return;
    };
    proxy.set(Fault::ReadOnly);
    for number in 0..20 {
        tier.put(&entry(&format!("denied {number}"), 100), BORN)
            .unwrap();
    }
    eventually("an upload is refused", || {
        tier.stats().write_failures.get() > 0
    });
    for _ in 0..20 {
        assert!(read_checked(&tier, "small"));
    }
    assert_eq!(tier.breaker(), BreakerState::Closed);
    let Health::Degraded(reason) = tier.health() else {
        panic!("{:?}", tier.health())
    };
    assert!(reason.contains("AWS_ACCESS_KEY_ID"), "{reason}");
    assert!(tier.waiting().items > 0, "not all are thrown away");
    proxy.set(Fault::None);
    eventually("the rest is uploaded", || tier.waiting().items == 0);
    recovers(&tier);
}

#[test]
fn what_cannot_be_uploaded_before_the_end_is_told() {
    let change = |settings: &mut Settings| settings.deadlines.drain = Duration::from_millis(300);
    let Some((tier, proxy, _)) = behind_proxy("stopped", change) else {
        return;
    };
    proxy.set(Fault::Silence);
    for number in 0..7 {
        tier.put(&entry(&format!("late {number}"), 100), BORN)
            .unwrap();
    }
    let began = Instant::now();
    let left = tier.stop();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(left.items, 7);
    assert_eq!(tier.stats().abandoned.get(), 7);
    assert_eq!(get(&tier, "small").unwrap_err(), Unavailable::Stopped);
    assert_eq!(tier.put(&entry("later", 1), BORN), Err(Dropped::Stopped));
}
