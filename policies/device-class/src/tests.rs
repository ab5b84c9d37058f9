//! A table of clients.

use larder_guest::keying::Verdict;
use larder_guest::testing::KeyingPolicy;

use super::DeviceClass;

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari/604.1";
const IPAD: &str = "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 Version/16.6 Mobile/15E148 Safari/604.1";
const PIXEL: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36";
const GALAXY_TAB: &str =
    "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36";
const WINDOWS: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36";
const CRAWLER: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const MOBILE_CRAWLER: &str = "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) Chrome/126.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1)";

fn check(params: &str, fields: &str, expected: &str) {
    let policy = KeyingPolicy::<DeviceClass>::new(params).unwrap();
    let verdict = policy.key(&format!("GET /\n{fields}"));
    assert_eq!(verdict, Verdict::variant(expected), "{params} {fields}");
}

#[test]
fn words_in_user_agent_tell_devices_apart() {
    for (user_agent, expected) in [
        (IPHONE, "mobile"),
        (PIXEL, "mobile"),
        (IPAD, "tablet"),
        (GALAXY_TAB, "tablet"),
        (WINDOWS, "desktop"),
        (CRAWLER, "desktop"),
        (MOBILE_CRAWLER, "mobile"),
        ("Opera/9.80 (J2ME/MIDP; Opera Mini/9)", "mobile"),
        ("IPHONE", "mobile"),
        ("curl/8.5.0", "desktop"),
        ("", "desktop"),
        ("m", "desktop"),
    ] {
        check("{}", &format!("user-agent: {user_agent}"), expected);
    }
    check("{}", "", "desktop");
}

#[test]
fn the_hint_decides_between_telephones_and_the_rest() {
    let check = |hint, user_agent, expected| {
        check(
            "{}",
            &format!("sec-ch-ua-mobile: {hint}\nuser-agent: {user_agent}"),
            expected,
        );
    };
    check("?1", WINDOWS, "mobile");
    check("?1", PIXEL, "mobile");
    check("?0", WINDOWS, "desktop");
    check("?0", GALAXY_TAB, "tablet");
    check("?0", IPHONE, "desktop");
    check("nonsense", IPHONE, "mobile");
}

#[test]
fn bots_are_a_class_of_their_own_on_request() {
    let bots = r#"{"bots": true}"#;
    check(bots, &format!("user-agent: {CRAWLER}"), "bot");
    check(bots, &format!("user-agent: {MOBILE_CRAWLER}"), "bot");
    check(
        bots,
        &format!("sec-ch-ua-mobile: ?1\nuser-agent: {CRAWLER}"),
        "bot",
    );
    check(bots, &format!("user-agent: {WINDOWS}"), "desktop");
    check(
        r#"{"bots": false}"#,
        &format!("user-agent: {CRAWLER}"),
        "desktop",
    );
}

#[test]
fn wrong_parameters_are_refused() {
    let error = |params| KeyingPolicy::<DeviceClass>::new(params).unwrap_err();
    assert_eq!(
        error(r#"{"bots": 1}"#),
        "parameter `bots`: expected true or false, found 1"
    );
    assert_eq!(
        error(r#"{"bot": true}"#),
        "unknown parameter `bot`; accepted: bots"
    );
}
