//! Every kind of store keeps entries alike.

use larder::tier::object::{
    Coordination, Environment, Health, Mode, ObjectTier, Outcome, Request, Settings,
};

use crate::edge::{BORN, check, check_bytes, entry, get, key, online, open, upload, wait};
use crate::moto;
use crate::support::eventually;
use crate::support::tls::Certificate;
use larder::tier::found::FoundBody;

const MIB: usize = 1 << 20;

/// Sizes about every boundary: nothing, one piece, inline, one part, several parts.
const ENTRIES: [(&str, usize); 7] = [
    ("empty", 0),
    ("one", 1),
    ("inline", MIB),
    ("own", MIB + 1),
    ("chunks", 3 * MIB),
    ("part", 8 * MIB),
    ("parts", 17 * MIB + 5),
];

fn contract(tier: &ObjectTier) {
    for (name, _) in ENTRIES {
        assert!(get(tier, name).unwrap().is_none(), "{name}");
    }
    upload(tier, &ENTRIES);
    for (name, length) in ENTRIES {
        let found = get(tier, name).unwrap().expect(name);
        assert_eq!(check(name, found), u64::try_from(length).unwrap());
    }
    let whole = get(tier, "inline").unwrap().unwrap();
    assert!(matches!(whole.body, FoundBody::Whole(_)));

    // Any place of large content, by itself.
    let FoundBody::Kept(kept) = get(tier, "parts").unwrap().unwrap().body else {
        panic!("large content is read as it is wanted")
    };
    for at in [0, 1, 262_143, 262_144, 8 << 20, (17 << 20) + 4] {
        let bytes = wait(kept.read(at)).unwrap();
        assert!(!bytes.is_empty());
        check_bytes("parts", at, &bytes);
    }
    assert!(wait(kept.read(17 << 20 | 5)).unwrap().is_empty());
    assert!(wait(kept.read(u64::MAX)).unwrap().is_empty());

    // What replaces is seen, and who still reads what it replaced reads on.
    upload(tier, &[("parts", 9 * MIB), ("chunks", 7), ("one", 2 * MIB)]);
    for (name, length) in [("parts", 9 * MIB), ("chunks", 7), ("one", 2 * MIB)] {
        let found = get(tier, name).unwrap().expect(name);
        assert_eq!(check(name, found), u64::try_from(length).unwrap());
    }
    let bytes = wait(kept.read(16 << 20)).unwrap();
    check_bytes("parts", 16 << 20, &bytes);

    for name in ["parts", "inline", "never stored"] {
        tier.remove(key(name).view());
    }
    assert_eq!(wait(tier.settle()).items, 0);
    for name in ["parts", "inline", "never stored"] {
        assert!(get(tier, name).unwrap().is_none(), "{name}");
    }
    let stats = tier.stats();
    assert_eq!(stats.hits.get(), 12);
    assert_eq!(stats.misses.get(), 10);
    assert_eq!((stats.writes.get(), stats.removals.get()), (10, 3));
    assert_eq!((stats.errors.get(), stats.damaged.get()), (0, 0));
    assert!(stats.requests(Request::Get, Outcome::Done) >= 12);
    assert_eq!(stats.requests(Request::Create, Outcome::Done), 2);
    assert_eq!(stats.requests(Request::Part, Outcome::Done), 3 + 2);
    online(tier);
    eventually("the self-test ends", || {
        tier.coordination() == Coordination::Supported
    });
    assert_eq!(tier.stop().items, 0);
    assert!(tier.put(&entry("late", 1), BORN).is_err());
}

#[test]
fn memory_keeps_entries() {
    contract(&open(Settings::new("memory://")));
}

#[test]
fn a_directory_keeps_entries_also_when_it_is_opened_again() {
    let place = tempfile::tempdir().unwrap();
    let settings = Settings::new(format!("file://{}/store", place.path().display()));
    contract(&open(settings.clone()));
    let again = open(settings);
    let found = get(&again, "own").unwrap().unwrap();
    assert_eq!(check("own", found), (1 << 20) + 1);
    assert!(get(&again, "parts").unwrap().is_none());
}

