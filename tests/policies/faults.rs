//! Keying and freshness policies that fail under load: every request is answered, the fault is
//! counted by its kind, the breaker trips, and what ran before comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{self, CLIENTS, Latencies, new_ones, repeated, telling_origin, told};
use crate::site::{active, at_hook, calls, faults, push, push_as, use_policy};
use crate::support::edge::{Edge, Setup};
use crate::support::pattern::to_u64;
use crate::{fixtures, text};

/// Faults in a row that trip a breaker.
const IN_A_ROW: u64 = 5;

/// What a call may take that ends at its deadline of 5 ms of running: that, 5 ms, and what a
/// machine adds that runs other tests meanwhile. The quickest of five has waited least.
const QUICKEST: Duration = Duration::from_millis(10 + 15);
/// The same under load, where a request may wait for the calls of others as well.
const UNDER_LOAD: Duration = Duration::from_millis(300);

/// Numbers the rounds of [`fails_always`].
static ROUND: AtomicUsize = AtomicUsize::new(0);

/// Puts the policy in effect, loads the edge, and checks everything that must hold of a policy
/// that fails at every call.
#[track_caller]
fn fails_always(edge: &Edge, hook: &str, policy: &str, params: &Value, kind: &str) {
    let what = format!("{hook} {policy} {params}");
    let before = (
        calls(edge, hook),
        faults(edge, policy, hook, Some(kind)),
        faults(edge, policy, hook, None),
    );
    // Each round asks for what no round before asked for.
    let round = format!("round-{}", ROUND.fetch_add(1, Ordering::Relaxed));
    use_policy(edge, hook, policy, params);
    let alone = Latencies::of(edge, 4, |number| format!("/{round}/alone/{number}"));
    assert!(alone.at(0) < QUICKEST, "{what}: {alone:?}");
    let requests = 300;
    let latencies = load::run(edge, requests, new_ones(&round));
    assert!(
        latencies.p99() < UNDER_LOAD,
        "{what}: p99 {:?}",
        latencies.p99()
    );
    assert_eq!(calls(edge, hook) - before.0, to_u64(requests) + 4, "{what}");

    let of_kind = faults(edge, policy, hook, Some(kind)) - before.1;
    let all = faults(edge, policy, hook, None) - before.2;
    assert_eq!(of_kind, all, "{what}: another kind of fault");
    // Each client's call under way when it trips may fail as well.
    let most = IN_A_ROW + to_u64(CLIENTS);
    assert!((IN_A_ROW..=most).contains(&all), "{what}: {all} faults");
    let state = at_hook(edge, hook);
    let native = if hook == "keying" {
        "native:default"
    } else {
        "native:rfc9111"
    };
    assert_eq!(state["active"], native, "{what}");
    assert_eq!(state["tripped"]["policy"], policy, "{what}");
    assert_eq!(state["tripped"]["reason"], "5 faults in a row", "{what}");
}

#[test]
fn a_keying_policy_that_always_fails_is_replaced_by_the_native_rule() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    for (params, kind) in [
        (json!({ "mode": "trap" }), "trap"),
        (json!({ "mode": "loop" }), "deadline"),
        (json!({ "mode": "recurse" }), "stack"),
        (json!({ "mode": "allocate" }), "trap"),
        (json!({ "mode": "answer", "target": "" }), "answer"),
        (
            json!({ "mode": "answer", "target": "http://evil.test/x" }),
            "answer",
        ),
        (
            json!({ "mode": "answer", "target": "/a\r\nX-Injected: 1" }),
            "answer",
        ),
        (json!({ "mode": "answer", "target": "/a b" }), "answer"),
        (json!({ "mode": "answer", "target": "/a#b" }), "answer"),
        (json!({ "mode": "answer", "target": "/\u{fc}" }), "answer"),
        (json!({ "mode": "answer", "target": "/\u{0}" }), "answer"),
        (json!({ "mode": "long", "bytes": 8193 }), "answer"),
        (json!({ "mode": "long-variant", "bytes": 257 }), "answer"),
        // More than its memory: it does not live to answer.
        (json!({ "mode": "long", "bytes": 10_000_000 }), "trap"),
    ] {
        fails_always(&edge, "keying", &rogue, &params, kind);
    }
    let asked = origin.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.field("x-injected").is_none())
    );
}

#[test]
fn a_target_of_ten_megabytes_is_a_wrong_answer() {
    let origin = telling_origin();
    // Memory and time enough to make it.
    let setup = Setup::before(&origin).set("limits.policy_memory", "32MiB");
    let edge = setup.set("limits.policy_deadline", "1s").start();
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    use_policy(
        &edge,
        "keying",
        &rogue,
        &json!({ "mode": "long", "bytes": 10_000_000 }),
    );
    for number in 0..10 {
        let target = format!("/{number}");
        assert_eq!(edge.get(&target).text(), told(&target));
    }
    assert_eq!(faults(&edge, &rogue, "keying", Some("answer")), IN_A_ROW);
    assert_eq!(faults(&edge, &rogue, "keying", None), IN_A_ROW);
    assert_eq!(active(&edge, "keying"), "native:default");
}

