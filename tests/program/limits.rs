//! What a run may use, and how it ends when it takes more.

use std::time::Duration;

use larder::policy::sandbox::FaultKind;
use larder::program::{Grant, RunError};

use crate::rig::{Rig, ample, bytes};

/// How the run of `script` was ended.
#[track_caller]
fn ended(rig: &Rig, grant: &Grant, script: &[&str]) -> FaultKind {
    match rig.run(grant, script) {
        Err(RunError::Ended { site, fault }) => {
            assert_eq!(site, "example");
            fault.kind
        }
        other => panic!("not ended: {other:?}"),
    }
}

#[test]
fn a_put_beyond_the_quota_is_refused_and_the_run_goes_on() {
    let rig = Rig::new(64 << 20);
    let grant = Grant {
        put_bytes: 10_200,
        ..ample()
    };
    rig.check_with(
        &grant,
        &[
            ("put a 1 4000 60000", "ok"),
            ("put b 1 4000 60000", "ok"),
            ("put c 1 4000 60000", "refused"),
            ("put a 2 4000 60000", "refused"),
            ("lookup c", "none"),
            ("read a 0 4000", &bytes(1, 0..4000)),
            // Removing gives no quota back.
            ("remove a", "true"),
            ("put c 1 4000 60000", "refused"),
            ("put c 1 100 60000", "ok"),
        ],
    );
    // A quota is for one run.
    rig.check_with(&grant, &[("put c 1 4000 60000", "ok")]);
    let reader = Grant {
        put_bytes: 0,
        ..ample()
    };
    rig.check_with(
        &reader,
        &[
            ("put d 1 0 60000", "refused"),
            ("read b 0 4000", &bytes(1, 0..4000)),
        ],
    );
}

#[test]
fn a_run_ends_at_its_limits_and_what_it_stored_stays() {
    let rig = Rig::new(64 << 20);
    let grant = Grant {
        deadline: Duration::from_millis(50),
        memory: 8 << 20,
        ..ample()
    };
    for (key, last, kind) in [
        ("one", "spin", FaultKind::Deadline),
        ("two", "trap", FaultKind::Trap),
        ("three", "grow", FaultKind::Trap),
        ("four", "answer 1048576", FaultKind::Answer),
    ] {
        let put = format!("put {key} 1 10 60000");
        assert_eq!(ended(&rig, &grant, &[&put, last]), kind, "{last}");
        rig.check(&[(&format!("read {key} 0 10"), &bytes(1, 0..10))]);
    }
    assert_eq!(rig.domain.usage().entries, 4);
    let small = Grant {
        memory: 64 << 10,
        ..ample()
    };
    assert_eq!(ended(&rig, &small, &["usage"]), FaultKind::Instance);
}

#[test]
fn a_program_that_fails_says_so_in_its_own_words() {
    let rig = Rig::new(64 << 20);
    for (script, words) in [
        (["put a 1 10 60000", "fail no-more"], "no-more"),
        (
            ["put a 1 10 60000", "juggle"],
            "there is no command \"juggle\"",
        ),
    ] {
        match rig.run(&ample(), &script) {
            Err(RunError::Failed(message)) => assert_eq!(message, words),
            other => panic!("it did not fail: {other:?}"),
        }
    }
    assert_eq!(rig.run(&ample(), &[]).expect("an empty script"), "");
}
