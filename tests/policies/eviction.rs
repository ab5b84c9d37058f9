//! Eviction policies through the whole program: a small memory, small objects, and guests that
//! do well, badly, or nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures;
use crate::load::{CLIENTS, Latencies};
use crate::site::{active, at_hook, faults, push, push_as, use_policy};
use crate::support::edge::{Edge, Setup};
use crate::support::metrics::Metrics;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;
use crate::support::{eventually, long};

/// Bytes of an object.
const OBJECT: usize = 4 << 10;

fn objects() -> Origin {
    Origin::always(Reply::cached(pattern::bytes(OBJECT)))
}

fn small(origin: &Origin) -> Edge {
    let edge = Setup::before(origin).flag("--memory", "8MiB").start();
    push(&edge, fixtures::rogue());
    edge
}

fn evicted(metrics: &Metrics, reason: &str) -> u64 {
    metrics.count("larder_evictions_total", &[&format!("reason=\"{reason}\"")])
}

/// Requests `count` targets from [`CLIENTS`] clients, while somebody looks at the budget all the
/// time. Share of hits.
#[track_caller]
fn load(edge: &Edge, count: usize, target: impl Fn(usize) -> String + Sync) -> f64 {
    let (next, hits, over) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let work = || {
        let mut client = edge.client();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let response = client.get(&target(number));
            assert_eq!((response.status(), response.body.len()), (200, OBJECT));
            pattern::check(0, &response.body);
            hits.fetch_add(usize::from(response.is_hit()), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut samples = 0;
            while !over.load(Ordering::Acquire) || samples == 0 {
                let metrics = edge.metrics();
                let bytes = metrics.count("larder_tier_bytes", &[]);
                let capacity = metrics.count("larder_tier_capacity_bytes", &[]);
                assert!(bytes <= capacity, "{bytes} of {capacity} bytes");
                samples += 1;
            }
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        let ended: Vec<_> = clients
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Release);
        watch.join().expect("the budget holds");
        assert!(
            ended.iter().all(Result::is_ok),
            "every request is answered correctly"
        );
    });
    let share = |part: usize| f64::from(u32::try_from(part).expect("few"));
    share(hits.into_inner()) / share(count)
}

/// Fills the memory and half as much again with objects nobody asked for before.
fn overfill(edge: &Edge, round: &str) {
    load(edge, 3_000, |number| format!("/{round}/{number}"));
}

/// Every third request is for a new object, the others for one of a few hundred.
fn mixed(round: &str) -> impl Fn(usize) -> String + Sync {
    let round = round.to_owned();
    move |number| match number % 3 {
        0 => format!("/{round}/once/{number}"),
        _ => format!("/popular/{}", (number * 7_919) % 400),
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a figure for whoever reads along")]
fn the_shipped_policies_evict_and_keep_what_is_asked_for() {
    let origin = objects();
    let edge = small(&origin);
    let policies = [
        "s3-fifo",
        "lru",
        "sieve",
        "two-q",
        "arc",
        "w-tinylfu",
        "gdsf",
        "adaptive",
    ];
    for policy in policies {
        if policy != "s3-fifo" {
            use_policy(&edge, "eviction", policy, &json!({}));
        }
        assert!(active(&edge, "eviction").starts_with(policy));
        overfill(&edge, policy);
        let before = edge.metrics();
        let hits = load(&edge, 6_000, mixed(policy));
        edge.flush();
        let after = edge.metrics();
        let counted = |reason: &str| evicted(&after, reason) - evicted(&before, reason);
        let (policy_, refused) = (counted("policy"), counted("refused"));
        let overrun = counted("native_overrun");
        let puts = after.count("larder_tier_writes_total", &[])
            - before.count("larder_tier_writes_total", &[]);
        eprintln!(
            "{policy}: hits {hits:.3}, by policy {policy_}, refused {refused}, overrun {overrun} of {puts} puts"
        );
        assert!(hits > 0.5, "{policy}: {hits}");
        assert!(policy_ + refused > 1_000, "{policy}: {policy_}");
        assert!(overrun * 100 <= puts, "{policy}: {overrun} of {puts}");
        let label = active(&edge, "eviction");
        assert_eq!(faults(&edge, &label, "eviction", None), 0, "{policy}");
        assert_eq!(counted("native_fallback"), 0, "{policy}");
    }
}

#[test]
fn a_policy_that_exports_eviction_alone_is_told_and_asked_apart() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!(
        "apart@{}",
        push_as(&edge, "apart", &fixtures::build("apart"))
    );
    overfill(&edge, "before");
    let (at_hook, before, after) = overfilled_with(&edge, &label, &json!({}));
    assert_eq!(at_hook["active"], label.as_str());
    assert_eq!(faults(&edge, &label, "eviction", None), 0);
    let counted = |reason: &str| evicted(&after, reason) - evicted(&before, reason);
    assert!(counted("policy") > 500, "{}", counted("policy"));
    assert_eq!(counted("native_fallback"), 0);
}

/// Puts the policy in effect in a full memory and overfills it. What is counted of it then.
#[track_caller]
fn overfilled_with(edge: &Edge, label: &str, params: &Value) -> (Value, Metrics, Metrics) {
    let before = edge.metrics();
    use_policy(edge, "eviction", label, params);
    let round = params
        .to_string()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    load(edge, 1_500, |number| format!("/{round}/{number}"));
    edge.flush();
    (at_hook(edge, "eviction"), before, edge.metrics())
}

#[test]
fn a_policy_that_always_fails_is_replaced_and_the_budget_holds() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!("rogue@{}", push(&edge, fixtures::rogue()));
    overfill(&edge, "before");
    let common = [
        ("trap-observe", "trap"),
        ("loop-observe", "deadline"),
        ("trap-victims", "trap"),
        ("loop-victims", "deadline"),
        ("unknown", "answer"),
    ];
    let further = [
        ("allocate-observe", "trap"),
        ("recurse-victims", "stack"),
        ("duplicate", "answer"),
        ("endless", "answer"),
    ];
    let further = if long() { &further[..] } else { &further[2..3] };
    for &(mode, kind) in common.iter().chain(further) {
        let of = |metrics: &Metrics, kind: Option<&str>| {
            let labels = [
                Some(format!("policy=\"{label}\"")),
                kind.map(|kind| format!("kind=\"{kind}\"")),
            ];
            let labels: Vec<&str> = labels.iter().flatten().map(String::as_str).collect();
            metrics.count("larder_policy_faults_total", &labels)
        };
        let before = edge.metrics();
        use_policy(&edge, "eviction", &label, &json!({ "mode": mode }));
        // It is asked rarely, so it takes some traffic until it has failed often enough.
        let mut more = 0;
        eventually(mode, || {
            more += 1;
            load(&edge, 200, |number| format!("/{mode}/{more}/{number}"));
            active(&edge, "eviction") == "native:lru"
        });
        let state = at_hook(&edge, "eviction");
        assert_eq!(state["tripped"]["policy"], json!(label), "{mode}: {state}");
        let after = edge.metrics();
        let faults = of(&after, Some(kind)) - of(&before, Some(kind));
        assert_eq!(
            faults,
            of(&after, None) - of(&before, None),
            "{mode}: another kind of fault"
        );
        assert!(faults >= 1, "{mode}");
        // The share of faults counts from the hundredth call on, and half the calls ask for
        // victims, at most.
        assert!(faults <= 60, "{mode}: {faults} faults");
    }
}

