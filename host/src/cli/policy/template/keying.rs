//! Which requests share a stored response.
//!
//! Larder asks `key` about every request, before it looks into the cache: requests with the same
//! target and the same variant share what is stored. This one drops parameters of the query that
//! do not change the page, and keeps German and English readers apart. Change it to your needs;
//! `larder policy test` shows whether it does what you mean, without a server.

use larder_guest::keying::{Request, Verdict};
use larder_guest::{Keying, Params};

struct Policy {
    ignored: Vec<String>,
}

impl Keying for Policy {
    /// Reads what the operator set: `keying = { name = "...", params = { ignore = ["ref"] } }`.
    /// An error refuses the activation and is shown to the operator.
    fn configure(params: &Params) -> Result<Self, String> {
        let ignored = match params.list("ignore")? {
            Some(names) => names.to_vec(),
            None => vec!["utm_source".to_owned(), "utm_campaign".to_owned()],
        };
        Ok(Self { ignored })
    }

    /// The request fields that `key` reads. Larder hands over these and no others.
    fn fields(&self) -> Vec<&str> {
        vec!["accept-language"]
    }

    fn key(&self, request: Request<'_>) -> Verdict {
        // `Pass` is neither looked up nor stored.
        if request.path().starts_with("/account/") {
            return Verdict::Pass;
        }
        let language = request.field_named("accept-language").unwrap_or_default();
        let variant = if language.starts_with("de") {
            "de"
        } else {
            "en"
        };
        Verdict::Key {
            // The origin is asked for this target, so what is dropped here cannot reach it.
            target: self.without_ignored(request.target()),
            variant: variant.to_owned(),
        }
    }
}

larder_guest::keying!(Policy);

impl Policy {
    /// `None`: the target can stay as it came.
    fn without_ignored(&self, target: &str) -> Option<String> {
        let (path, query) = target.split_once('?')?;
        let is_kept = |piece: &&str| {
            let name = piece.split('=').next().unwrap_or_default();
            !self.ignored.iter().any(|ignored| ignored == name)
        };
        let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
        match kept.len() {
            0 => Some(path.to_owned()),
            _ => Some(format!("{path}?{}", kept.join("&"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_guest::testing::KeyingPolicy;

    fn key(params: &str, request: &str) -> (String, String) {
        let policy = KeyingPolicy::<Policy>::new(params).expect("good parameters");
        match policy.key(request) {
            Verdict::Pass => ("pass".to_owned(), String::new()),
            Verdict::Key { target, variant } => {
                (target.unwrap_or("as it came".to_owned()), variant)
            }
        }
    }

    #[test]
    fn ignored_parameters_are_dropped() {
        let target = |params, request| key(params, request).0;
        assert_eq!(target("{}", "GET /a"), "as it came");
        assert_eq!(target("{}", "GET /a?x=1&utm_source=mail"), "/a?x=1");
        assert_eq!(target("{}", "GET /a?utm_source=mail"), "/a");
        assert_eq!(target(r#"{"ignore":["x"]}"#, "GET /a?x=1&y=2"), "/a?y=2");
    }

    #[test]
    fn languages_are_kept_apart() {
        let variant = |request| key("{}", request).1;
        assert_eq!(variant("GET /a\naccept-language: de-CH, en"), "de");
        assert_eq!(variant("GET /a\naccept-language: fr"), "en");
        assert_eq!(variant("GET /a"), "en");
    }

    #[test]
    fn accounts_are_not_cached() {
        assert_eq!(key("{}", "GET /account/orders").0, "pass");
    }

    #[test]
    fn wrong_parameters_are_refused() {
        assert!(KeyingPolicy::<Policy>::new(r#"{"ignore":"x"}"#).is_err());
        assert!(KeyingPolicy::<Policy>::new(r#"{"unknown":1}"#).is_err());
    }
}
