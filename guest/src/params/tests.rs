//! What parameters may look like, and what is said of those that may not.

use std::time::Duration;

use super::Params;

fn params(text: &str) -> Params {
    Params::parse(text).unwrap()
}

#[test]
fn every_kind_is_read() {
    let params = params(
        r#" { "text" : "a\"\\\/\n\u00e9\ud83d\ude00", "list":["x", ""], "none": [],
        "on": true, "off": false, "count": 18446744073709551615, "ratio": -1.5e2,
        "time": "90s", "size": "2KiB", "bytes": 7 }
    "#,
    );
    assert_eq!(params.string("text"), Ok(Some("a\"\\/\né😀")));
    assert_eq!(
        params.list("list"),
        Ok(Some(&["x".to_owned(), String::new()][..]))
    );
    assert_eq!(params.list("none"), Ok(Some(&[][..])));
    assert_eq!(params.bool("on"), Ok(Some(true)));
    assert_eq!(params.bool("off"), Ok(Some(false)));
    assert_eq!(params.u64("count"), Ok(Some(u64::MAX)));
    assert_eq!(params.f64("ratio"), Ok(Some(-150.0)));
    assert_eq!(params.duration("time"), Ok(Some(Duration::from_secs(90))));
    assert_eq!(params.size("size"), Ok(Some(2048)));
    assert_eq!(params.size("bytes"), Ok(Some(7)));
    assert_eq!(params.string("absent"), Ok(None));
    assert_eq!(params.finish(), Ok(()));
}

#[test]
fn what_is_no_flat_object_is_refused_with_its_place() {
    let check =
        |text, expected: &str| assert_eq!(Params::parse(text).unwrap_err(), expected, "{text}");
    check("", "parameters: expected an object at byte 0");
    check("[]", "parameters: expected an object at byte 0");
    check("{", "parameters: expected a parameter name at byte 1");
    check("{a:1}", "parameters: expected a parameter name at byte 1");
    check(r#"{"a" 1}"#, "parameters: expected a colon at byte 5");
    check(
        r#"{"a":1"#,
        "parameters: expected a comma or the end of the object at byte 6",
    );
    check(
        r#"{"a":1,}"#,
        "parameters: expected a parameter name at byte 7",
    );
    check(
        "{} x",
        "parameters: expected nothing after the object at byte 3",
    );
    check(r#"{"a":1,"a":2}"#, "parameter `a` is given twice");
    for number in ["01", "-", "1.", ".5", "1e", "1e+", "+1"] {
        assert!(
            Params::parse(&format!("{{\"a\":{number}}}")).is_err(),
            "{number}"
        );
    }
    check(
        r#"{"a":"b"#,
        "parameters: expected the end of a string at byte 7",
    );
    check(
        "{\"a\":\"\n\"}",
        "parameters: expected the end of a string at byte 6",
    );
    check(r#"{"a":"\x"}"#, "parameters: expected an escape at byte 7");
    for escape in [r"\u12", r"\u12g4", r"\ud800", r"\ud800\u0041", r"\udc00"] {
        assert!(
            Params::parse(&format!("{{\"a\":\"{escape}\"}}")).is_err(),
            "{escape}"
        );
    }
    let any = "parameter `a`: expected a string, a number, true, false or a list of strings";
    check(r#"{"a":null}"#, any);
    check(r#"{"a":{}}"#, any);
    check(
        r#"{"a":[1]}"#,
        "parameter `a`: a list may hold strings only",
    );
    check(
        r#"{"a":["x"}"#,
        "parameters: expected a comma or the end of the list at byte 9",
    );
}

#[test]
fn a_value_of_the_wrong_kind_names_the_parameter() {
    let params =
        params(r#"{"a": "x", "b": 1.5, "c": [], "d": true, "e": "1w", "f": "+1s", "g": 5}"#);
    let check =
        |found: Result<(), String>, expected: &str| assert_eq!(found, Err(expected.to_owned()));
    check(
        params.u64("a").map(drop),
        "parameter `a`: expected a whole number, found \"x\"",
    );
    check(
        params.u64("b").map(drop),
        "parameter `b`: expected a whole number, found 1.5",
    );
    check(
        params.string("c").map(drop),
        "parameter `c`: expected a string, found a list",
    );
    check(
        params.list("d").map(drop),
        "parameter `d`: expected a list of strings, found true",
    );
    check(
        params.bool("a").map(drop),
        "parameter `a`: expected true or false, found \"x\"",
    );
    let time = "expected a time such as \"30s\", \"5m\", \"1h\" or \"1d\", found";
    check(
        params.duration("e").map(drop),
        &format!("parameter `e`: {time} \"1w\""),
    );
    check(
        params.duration("f").map(drop),
        &format!("parameter `f`: {time} \"+1s\""),
    );
    check(
        params.duration("g").map(drop),
        &format!("parameter `g`: {time} 5"),
    );
}

#[test]
fn times_and_sizes_have_units() {
    let check = |text: &str, expected| {
        let params = params(&format!("{{\"v\": \"{text}\"}}"));
        assert_eq!(
            params
                .duration("v")
                .ok()
                .flatten()
                .map(|time| time.as_millis()),
            expected,
            "{text}"
        );
    };
    check("500ms", Some(500));
    check("30s", Some(30_000));
    check("5m", Some(300_000));
    check("1h", Some(3_600_000));
    check("1d", Some(86_400_000));
    check("0s", Some(0));
    for wrong in [
        "",
        "s",
        "1",
        "1.5s",
        "-1s",
        " 1s",
        "1 s",
        "1S",
        "99999999999999999999s",
        "999999999999999999d",
    ] {
        check(wrong, None);
    }
    let size = |text: &str| {
        params(&format!("{{\"v\": \"{text}\"}}"))
            .size("v")
            .ok()
            .flatten()
    };
    let sizes = ["1B", "64KiB", "1MB", "3GiB", "1", "KiB", "20000000000GiB"].map(size);
    assert_eq!(
        sizes,
        [
            Some(1),
            Some(65_536),
            Some(1_000_000),
            Some(3 << 30),
            None,
            None,
            None
        ]
    );
}

#[test]
fn unknown_parameters_are_refused_with_the_accepted_ones() {
    let params = params(r#"{"known": 1, "tpyo": 2}"#);
    assert_eq!(params.u64("known"), Ok(Some(1)));
    assert_eq!(params.u64("other"), Ok(None));
    assert_eq!(
        params.finish(),
        Err("unknown parameter `tpyo`; accepted: known, other".to_owned())
    );
}