#[test]
fn strings_that_are_none_are_faults() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    // Not UTF-8; within memory but longer than a target may be; outside of memory.
    for (name, pointer, length) in [
        ("bytes", 512, 3),
        ("outside", 65_000, 1 << 30),
        ("wraps", u32::MAX - 1, 64),
    ] {
        let wasm = fixtures::raw_target(pointer, length);
        let policy = format!("{name}@{}", push_as(&edge, name, &wasm));
        fails_always(&edge, "keying", &policy, &json!({}), "trap");
    }
    let wasm = fixtures::raw_target(1024, 8193);
    let policy = format!("zeros@{}", push_as(&edge, "zeros", &wasm));
    fails_always(&edge, "keying", &policy, &json!({}), "answer");
}

#[test]
fn a_component_written_as_text_can_be_a_policy() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let pass = text::keying(
        r#"(func (export "key") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 2048))"#,
    );
    let policy = format!("pass@{}", push_as(&edge, "pass", &pass));
    use_policy(&edge, "keying", &policy, &json!({}));
    load::run(&edge, 50, repeated(1));
    assert_eq!(origin.total(), 50, "passed requests are not stored");
    assert_eq!(faults(&edge, &policy, "keying", None), 0);
}

#[test]
fn a_freshness_policy_that_always_fails_is_replaced_by_the_native_rule() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    for (params, kind) in [
        (json!({ "mode": "trap" }), "trap"),
        (json!({ "mode": "loop" }), "deadline"),
        (json!({ "mode": "recurse" }), "stack"),
        (json!({ "mode": "allocate" }), "trap"),
        (
            json!({ "mode": "store", "lifetime_ms": 60_000, "tags": 65 }),
            "answer",
        ),
        (
            json!({ "mode": "store", "lifetime_ms": 60_000, "tags": 1, "tag": "" }),
            "answer",
        ),
        (
            json!({ "mode": "store", "lifetime_ms": 60_000, "tags": 1, "tag": "a b" }),
            "answer",
        ),
        (
            json!({ "mode": "store", "lifetime_ms": 60_000, "tags": 1, "tag": "a,b" }),
            "answer",
        ),
    ] {
        fails_always(&edge, "freshness", &rogue, &params, kind);
    }
    // What was answered in the policy's place is the native rule: stored for a minute.
    let total = origin.total();
    use_policy(
        &edge,
        "freshness",
        &rogue,
        &json!({ "mode": "trap", "tag": "once" }),
    );
    assert!(!edge.get("/once").is_hit());
    edge.flush();
    assert!(edge.get("/once").is_hit());
    assert_eq!(origin.total(), total + 1);
}

#[test]
fn rare_faults_are_counted_and_many_trip_the_breaker() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    let every = |trap: usize| {
        move |number: usize| {
            let word = if number % trap == trap - 1 {
                "trap"
            } else {
                "page"
            };
            let target = format!("/{word}/{}", number % 20);
            (target.clone(), target)
        }
    };
    use_policy(
        &edge,
        "keying",
        &rogue,
        &json!({ "mode": "trap-on-demand" }),
    );
    let requests = 3_000;
    load::run(&edge, requests, every(200));
    assert_eq!(faults(&edge, &rogue, "keying", Some("trap")), 15);
    assert_eq!(active(&edge, "keying"), rogue, "half a percent is borne");

    load::run(&edge, 2_000, every(50));
    let state = at_hook(&edge, "keying");
    assert_eq!(state["active"], "native:default");
    assert_eq!(
        state["tripped"]["reason"],
        "faults in more than 1 % of the last 1,000 calls"
    );
    // Eleven in a thousand are more than one percent; the calls under way may add theirs.
    let later = faults(&edge, &rogue, "keying", Some("trap")) - 15;
    assert!(
        later <= 11 + to_u64(CLIENTS),
        "{later} faults until it tripped"
    );
}

#[test]
fn traps_at_random_never_fail_a_request() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    use_policy(
        &edge,
        "keying",
        &rogue,
        &json!({ "mode": "trap-sometimes", "one_in": 100 }),
    );
    let requests = if crate::support::long() {
        20_000
    } else {
        2_000
    };
    let before = calls(&edge, "keying");
    load::run(&edge, requests, new_ones("random"));
    assert_eq!(calls(&edge, "keying") - before, to_u64(requests));
    assert!(faults(&edge, &rogue, "keying", Some("trap")) > 0);
    assert_eq!(
        faults(&edge, &rogue, "keying", Some("trap")),
        faults(&edge, &rogue, "keying", None)
    );
}

