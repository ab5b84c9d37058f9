//! Components that are hard to compile: nobody waits for them but who sent them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{self, Latencies, repeated, telling_origin};
use crate::site::{activate, active, push_as};
use crate::support::edge::{Edge, Setup};
use crate::text;
use crate::upload::{error, files};

#[test]
fn requests_are_answered_while_bombs_are_refused() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let one = text::compile_bomb();
    let many = text::many_functions();
    let quiet = load::run(&edge, 1_000, repeated(16)).p99();
    let done = AtomicBool::new(false);
    let (latencies, refusals) = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let start = Instant::now();
            let answers = [
                edge.admin_put("/v1/policies/one", &one),
                edge.admin_put("/v1/policies/many", &many),
            ];
            done.store(true, Ordering::Release);
            (answers, start.elapsed())
        });
        let mut rounds = Vec::new();
        while !done.load(Ordering::Acquire) {
            rounds.push(load::run(&edge, 400, repeated(16)));
        }
        (rounds, pushing.join().expect("both are answered"))
    });
    let ([one, many], took) = refusals;
    assert_eq!(
        (one.0, error(&one.1).0.as_str()),
        (422, "compile_limit"),
        "{}",
        one.1
    );
    // What passes inspection is compiled, and refused only because it is no policy.
    assert_eq!(many.0, 422, "{}", many.1);
    // Two compilations, each ended by its own limits.
    assert!(took < Duration::from_secs(70), "{took:?}");
    let p99 = Latencies::merged(latencies).p99();
    // On a machine that is busy with something else, what that does to quiet times counts.
    let bound = Duration::from_millis(50).max(quiet * 3);
    assert!(p99 < bound, "p99 {p99:?}, and {quiet:?} before");
    assert_eq!(edge.admin_get("/healthz").0, 200);
}

#[test]
fn the_admin_api_answers_while_a_policy_is_compiled_to_be_used() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    // A sound policy that takes a while to compile.
    let additions = "i32.const 1 i32.add ".repeat(12_000);
    let ballast = format!("(func (result i32) i32.const 1 {additions})").repeat(20);
    let pass =
        r#"(func (export "key") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 2048))"#;
    let version = push_as(&edge, "large", &text::keying(&format!("{ballast}{pass}")));
    for path in files(&edge.data_dir().join("compiled")) {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&version))
        {
            std::fs::remove_file(path).expect("it is there");
        }
    }
    let done = AtomicBool::new(false);
    let (took, waits) = std::thread::scope(|scope| {
        let using = scope.spawn(|| {
            let start = Instant::now();
            let answer = activate(&edge, "keying", "large", &json!({}));
            done.store(true, Ordering::Release);
            (start.elapsed(), answer)
        });
        let mut waits = Vec::new();
        while !done.load(Ordering::Acquire) {
            for path in ["/healthz", "/metrics", "/v1/stats"] {
                let start = Instant::now();
                assert_eq!(edge.admin_response("GET", path, &[], b"").status(), 200);
                waits.push((start.elapsed(), path));
            }
        }
        let (took, answer) = using.join().expect("it is answered");
        assert_eq!(answer.0, 200, "{}", answer.1);
        (took, waits)
    });
    let worst = waits.iter().max().expect("some were answered");
    assert!(worst.0 < took / 2, "{worst:?} while {took:?} of compiling");
    assert_eq!(active(&edge, "keying"), format!("large@{version}"));
}
