//! Keying: splits the key by the class of the client's device, for origins that answer each class
//! with a page of its own.
//!
//! The variant is `mobile`, `tablet` or `desktop`, from the client hint where the browser sends
//! one and otherwise from words in `user-agent`. Three stored responses in the place of one for
//! each of thousands of `user-agent` values are the point of it; the target stays as it came.
//!
//! Parameters: `bots`, `true` for a fourth variant `bot`. Without it crawlers are told apart like
//! everybody else, so they see what people see.

use larder_guest::keying::{Request, Verdict};
use larder_guest::{Keying, Params};

const MOBILE_HINT: usize = 0;
const USER_AGENT: usize = 1;

/// Words of crawlers and of link previews.
const BOT_WORDS: [&str; 7] = [
    "bot",
    "crawl",
    "spider",
    "slurp",
    "facebookexternalhit",
    "preview",
    "mediapartners",
];
/// Words of tablets; Android says `Mobile` on telephones only.
const TABLET_WORDS: [&str; 5] = ["ipad", "tablet", "kindle", "silk/", "playbook"];
const MOBILE_WORDS: [&str; 6] = [
    "mobi",
    "iphone",
    "ipod",
    "blackberry",
    "opera mini",
    "windows phone",
];

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct DeviceClass {
    bots: bool,
}

impl Keying for DeviceClass {
    fn configure(params: &Params) -> Result<Self, String> {
        let bots = params.bool("bots")?.unwrap_or(false);
        Ok(Self { bots })
    }

    fn fields(&self) -> Vec<&str> {
        vec!["sec-ch-ua-mobile", "user-agent"]
    }

    fn key(&self, request: Request<'_>) -> Verdict {
        let user_agent = request.field(USER_AGENT).unwrap_or_default();
        Verdict::variant(self.class(request.field(MOBILE_HINT), user_agent))
    }
}

larder_guest::keying!(DeviceClass);

impl DeviceClass {
    fn class(&self, mobile_hint: Option<&str>, user_agent: &str) -> &'static str {
        if self.bots && has_any(user_agent, &BOT_WORDS) {
            return "bot";
        }
        // The hint tells telephones from the rest; tablets say no to it, as desktops do.
        let is_mobile = match mobile_hint {
            Some("?1") => return "mobile",
            Some("?0") => false,
            _ => has_any(user_agent, &MOBILE_WORDS),
        };
        if has_any(user_agent, &TABLET_WORDS) || (!is_mobile && has_any(user_agent, &["android"])) {
            "tablet"
        } else if is_mobile {
            "mobile"
        } else {
            "desktop"
        }
    }
}

/// Whether `text` has one of `words`, which are in lower case, in any case.
fn has_any(text: &str, words: &[&str]) -> bool {
    // One walk over the text: building a searcher for each word would cost more than this does.
    (text.as_bytes().iter().enumerate()).any(|(start, first)| {
        words.iter().any(|word| {
            word.as_bytes().first() == Some(&first.to_ascii_lowercase())
                && (text.as_bytes().get(start..start + word.len()))
                    .is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
        })
    })
}

#[cfg(test)]
mod tests;
