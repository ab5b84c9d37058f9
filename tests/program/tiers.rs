//! Every call of interface `tiers`, and every answer it has.

use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use larder::policy::inspect;

use crate::driver;
use crate::rig::{Rig, ample, bytes, hash};

const NOTHING: &str = "0 bytes, hash cbf29ce484222325";

#[test]
fn every_call_does_what_the_interface_says() {
    let rig = Rig::new(64 << 20);
    rig.check(&[
        ("lookup a", "none"),
        ("put a 1 1000 60000 red blue red", "ok"),
        ("put b 2 10 9007199254740993 red", "ok"),
        ("put c 3 0 9007199254740992", "ok"),
        (
            "lookup a",
            "1000 bytes in memory, fresh, lifetime 60000, tags [red blue]",
        ),
        (
            "lookup b",
            "10 bytes in memory, fresh, lifetime 18446744073709551615, tags [red]",
        ),
        (
            "lookup c",
            "0 bytes in memory, fresh, lifetime 9007199254740992, tags []",
        ),
        ("read a 0 1000", &bytes(1, 0..1000)),
        ("read b 3 4", &bytes(2, 3..7)),
        ("read c 0 10", NOTHING),
        ("put b 4 20 60000", "ok"),
        ("read b 0 1048576", &bytes(4, 0..20)),
        ("purge red", "1"),
        ("lookup a", "none"),
        (
            "lookup b",
            "20 bytes in memory, fresh, lifetime 60000, tags []",
        ),
        ("purge red", "0"),
        ("remove b", "true"),
        ("remove b", "false"),
        ("lookup b", "none"),
        ("remove c", "true"),
        ("usage", "memory: 0 entries, 0 of 67108864 bytes"),
    ]);
    assert_eq!(rig.domain.usage().bytes, 0);
}

#[test]
fn a_large_body_is_read_back_in_pieces_of_any_size() {
    let rig = Rig::new(64 << 20);
    let size = 5_000_000;
    let whole = hash(9, 0..size);
    rig.check(&[
        ("put large 9 5000000 60000", "ok"),
        (
            "scan large 1048576",
            &format!("5000000 bytes in 5 reads, hash {whole:016x}"),
        ),
        (
            "scan large 100003",
            &format!("5000000 bytes in 50 reads, hash {whole:016x}"),
        ),
        (
            "read large 4999999 1048576",
            &bytes(9, 4_999_999..5_000_000),
        ),
        ("read large 1048575 2", &bytes(9, 1_048_575..1_048_577)),
    ]);
}

#[test]
fn wrong_ranges_have_an_answer() {
    Rig::new(64 << 20).check(&[
        ("put a 1 100 60000", "ok"),
        ("read a 0 0", NOTHING),
        ("read a 100 1", NOTHING),
        ("read a 101 1", NOTHING),
        ("read a 18446744073709551615 1048576", NOTHING),
        ("read a 99 4", &bytes(1, 99..100)),
        ("read a 0 1048577", "too-large"),
        ("read a 0 4294967295", "too-large"),
        ("scan a 4294967295", "too-large"),
    ]);
}

#[test]
fn unknown_expired_and_impossible_keys_have_an_answer() {
    Rig::new(64 << 20).check(&[
        ("lookup none", "none"),
        ("read none 0 1", "not-found"),
        ("remove none", "false"),
        ("put brief 1 10 0", "ok"),
        (
            "lookup brief",
            "10 bytes in memory, stale, lifetime 0, tags []",
        ),
        ("read brief 0 10", "not-found"),
        ("put '' 1 10 60000", "ok"),
        ("read '' 0 10", &bytes(1, 0..10)),
        ("put *1024 2 10 60000", "ok"),
        ("read *1024 0 10", &bytes(2, 0..10)),
        ("put *1025 1 10 60000", "refused"),
        ("lookup *1025", "refused"),
        ("read *1025 0 1", "refused"),
        ("remove *1025", "refused"),
        ("put \u{fc} 3 10 60000", "ok"),
        ("read \u{fc} 0 10", &bytes(3, 0..10)),
    ]);
}

