//! Variants: each request gets the one that its fields select.

use crate::support::edge::Edge;
use crate::support::eventually;
use crate::support::origin::{Asked, Origin};
use crate::support::reply::{Gate, Reply};

fn by_language(asked: &Asked) -> Reply {
    let language = asked.field("accept-language").unwrap_or_default();
    Reply::cached(format!("in {language}")).field("Vary", "Accept-Language")
}

#[test]
fn each_variant_is_stored_by_itself() {
    let origin = Origin::answering(by_language);
    let edge = Edge::before(&origin);
    for pass in 0..2 {
        for language in ["de", "en", "fr"] {
            let response = edge.get_with("/a", &[("Accept-Language", language)]);
            assert_eq!(response.text(), format!("in {language}"));
            assert_eq!(response.is_hit(), pass == 1, "{}", response.cache_status());
        }
        let without = edge.get("/a");
        assert_eq!(
            (without.text().as_str(), without.is_hit()),
            ("in ", pass == 1)
        );
    }
    assert_eq!(origin.total(), 4);
    let status = edge
        .get_with("/a", &[("Accept-Language", "it")])
        .cache_status();
    assert!(status.starts_with("larder; fwd=vary-miss"), "{status}");
}

#[test]
fn what_a_response_nominates_may_change() {
    let origin = Origin::answering(|asked| {
        let colour = asked.field("x-colour").unwrap_or_default();
        let shape = asked.field("x-shape").unwrap_or_default();
        let vary = if colour == "red" {
            "X-Colour, X-Shape"
        } else {
            "x-colour"
        };
        Reply::cached(format!("{colour} {shape}")).field("Vary", vary)
    });
    let edge = Edge::before(&origin);
    let get = |colour, shape| edge.get_with("/a", &[("X-Colour", colour), ("X-Shape", shape)]);
    for pass in 0..2 {
        for (colour, shape) in [("blue", "round"), ("red", "round"), ("red", "square")] {
            let response = get(colour, shape);
            assert_eq!(response.text(), format!("{colour} {shape}"));
            assert_eq!(
                response.is_hit(),
                pass == 1,
                "{colour} {shape} in pass {pass}"
            );
        }
    }
    assert!(
        get("blue", "square").is_hit(),
        "blue does not depend on the shape"
    );
    assert_eq!(origin.total(), 3);
}

#[test]
fn requests_for_different_variants_do_not_share_a_fetch() {
    let (arrived, gate) = ("/a", Gate::default());
    let held = gate.clone();
    let origin = Origin::answering(move |asked| by_language(asked).behind(&held));
    let edge = Edge::before(&origin);
    let clients = ["de", "en", "de", "en", "fr"].map(|language| {
        let mut client = edge.client();
        std::thread::spawn(move || {
            let response = client.get_with("/a", &[("Accept-Language", language)]);
            assert_eq!(response.text(), format!("in {language}"));
        })
    });
    origin.wait_for(arrived, 1);
    eventually("four requests to wait for the first", || {
        edge.metrics().count("larder_collapsed_total", &[]) == 4
    });
    gate.open();
    for client in clients {
        client.join().expect("the right variant");
    }
    assert_eq!(origin.count("/a"), 3, "one fetch a variant");
}
