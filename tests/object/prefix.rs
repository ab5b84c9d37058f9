//! Credentials that may do something below one prefix, and nothing else: they are all that an edge
//! needs.

use serde_json::json;

use crate::edge::{BORN, entry, get, open};
use crate::moto;
use crate::proxy::{Fault, Proxy};
use crate::support::edge::Edge;
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::Reply;
use larder::tier::object::{Settings, Unavailable};

const PLACE: &str = "shared/edge/one";

/// One count of the store.
fn count(edge: &Edge, name: &str) -> u64 {
    let metrics = edge.metrics();
    metrics.count(&format!("larder_tier_{name}"), &["tier=\"object_store\""])
}

#[test]
fn credentials_of_one_prefix_are_enough_and_nothing_else_is_asked_for() {
    let Some(moto) = moto::start_alone() else {
        return;
    };
    moto::bucket(&moto, "shared");
    // The service knows which objects these name, but not which lists: those the proxy denies.
    let (key, secret) = moto::user(
        &moto,
        &json!({"Version": "2012-10-17", "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject",
                    "s3:AbortMultipartUpload"],
                "Resource": format!("arn:aws:s3:::{PLACE}/*"),
            },
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::shared"},
        ]}),
    );
    let credentials = (key.as_str(), secret.as_str());
    let (store, fenced) = (Proxy::before(moto.address), Proxy::before(moto.address));
    fenced.set(Fault::Outside(PLACE));

    // With them nothing can be done elsewhere, or without them here.
    for (proxy, prefix, secret) in [
        (&store, "edge/two", credentials.1),
        (&store, "edge/ones", credentials.1),
        (&fenced, "edge/two", credentials.1),
        (&store, "edge/one", "guessed"),
    ] {
        let environment = moto::environment(proxy.address, (credentials.0, secret));
        let tier = open(Settings {
            environment,
            ..Settings::new(format!("s3://shared/{prefix}"))
        });
        assert_eq!(get(&tier, "a").unwrap_err(), Unavailable::Denied);
        tier.put(&entry("a", 1), BORN).unwrap();
        eventually("the upload is denied", || {
            tier.stats().write_failures.get() == 1
        });
    }

    let before = fenced.denied();
    assert!(before > 0 && fenced.requests() == before);
    let from = fenced.asked().len();
    let origin = Origin::answering(|asked| match asked.path() {
        // In parts.
        "/large" => Reply::pattern(9 << 20).field("Cache-Control", "max-age=600"),
        path => Reply::cached(path),
    });
    let url = format!("s3://{PLACE}");
    let start = || moto::edge(&origin, &url, fenced.address, credentials).start();
    let first = start();
    let targets = ["/a", "/b", "/large"];
    for target in targets {
        assert_eq!(first.get(target).status(), 200);
    }
    first.flush();
    assert_eq!(count(&first, "uploads_total"), 3, "{}", first.stats());

    let second = start();
    for target in targets {
        assert!(second.get(target).is_hit(), "{target}");
    }
    assert_eq!(count(&second, "hits_total"), 3);
    assert_eq!(origin.total(), 3);

    // What a purge has made room for replaces what lies there.
    origin.on("/a", Reply::cached("newer"));
    let (status, told) = first.admin_post("/v1/purge", &json!({"urls": ["http://edge.test/a"]}));
    assert_eq!(status, 200, "{told}");
    let purged = first.get("/a");
    assert!(!purged.is_hit());
    assert_eq!(purged.text(), "newer");
    first.flush();
    let third = start();
    for (target, text) in [("/a", "newer"), ("/b", "/b")] {
        let found = third.get(target);
        assert!(found.is_hit(), "{target}");
        assert_eq!(found.text(), text);
    }
    for edge in [&first, &second, &third] {
        edge.flush();
        for name in ["errors_total", "upload_failures_total"] {
            assert_eq!(count(edge, name), 0, "{name}: {}", edge.stats());
        }
        let ready = edge.admin_response("GET", "/readyz", &[], b"").text();
        assert!(ready.contains("object_store: online"), "{ready}");
    }
    let asked = fenced.asked().split_off(from);
    assert_eq!(fenced.denied(), before, "{asked:#?}");
    for method in ["GET ", "PUT ", "POST ", "DELETE "] {
        assert!(
            asked.iter().any(|line| line.starts_with(method)),
            "{method}"
        );
    }
}