#[test]
fn tags_out_of_bounds_are_refused_and_store_nothing() {
    let sixty_four: Vec<String> = (0..64).map(|tag| format!("t{tag}")).collect();
    let shown = sixty_four.join(" ");
    Rig::new(64 << 20).check(&[
        ("put a 1 10 60000 a,b", "refused"),
        ("put a 1 10 60000 fine ''", "refused"),
        ("put a 1 10 60000 *257", "refused"),
        ("put a 1 10 60000 \u{e9}", "refused"),
        ("tag a 65", "refused"),
        ("lookup a", "none"),
        ("purge a,b", "refused"),
        ("purge ''", "refused"),
        ("purge *257", "refused"),
        ("put a 1 10 60000 *256", "ok"),
        ("purge *256", "1"),
        ("tag a 64", "ok"),
        (
            "lookup a",
            &format!("0 bytes in memory, fresh, lifetime 18446744073709551615, tags [{shown}]"),
        ),
        ("purge t63", "1"),
        ("purge t0", "0"),
    ]);
}

#[test]
fn a_body_that_the_tier_cannot_take_is_too_large() {
    let rig = Rig::new(1 << 20);
    rig.check(&[
        ("put a 1 1000 60000", "ok"),
        ("put a 1 262144 60000", "too-large"),
        ("lookup a", "none"),
        ("put a 1 250000 60000", "ok"),
        (
            "scan a 100000",
            &format!("250000 bytes in 3 reads, hash {:016x}", hash(1, 0..250_000)),
        ),
    ]);
    // A tier that keeps nothing takes nothing.
    Rig::new(0).check(&[("put a 1 0 60000", "refused"), ("lookup a", "none")]);
}

#[test]
fn filling_far_beyond_the_capacity_never_exceeds_it() {
    let rig = Rig::new(2 << 20);
    thread::scope(|scope| {
        // Dropped at the end of this block, however it ends.
        let (running, done) = mpsc::channel::<()>();
        let samples = scope.spawn(|| {
            let (mut samples, done) = (0_u64, done);
            while done.try_recv() == Err(TryRecvError::Empty) {
                let usage = rig.domain.usage();
                assert!(usage.bytes <= usage.capacity, "{usage:?}");
                samples += 1;
            }
            samples
        });
        // Two programs at once, for three times the capacity each.
        let fill = || rig.run(&ample(), &["fill 1500 4096"]).expect("it ran");
        let other = scope.spawn(fill);
        for transcript in [fill(), other.join().expect("it ran")] {
            let outcome = transcript.trim_end().strip_prefix("fill 1500 4096 -> ");
            let outcome = outcome.expect("the call comes first");
            assert!(outcome.starts_with("1500 stored, at most "), "{outcome}");
            assert!(
                outcome.ends_with(" bytes, 0 times over capacity"),
                "{outcome}"
            );
        }
        drop(running);
        assert!(samples.join().expect("never above capacity") > 0);
    });
    let usage = rig.domain.usage();
    assert!(
        usage.bytes > usage.capacity / 2,
        "it is well filled: {usage:?}"
    );
    rig.check(&[
        ("purge fill", &usage.entries.to_string()),
        ("usage", "memory: 0 entries, 0 of 2097152 bytes"),
    ]);
}

#[test]
fn what_a_run_stored_is_there_for_the_next_one_and_for_no_other_site() {
    let rig = Rig::new(64 << 20);
    rig.check(&[("put a 1 100 60000 tag", "ok")]);
    rig.check(&[("read a 0 100", &bytes(1, 0..100))]);
    let script = serde_json::json!({ "script": ["read a 0 1", "remove a", "purge tag", "usage"] });
    let params = script.as_object().expect("it is one");
    let other = driver::program()
        .run(&ample(), rig.chain(1), params)
        .expect("it ran");
    let bytes = rig.domain.usage().bytes;
    assert_eq!(
        other,
        format!(
            "read a 0 1 -> not-found\nremove a -> false\npurge tag -> 0\n\
             usage -> memory: 1 entries, {bytes} of 67108864 bytes\n"
        )
    );
}

#[test]
fn a_program_is_no_policy() {
    let limits = inspect::Limits::default();
    let refusal = inspect::inspect(driver::wasm(), &limits).expect_err("it imports the tiers");
    assert_eq!(refusal.code, "imports");
    assert!(
        refusal.message.contains("larder:cache/tiers@0.1.0"),
        "{}",
        refusal.message
    );
}
