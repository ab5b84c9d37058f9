//! Requests and responses written as plain text: a first line, then one field a line.

use super::{keying_wit, packed};

/// The fields of a message, names in lower case.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        Self(lines.map(field).collect())
    }

    /// The value of `name`, its lines joined as the host joins them (RFC 9110 5.3).
    pub(super) fn value(&self, name: &str) -> Option<String> {
        // RFC 9113 8.2.3: the lines of a cookie are joined with a semicolon.
        let separator = if name == "cookie" { "; " } else { ", " };
        let values: Vec<&str> = (self.0.iter())
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(separator))
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = (line.split_once(':')).unwrap_or_else(|| panic!("not a field: {line:?}"));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

/// `GET /path` and fields.
pub(super) struct Request {
    method: String,
    pub(super) target: String,
    pub(super) fields: Fields,
}

impl Request {
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = text.trim().lines();
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            panic!("a request starts with a method and a target: {text:?}");
        };
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Fields::parse(lines),
        }
    }

    /// The request as the host packs it for a policy that declared `names`.
    pub(super) fn packed(&self, names: &[String]) -> keying_wit::Request {
        let authority = self
            .fields
            .value("host")
            .unwrap_or_else(|| "example.com".to_owned());
        let values = names.iter().map(|name| self.fields.value(name));
        packed(
            [&self.method, &authority.to_ascii_lowercase(), &self.target],
            values,
        )
    }
}

/// `200 OK`, with or without a version before it, and fields.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Fields,
}

impl Response {
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = text.trim().lines();
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        let status = words.find_map(|word| word.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("a response starts with a status: {text:?}")),
            fields: Fields::parse(lines),
        }
    }
}