#[test]
fn a_breaker_returns_to_the_last_version_that_worked() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let good = format!("rogue@{}", push(&edge, fixtures::rogue()));
    let bad = format!("rogue@{}", push(&edge, &fixtures::rogue_again(2)));
    let params = json!({ "mode": "path" });
    use_policy(&edge, "keying", &good, &params);
    let paths = |number: usize| {
        (
            format!("/p{}?n={number}", number % 10),
            format!("/p{}", number % 10),
        )
    };
    load::run(&edge, 10_000, paths);
    assert_eq!(origin.total(), 10, "all queries share what is stored");

    use_policy(&edge, "keying", &bad, &json!({ "mode": "trap" }));
    let plain = |number: usize| (format!("/p{}", number % 10), format!("/p{}", number % 10));
    load::run(&edge, 200, plain);
    let state = at_hook(&edge, "keying");
    assert_eq!(
        (&state["active"], &state["params"]),
        (&json!(good), &params),
        "{state}"
    );
    assert_eq!(state["tripped"]["policy"], json!(bad));
    let total = origin.total();
    load::run(&edge, 200, paths);
    assert_eq!(origin.total(), total, "its keys are still good");
}

#[test]
fn a_policy_that_was_taken_out_can_be_put_in_again() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let rogue = format!("rogue@{}", push(&edge, fixtures::rogue()));
    let params = json!({ "mode": "trap-on-demand" });
    use_policy(&edge, "keying", &rogue, &params);
    for number in 0..5 {
        let target = format!("/trap/{number}");
        assert_eq!(edge.get(&target).text(), told(&target));
    }
    assert_eq!(active(&edge, "keying"), "native:default");
    // The operator has seen to the cause and asks for the same again.
    let answer = use_policy(&edge, "keying", &rogue, &params);
    assert_eq!(answer["active"], json!(rogue), "{answer}");
    assert_eq!(active(&edge, "keying"), rogue);
}

/// Targets that clients send and that no standard allows, in what a server does not refuse.
const ODD: [&str; 10] = [
    "{1}", "\"q\"", "a|b", "a^b", "a`b", "a\\b", "<a>", "\u{fc}", "%zz", "a#b",
];

/// Sends every odd target often enough to trip a breaker, and fails if one did.
#[track_caller]
fn bears_odd_targets(edge: &Edge) {
    let policy = active(edge, "keying");
    let send = |line: &str| {
        let mut client = edge.client();
        client.send(format!("{line} HTTP/1.1\r\nHost: edge.test\r\n\r\n"));
        let head = client.head();
        assert!(matches!(head.status, 200 | 400), "{line}: {head:?}");
    };
    for odd in ODD {
        for number in 0..10 {
            // The parameters are out of order, so that a policy that sorts them has to answer a
            // target of its own.
            send(&format!("GET /?z={odd}&a={number}"));
            send(&format!("GET /{odd}?z={number}&a"));
        }
        let state = at_hook(edge, "keying");
        assert_eq!(state["active"], json!(policy), "{odd}: {state}");
    }
    (0..10).for_each(|_| send("OPTIONS *"));
    let state = at_hook(edge, "keying");
    assert_eq!(state["active"], json!(policy), "OPTIONS *: {state}");
}

#[test]
fn no_client_can_trip_a_shipped_policy_by_what_it_asks_for() {
    let origin = telling_origin();
    let edge = Setup::site(&origin, "[site.policy]\nkeying = \"normalize-query\"").start();
    assert!(active(&edge, "keying").starts_with("normalize-query@"));
    bears_odd_targets(&edge);
}

#[test]
fn no_client_can_trip_a_policy_that_answers_what_came() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "echo" }));
    bears_odd_targets(&edge);
}

#[test]
fn after_a_trip_requests_are_as_fast_as_with_the_native_rule() {
    let origin = telling_origin();
    let (native, tripped) = (Edge::before(&origin), Edge::before(&origin));
    let rogue = format!("rogue@{}", push(&tripped, fixtures::rogue()));
    use_policy(&tripped, "keying", &rogue, &json!({ "mode": "loop" }));
    for edge in [&native, &tripped] {
        load::run(edge, 500, repeated(10));
        assert_eq!(active(edge, "keying"), "native:default");
    }
    // By turns, and the best of several: what else the machine does then hits both.
    let pages = repeated(10);
    let best = |edge: &Edge| Latencies::of(edge, 400, |number| pages(number).0).median();
    let mut least = (best(&native), best(&tripped));
    for round in 0..40 {
        let enough = round >= 8 && least.1 < least.0 * 3 / 2;
        if enough {
            break;
        }
        least = (least.0.min(best(&native)), least.1.min(best(&tripped)));
    }
    let (native, tripped) = least;
    assert!(
        tripped < native * 3 / 2,
        "{tripped:?} after a trip, {native:?} without"
    );
}
