//! Clients that ask with a validator: answered from what is stored.

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

#[test]
fn validators_of_clients_are_judged_by_what_is_stored() {
    let reply = Reply::cached("content")
        .field("ETag", "\"one\"")
        .field("Last-Modified", SAME)
        .field("Content-Type", "text/x")
        .field("Vary", "X");
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    for (fields, status) in [
        (&[("If-None-Match", "\"one\"")][..], 304),
        (&[("If-None-Match", "W/\"one\"")], 304),
        (&[("If-None-Match", "\"zero\", \"one\"")], 304),
        (
            &[("If-None-Match", "\"zero\""), ("If-None-Match", "\"one\"")],
            304,
        ),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"two\"")], 200),
        (&[("If-None-Match", "one")], 200),
        (&[("If-Modified-Since", SAME)], 304),
        (&[("If-Modified-Since", LATE)], 304),
        (&[("If-Modified-Since", EARLY)], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
        (
            &[("If-None-Match", "\"two\""), ("If-Modified-Since", LATE)],
            200,
        ),
        (&[("If-None-Match", "\"one\""), ("Range", "bytes=0-1")], 304),
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.request(method, "/a", fields, b"");
            assert_eq!(response.status(), status, "{method} {fields:?}");
            assert!(response.is_hit());
            if status == 304 {
                assert_eq!(response.field("etag").as_deref(), Some("\"one\""));
                assert_eq!(response.field("vary").as_deref(), Some("X"));
                assert_eq!(
                    response.field("cache-control").as_deref(),
                    Some("max-age=60")
                );
                assert!(response.field("date").is_some());
                assert_eq!(response.field("content-type"), None);
                assert_eq!(response.field("content-length"), None);
            }
        }
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_miss_that_brings_what_the_client_has_is_answered_304_and_stored_whole() {
    let origin = Origin::always(Reply::cached("content").field("ETag", "\"one\""));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    let first = client.get_with("/a", &[("If-None-Match", "\"one\"")]);
    assert_eq!((first.status(), first.body.len()), (304, 0));
    let second = client.get("/a");
    assert_eq!((second.text().as_str(), origin.total()), ("content", 1));
}
