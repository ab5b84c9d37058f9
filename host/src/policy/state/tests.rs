//! The rules over activations as tables and laws, and the file behind them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn record(policy: &str, file_value: &str) -> Record {
    let params = json!({ "drop": ["utm_*"] }).as_object().unwrap().clone();
    Record {
        policy: policy.to_owned(),
        params,
        file_value: json!(file_value),
    }
}

/// What decides at the keying hook of site `s` when the file says `file_value`.
fn keying<'a>(table: &'a Table, file_value: &str) -> &'a str {
    match effective(&json!(file_value), table.record("s", Hook::Keying)) {
        Effective::FromFile => "the file",
        Effective::FromState(record) => &record.policy,
    }
}

fn policies(change: &Change) -> (Option<&str>, Option<&str>) {
    let policy = |record: &'_ Option<Record>| record.as_ref().map(|record| record.policy.clone());
    let leak = |policy: Option<String>| policy.map(|policy| &*policy.leak());
    (leak(policy(&change.previous)), leak(policy(&change.active)))
}

#[test]
fn an_activation_holds_until_the_file_changes_its_value() {
    let mut table = Table::default();
    assert_eq!(keying(&table, "A"), "the file");
    let change = table.activate("s", Hook::Keying, record("b@1", "A"));
    assert_eq!(
        (policies(&change), change.generation),
        ((None, Some("b@1")), 1)
    );
    assert_eq!(keying(&table, "A"), "b@1");
    assert_eq!(keying(&table, "C"), "the file");
    // The file went back: so does the decision, without a change of state.
    assert_eq!(keying(&table, "A"), "b@1");
    // Other hooks and sites are not concerned.
    assert_eq!(table.record("s", Hook::Eviction), None);
    assert_eq!(table.record("t", Hook::Keying), None);
    let change = table.activate("s", Hook::Keying, record("d@1", "C"));
    assert_eq!(
        policies(&change),
        (None, Some("d@1")),
        "the file decided before"
    );
}

#[test]
fn values_of_the_file_are_compared_whole() {
    let held = Record {
        file_value: json!({"name": "a", "params": {"x": 1}}),
        ..record("b@1", "")
    };
    for (now, from_state) in [
        (json!({"params": {"x": 1}, "name": "a"}), true),
        (json!({"name": "a", "params": {"x": 2}}), false),
        (json!({"name": "a"}), false),
        (json!("a"), false),
        (Value::Null, false),
    ] {
        let found = matches!(effective(&now, Some(&held)), Effective::FromState(_));
        assert_eq!(found, from_state, "{now}");
    }
}

#[test]
fn a_rollback_takes_back_one_change_after_another() {
    let mut table = Table::default();
    let file = |_| json!("A");
    table.activate("s", Hook::Keying, record("b@1", "A"));
    table.activate("s", Hook::Eviction, record("e@1", "A"));
    table.activate("s", Hook::Keying, record("c@1", "A"));
    let change = table.roll_back("s", None, file).unwrap();
    assert_eq!(
        (change.hook, policies(&change)),
        (Hook::Keying, (Some("c@1"), Some("b@1")))
    );
    // A hook that is named is found behind later changes.
    let change = table.roll_back("s", Some(Hook::Keying), file).unwrap();
    assert_eq!(
        (policies(&change), keying(&table, "A")),
        ((Some("b@1"), None), "the file")
    );
    let error = table.roll_back("s", Some(Hook::Keying), file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "site \"s\" has no keying activation to roll back"
    );
    let change = table.roll_back("s", None, file).unwrap();
    assert_eq!((change.hook, change.generation), (Hook::Eviction, 6));
    let error = table.roll_back("s", None, file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "site \"s\" has no activation to roll back"
    );
    assert!(table.roll_back("unknown", None, file).is_err());
    assert_eq!(table.generation(), 6, "a refused rollback is no change");
}

#[test]
fn a_rollback_overrides_a_file_that_changed_since() {
    let mut table = Table::default();
    table.activate("s", Hook::Keying, record("b@1", "A"));
    assert_eq!(keying(&table, "C"), "the file");
    // Before the file said C, b@1 ran.
    let change = table.roll_back("s", None, |_| json!("C")).unwrap();
    assert_eq!(
        (policies(&change), keying(&table, "C")),
        ((None, Some("b@1")), "b@1")
    );
    // Before that, the file decided.
    let change = table.roll_back("s", None, |_| json!("C")).unwrap();
    assert_eq!(
        (policies(&change), keying(&table, "C")),
        ((Some("b@1"), None), "the file")
    );
}