#[test]
fn s3_keeps_entries_for_every_node() {
    let Some(moto) = moto::start() else { return };
    moto::bucket(moto, "kinds");
    let settings = moto::settings(moto.address, "kinds");
    contract(&open(settings.clone()));
    let reader = open(Settings {
        mode: Mode::ReadOnly,
        ..settings
    });
    let found = get(&reader, "own").unwrap().unwrap();
    check("own", found);
    assert!(reader.put(&entry("x", 1), BORN).is_err());
    reader.remove(key("own").view());
    assert_eq!(wait(reader.settle()).items, 0);
    assert!(get(&reader, "own").unwrap().is_some());
    online(&reader);
    assert_eq!(reader.coordination(), Coordination::ReadOnly);
    let stats = reader.stats();
    for request in [
        Request::Put,
        Request::Create,
        Request::Part,
        Request::Delete,
    ] {
        for outcome in Outcome::ALL {
            assert_eq!(stats.requests(request, outcome), 0, "{request:?}");
        }
    }
}

/// `LARDER_TEST_STORE` is the URL of an empty place in a store of any kind; its credentials come
/// from the environment.
#[test]
fn a_store_that_is_named_keeps_entries() {
    match std::env::var("LARDER_TEST_STORE") {
        Ok(url) => contract(&open(Settings::new(url))),
        Err(_) => moto::say_skipped("LARDER_TEST_STORE names no store"),
    }
}

#[test]
fn a_bucket_that_is_missing_is_said() {
    let Some(moto) = moto::start() else { return };
    let tier = open(moto::settings(moto.address, "no-such-bucket"));
    tier.put(&entry("x", 1), BORN).unwrap();
    eventually("the upload fails", || {
        tier.stats().write_failures.get() == 1
    });
    let Health::Degraded(reason) = tier.health() else {
        panic!("{:?}", tier.health())
    };
    assert!(
        reason.contains("bucket or container is missing"),
        "{reason}"
    );
}

#[test]
fn an_encrypted_connection_needs_a_certificate_that_is_known() {
    let place = tempfile::tempdir().unwrap();
    Certificate::new(&["127.0.0.1"]).write(place.path(), "known");
    let Some(moto) = moto::start_secure(place.path(), "known") else {
        return;
    };
    let chain = place.path().join("known.pem").display().to_string();
    let endpoint = format!("https://{}", moto.address);
    let open_with = |certificates: &str| {
        let environment = Environment::of([
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("SSL_CERT_FILE", certificates),
        ]);
        open(Settings {
            environment,
            ..Settings::new("s3://secure")
        })
    };
    let known = open_with(&chain);
    // The bucket is missing, which only who got through is told.
    known.put(&entry("x", 1), BORN).unwrap();
    eventually("the upload fails", || {
        known.stats().write_failures.get() == 1
    });
    let Health::Degraded(reason) = known.health() else {
        panic!("{:?}", known.health())
    };
    assert!(reason.contains("NoSuchBucket"), "{reason}");

    Certificate::new(&["127.0.0.1"]).write(place.path(), "other");
    let other = place.path().join("other.pem").display().to_string();
    let unknown = open_with(&other);
    assert!(get(&unknown, "x").is_err());
    let reason = unknown.stats().latest_error().unwrap();
    assert!(reason.contains("certificate"), "{reason}");

    let mut plain = moto::settings(moto.address, "secure");
    plain.environment = Environment::of([
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
    ]);
    let plain = open(plain);
    assert!(get(&plain, "x").is_err());
    let reason = plain.stats().latest_error().unwrap();
    assert!(reason.contains("AWS_ALLOW_HTTP"), "{reason}");
}
