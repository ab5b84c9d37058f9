//! Cache deception: what is private stays so, whatever the target looks like. No rule here goes by
//! the extension of a path; an answer is stored if it says so, and under exactly the target that
//! the origin was asked for.

use crate::support::edge::{Edge, Setup};
use crate::support::origin::{Asked, Origin};
use crate::support::reply::Reply;

/// Targets that an application may take for `/me`, and a careless cache for a static file.
const LOOKALIKES: [&str; 24] = [
    "/me",
    "/me/x.css",
    "/me/x.js",
    "/me/logo.png",
    "/me.css",
    "/me;x.css",
    "/me%3bx.css",
    "/me%2fx.css",
    "/me%23x.css",
    "/me%3fx.css",
    "/me%00.css",
    "/me%0ax.css",
    "/me?x.css",
    "/me/%2e%2e/static/x.css",
    "/static/..%2fme",
    "/static/%2e%2e/me",
    "/static/../me",
    "/static//../me",
    "/static/..%5cme",
    "//me",
    "/ME/x.css",
    "/me/./x.css",
    "/m%65/x.css",
    "/me/x.css?v=1",
];

/// Answers with the cookie of whoever asks, and `fields`.
fn private(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::answering(move |asked: &Asked| {
        let body = format!("secret of {}", asked.field("cookie").unwrap_or_default());
        let reply = Reply::ok(body).field("Content-Type", "text/css");
        let add = |reply: Reply, (name, value): &(&str, &str)| reply.field(name, *value);
        fields.iter().fold(reply, add)
    })
}

fn leaks(edge: &Edge, target: &str, extra: &[(&str, &str)]) -> bool {
    let mut fields = vec![("Cookie", "alice")];
    fields.extend(extra);
    edge.get_with(target, &fields);
    edge.get(target).text().contains("alice")
}

#[test]
fn no_target_makes_a_private_answer_public() {
    let answers: [&'static [(&str, &str)]; 7] = [
        &[],
        &[("Cache-Control", "private, max-age=60")],
        &[("Cache-Control", "no-store")],
        &[("Cache-Control", "no-cache")],
        &[("Set-Cookie", "session=alice")],
        &[("Vary", "Cookie"), ("Cache-Control", "max-age=60")],
        &[("Vary", "*"), ("Cache-Control", "max-age=60")],
    ];
    for answer in answers {
        let origin = private(answer);
        for keying in ["native:default", "normalize-query"] {
            let edge =
                Setup::site(&origin, &format!("[site.policy]\nkeying = \"{keying}\"")).start();
            for target in LOOKALIKES {
                assert!(!leaks(&edge, target, &[]), "{target} {answer:?} {keying}");
            }
        }
    }
}

#[test]
fn an_answer_to_an_authenticated_request_is_not_shared_unless_the_origin_says_so() {
    let origin = private(&[("Cache-Control", "max-age=60")]);
    let edge = Edge::before(&origin);
    let authorised = [("Authorization", "Basic YWxpY2U6eA==")];
    for target in LOOKALIKES {
        assert!(!leaks(&edge, target, &authorised), "{target}");
    }
}

#[test]
fn different_targets_never_share_a_key() {
    let origin = Origin::answering(|asked: &Asked| Reply::cached(asked.target.clone()));
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        for target in LOOKALIKES {
            assert_eq!(edge.get(target).text(), target);
        }
    }
}