#[test]
fn only_records_count_as_use() {
    let mut table = Table::default();
    table.activate("s", Hook::Keying, record("b@1", "A"));
    table.activate("s", Hook::Keying, record("c@1", "A"));
    assert!(table.is_recorded("c@1") && !table.is_recorded("b@1") && !table.is_recorded("c@2"));
}

proptest! {
    /// Taking back every change that is still known ends where those changes began.
    #[test]
    fn rollbacks_undo_activations(
        changes in prop::collection::vec((0..3_usize, 0..5_u8), 1..40),
    ) {
        let mut table = Table::default();
        let mut before = Vec::new();
        for (hook, policy) in &changes {
            before.push(table.sites.get("s").map(|site| site.records.clone()).unwrap_or_default());
            table.activate("s", Hook::ALL[*hook], record(&format!("p@{policy}"), "A"));
            prop_assert!(table.sites["s"].history.len() <= HISTORY);
        }
        let kept = changes.len().min(HISTORY);
        for expected in before.iter().rev().take(kept) {
            table.roll_back("s", None, |_| json!("A")).unwrap();
            prop_assert_eq!(&table.sites["s"].records, expected);
        }
        prop_assert!(table.roll_back("s", None, |_| json!("A")).is_err());
        let count = u64::try_from(changes.len() + kept).unwrap();
        prop_assert_eq!(table.generation(), count);
    }
}

fn activated(activations: &Activations, policy: &str) -> Table {
    let mut table = activations.table();
    table.activate("s", Hook::Keying, record(policy, "A"));
    table
}

#[test]
fn activations_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let activations = Activations::open(Some(dir.path())).unwrap();
    assert_eq!(activations.table(), Table::default());
    for policy in ["b@1", "native:default"] {
        activations.commit(activated(&activations, policy)).unwrap();
    }
    let reopened = Activations::open(Some(dir.path())).unwrap();
    assert_eq!(reopened.table(), activations.table());
    assert_eq!(keying(&reopened.table(), "A"), "native:default");
    let mut table = reopened.table();
    table.roll_back("s", None, |_| json!("A")).unwrap();
    assert_eq!(keying(&table, "A"), "b@1");
}

#[test]
fn the_second_of_two_changes_at_once_is_refused() {
    let activations = Activations::open(None).unwrap();
    let (one, two) = (
        activated(&activations, "b@1"),
        activated(&activations, "c@1"),
    );
    activations.commit(one.clone()).unwrap();
    assert!(matches!(activations.commit(two), Err(StateError::Outdated)));
    assert!(matches!(
        activations.commit(one.clone()),
        Err(StateError::Outdated)
    ));
    assert_eq!(activations.table(), one);
}

#[test]
fn a_change_that_cannot_be_written_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let activations = Activations::open(Some(dir.path())).unwrap();
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let error = activations
        .commit(activated(&activations, "b@1"))
        .unwrap_err();
    assert!(
        matches!(&error, StateError::File(_)) && error.to_string().contains("activations.json")
    );
    assert_eq!(activations.table(), Table::default());
}

#[test]
fn a_damaged_file_is_set_aside() {
    let good = serde_json::to_vec(&Stored {
        format: FORMAT,
        table: Table::default(),
    })
    .unwrap();
    let newer = br#"{"format":2,"table":{"sites":[]}}"#;
    for damaged in [
        b"".as_slice(),
        b"{",
        b"[]",
        &good[..good.len() - 1],
        newer,
        &[0xff; 64],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::write(state.join("activations.json"), damaged).unwrap();
        let activations = Activations::open(Some(dir.path())).unwrap();
        assert_eq!(activations.table(), Table::default());
        assert_eq!(
            fs::read(state.join("activations.json.corrupt")).unwrap(),
            damaged
        );
        activations.commit(activated(&activations, "b@1")).unwrap();
        let reopened = Activations::open(Some(dir.path())).unwrap();
        assert_eq!(keying(&reopened.table(), "A"), "b@1");
    }
}
