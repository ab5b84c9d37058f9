//! Larder's own access log: one JSON object a line. Members that are not needed are passed over,
//! so logs of later versions are read too.

use std::borrow::Cow;

use serde::Deserialize;

use super::field::Flaw;
use super::web::Logged;

/// The members that say what was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    unix_ms: u64,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    status: u16,
    bytes: Option<u64>,
}

impl<'a> Line<'a> {
    /// Takes a line apart.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Flaw> {
        serde_json::from_slice(line)
            .map_err(|error| Flaw::new(format!("not a line of the access log: {error}")))
    }

    /// What was logged.
    pub(super) fn logged(&self) -> Logged<'_> {
        Logged {
            time_ms: self.unix_ms,
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            target: self.path.as_bytes(),
            status: u64::from(self.status),
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_what_is_wrong_is_told() {
        let text = br#"{"unix_ms":5,"client":"127.0.0.1","site":"s","method":"GET","host":"h:80","path":"/a\"b","status":200,"bytes":7,"took_us":3,"cache_status":"hit"}"#;
        let line = Line::parse(text).unwrap();
        let expected = Logged {
            time_ms: 5,
            method: b"GET",
            host: b"h:80",
            target: b"/a\"b",
            status: 200,
            bytes: Some(7),
        };
        assert_eq!(line.logged(), expected);
        for (text, flaw) in [
            ("{\"unix_ms\":5}", "missing field `method`"),
            ("{\"unix_ms\":-5}", "invalid value: integer `-5`"),
            ("{", "EOF while parsing"),
        ] {
            let told = Line::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(flaw), "{told}");
        }
    }
}