#[test]
fn a_policy_that_names_nothing_is_completed_natively() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!("rogue@{}", push(&edge, fixtures::rogue()));
    overfill(&edge, "before");
    let (state, before, after) = overfilled_with(&edge, &label, &json!({ "mode": "nothing" }));
    assert_eq!(state["active"], json!(label), "it is no fault: {state}");
    assert!(evicted(&after, "native_fallback") > evicted(&before, "native_fallback") + 500);
    assert_eq!(evicted(&after, "policy"), evicted(&before, "policy"));
}

#[test]
fn a_policy_that_lets_nobody_in_keeps_what_it_has() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!("rogue@{}", push(&edge, fixtures::rogue()));
    load(&edge, 1_000, |number| format!("/old/{number}"));
    let (_, before, after) = overfilled_with(&edge, &label, &json!({ "mode": "newest" }));
    let refused = evicted(&after, "refused") - evicted(&before, "refused");
    let policy = evicted(&after, "policy") - evicted(&before, "policy");
    assert!(refused > 100, "{refused} refused, {policy} evicted");
    let hits = load(&edge, 1_000, |number| format!("/old/{number}"));
    assert!(hits > 0.9, "{hits}");
}

#[test]
fn a_policy_that_names_everything_loses_no_budget_and_no_byte() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!("rogue@{}", push(&edge, fixtures::rogue()));
    overfill(&edge, "before");
    let (_, _, after) = overfilled_with(&edge, &label, &json!({ "mode": "everything" }));
    let left = after.count("larder_tier_entries", &[]);
    assert!(left > 100, "it may not empty the memory: {left} entries");
    assert_eq!(after.count("larder_tier_shard_resets_total", &[]), 0);
}

#[test]
fn a_new_instance_is_told_of_the_residents() {
    let origin = objects();
    let edge = small(&origin);
    let label = format!("rogue@{}", push(&edge, fixtures::rogue()));
    overfill(&edge, "before");
    let residents = edge.metrics().count("larder_tier_entries", &[]);
    // Shards are filled about evenly, and there are no more of them than this.
    let shards_at_most = 64;
    let at_least = residents / shards_at_most;
    assert!(at_least > 10, "{residents} residents");
    let told = json!({ "mode": "told", "at_least": at_least });
    let (state, before, after) = overfilled_with(&edge, &label, &told);
    assert_eq!(state["active"], json!(label), "{state}");
    assert_eq!(faults(&edge, &label, "eviction", None), 0);
    assert!(evicted(&after, "policy") > evicted(&before, "policy"));
    // The fixture can tell: nobody could be told of so many.
    let told = json!({ "mode": "told", "at_least": u32::MAX });
    overfilled_with(&edge, &label, &told);
    assert!(faults(&edge, &label, "eviction", Some("trap")) > 0);
}

#[test]
fn requests_do_not_wait_for_an_eviction_policy() {
    let origin = objects();
    let edge = small(&origin);
    push(&edge, fixtures::rogue());
    overfill(&edge, "before");
    let hot: Vec<String> = (0..50).map(|number| format!("/hot/{number}")).collect();
    let latencies = |mode: &str| {
        use_policy(&edge, "eviction", "rogue", &json!({ "mode": mode }));
        for target in &hot {
            edge.get(target);
        }
        Latencies::of(&edge, 1_000, |number| hot[number % hot.len()].clone())
    };
    let (well, badly) = (latencies("behave"), latencies("loop-observe"));
    // One that waited would take the 5 ms of a call's deadline; a busy machine may well take twice
    // the time for anything.
    let bound = (well.median() * 2).max(Duration::from_millis(1));
    assert!(
        badly.median() < bound,
        "{:?} and {:?}",
        badly.median(),
        well.median()
    );
}
