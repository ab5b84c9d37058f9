//! Responses whose end can be doubted: their connection carries nothing more.

use crate::support::client::request;
use crate::support::edge::Setup;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

const NEXT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nEVIL";

/// What comes for `/first`, and then for two requests on their heels, which must be answered by
/// the origin and not by what it had sent before.
fn connections_after(first: &str) -> (u16, usize) {
    let origin = Origin::answering(|asked| Reply::ok(asked.target.clone()));
    origin.on("/first", Reply::raw_kept(first));
    let edge = Setup::before(&origin).start();
    let mut client = edge.client();
    let status = client.get("/first").status();
    for turn in 0..2 {
        let target = format!("/{turn}");
        assert_eq!(client.get(&target).text(), target, "after {first:?}");
    }
    (status, origin.connections())
}

#[test]
fn a_response_in_order_leaves_its_connection_open() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let (status, connections) = connections_after(first);
        assert!((200..=204).contains(&status), "{first:?}");
        assert_eq!(connections, 1, "{first:?}");
    }
}

#[test]
fn a_response_whose_length_is_in_doubt_ends_its_connection() {
    for first in [
        // RFC 9112 6.3: the coding counts, and the length may have been meant to mislead.
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (status, connections) = connections_after(first);
        assert!((200..=204).contains(&status), "{first:?}");
        assert!(connections >= 2, "{first:?}: {connections}");
    }
}

#[test]
fn bytes_after_a_response_answer_nobody() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    ] {
        let (_, connections) = connections_after(&format!("{head}{NEXT}"));
        assert!(connections >= 2, "{head:?}: {connections}");
    }
}

#[test]
fn codings_that_were_not_asked_for_give_502() {
    for coding in ["gzip, chunked", "chunked, chunked", "identity", "gzip"] {
        let first =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let (status, connections) = connections_after(&first);
        assert_eq!(status, 502, "{coding}");
        assert!(connections >= 2, "{coding}");
    }
}

#[test]
fn a_switch_of_protocols_gives_502() {
    let first = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (status, connections) = connections_after(first);
    assert_eq!(status, 502);
    assert!(connections >= 2);
}

#[test]
fn interim_responses_without_end_do_not_hold_a_request_for_ever() {
    let origin = Origin::start();
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    origin.on("/a", Reply::raw_kept(interim.repeat(10_000)));
    let edge = Setup::before(&origin)
        .set("limits.first_byte", "500ms")
        .start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    let heads = std::iter::repeat_with(|| client.head().status);
    let statuses: Vec<_> = heads.take_while(|status| *status != 504).collect();
    assert_eq!(statuses, [102; 8], "no more than a few are passed on");
}
