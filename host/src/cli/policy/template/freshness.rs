//! How long a response may be answered from the cache.
//!
//! Larder asks `freshness` about every response that could be stored, never on a hit. What
//! RFC 9111 makes of the response comes in as `native`; a policy amends it. It cannot weaken it:
//! what must not be stored is not, and the operator's bounds on lifetimes hold. This one stores
//! pictures for a day whatever the origin says, and keeps search results out. Change it to your
//! needs; `larder policy test` shows whether it does what you mean, without a server.

use std::time::Duration;

use larder_guest::freshness::{Response, Storing, Verdict};
use larder_guest::{Freshness, Params};

struct Policy {
    pictures: Duration,
}

impl Freshness for Policy {
    /// Reads what the operator set: `freshness = { name = "...", params = { pictures = "1h" } }`.
    /// An error refuses the activation and is shown to the operator.
    fn configure(params: &Params) -> Result<Self, String> {
        let day = Duration::from_secs(24 * 60 * 60);
        Ok(Self {
            pictures: params.duration("pictures")?.unwrap_or(day),
        })
    }

    /// The response fields that `freshness` reads. Larder hands over these and no others.
    fn response_fields(&self) -> Vec<&str> {
        vec!["content-type"]
    }

    fn freshness(&self, response: Response<'_>) -> Verdict {
        if response.path() == "/search" {
            return Verdict::DoNotStore;
        }
        let content_type = response.response_field("content-type").unwrap_or_default();
        if response.status() == 200 && content_type.starts_with("image/") {
            return Verdict::Store(Storing {
                lifetime: self.pictures,
                // Responses with a tag can be purged together.
                tags: vec!["picture".to_owned()],
                ..response.native().storing()
            });
        }
        Verdict::Native
    }
}

larder_guest::freshness!(Policy);

#[cfg(test)]
mod tests {
    use super::*;
    use larder_guest::testing::{FreshnessPolicy, fresh_for};

    const MINUTE: Duration = Duration::from_secs(60);

    fn freshness(params: &str, request: &str, response: &str) -> Verdict {
        let policy = FreshnessPolicy::<Policy>::new(params).expect("good parameters");
        policy.freshness(request, response, fresh_for(MINUTE))
    }

    #[test]
    fn pictures_stay_for_a_day() {
        let verdict = freshness("{}", "GET /a.png", "200 OK\ncontent-type: image/png");
        let Verdict::Store(storing) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(storing.lifetime, Duration::from_secs(86_400));
        assert_eq!(storing.tags, ["picture"]);
    }

    #[test]
    fn the_operator_can_say_how_long() {
        let params = r#"{"pictures":"1h"}"#;
        let verdict = freshness(params, "GET /a.png", "200 OK\ncontent-type: image/png");
        let Verdict::Store(storing) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(storing.lifetime, Duration::from_secs(3_600));
    }

    #[test]
    fn everything_else_is_left_to_the_origin() {
        let html = "200 OK\ncontent-type: text/html";
        assert_eq!(freshness("{}", "GET /", html), Verdict::Native);
        let missing = "404 Not Found\ncontent-type: image/png";
        assert_eq!(freshness("{}", "GET /a.png", missing), Verdict::Native);
        assert_eq!(
            freshness("{}", "GET /search?q=a", html),
            Verdict::DoNotStore
        );
    }

    #[test]
    fn wrong_parameters_are_refused() {
        assert!(FreshnessPolicy::<Policy>::new(r#"{"pictures":"soon"}"#).is_err());
        assert!(FreshnessPolicy::<Policy>::new(r#"{"unknown":1}"#).is_err());
    }
}
