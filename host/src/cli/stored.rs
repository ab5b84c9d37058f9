//! Commands about what a running Larder has stored: listing it, and verifying it.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::remote::Admin;
use super::{Failure, output};
use crate::client::escaped;

/// How often `--wait` asks.
const POLL: Duration = Duration::from_millis(100);

/// What `ls` lists.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only of this site
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Only what has this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only what this tier holds: memory or disk
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Only what is at or below HOST[:PORT]/PATH, in whole segments
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// How `scrub` behaves.
#[derive(Debug, Args)]
pub(super) struct Scrub {
    /// Return when everything is verified
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    admin: Admin,
}

/// Prints what is stored, page by page, so that it begins at once and holds no more than a page.
pub(super) fn list(list: &List, out: &mut impl Write) -> Result<(), Failure> {
    let client = list.admin.client()?;
    let filters = [
        ("site", &list.site),
        ("tag", &list.tag),
        ("tier", &list.tier),
        ("prefix", &list.prefix),
    ];
    let given = filters
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_deref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    let mut path = format!("/v1/entries?{query}");
    if !list.json {
        line(
            out,
            ["tier", "site", "bytes", "age_s", "left_s", "tags", "key"].map(str::to_owned),
        )?;
    }
    loop {
        let page = client.get(&path)?;
        let entries = page.get("entries").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            if list.json {
                writeln!(out, "{entry}")?;
                continue;
            }
            let names = [
                "tier",
                "site",
                "bytes",
                "age_s",
                "remaining_s",
                "tags",
                "key",
            ];
            line(
                out,
                names.map(|name| output::text(entry.get(name).unwrap_or(&Value::Null))),
            )?;
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else {
            return Ok(());
        };
        out.flush()?;
        path = format!("/v1/entries?{query}&cursor={}", escaped(next));
    }
}

/// Columns of one width throughout: what is to come is not known yet.
fn line(
    out: &mut impl Write,
    [tier, site, bytes, age, left, tags, key]: [String; 7],
) -> std::io::Result<()> {
    writeln!(
        out,
        "{tier:<8}  {site:<16}  {bytes:>12}  {age:>8}  {left:>8}  {tags:>4}  {key}"
    )
}

/// Verifies what the tiers below memory hold, and prints what was found.
pub(super) fn scrub(scrub: &Scrub, out: &mut impl Write) -> Result<(), Failure> {
    let client = scrub.admin.client()?;
    let mut report = client.post("/v1/scrub", json!({}))?;
    while scrub.wait && report.get("running") == Some(&Value::Bool(true)) {
        std::thread::sleep(POLL);
        report = client.get("/v1/scrub")?;
    }
    output::report(out, &report)?;
    out.flush()?;
    let tiers = report.get("tiers").and_then(Value::as_array);
    let error = |tier: &Value| tier.get("error").filter(|error| !error.is_null()).cloned();
    match tiers.into_iter().flatten().find_map(error) {
        Some(error) => Err(Failure::local(
            format!("not all was verified: {}", output::text(&error)),
            "`larder stat` shows how each tier is; scrub again once it is online",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as it is typed.
    #[derive(clap::Parser)]
    struct Line<T: Args> {
        #[command(flatten)]
        typed: T,
    }

    fn typed<T: Args>(line: &str) -> T {
        let line = format!("x {line}");
        let parsed: Line<T> = clap::Parser::parse_from(line.split_whitespace());
        parsed.typed
    }

    #[test]
    fn pages_are_asked_for_until_there_is_no_next() {
        let (address, server) = crate::client::stub::answering(&[
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"entries\":[{\"tier\":\"memory\",\"site\":\"s\",\"bytes\":5,\"age_s\":1,\"remaining_s\":59,\"tags\":0,\"key\":\"http://a/b\"}],\"next\":\"1.0.0.0\"}",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"entries\":[{\"tier\":\"disk\",\"site\":null,\"bytes\":5,\"age_s\":1,\"remaining_s\":0,\"tags\":2,\"key\":\"a\\u001b\"}],\"next\":null}",
        ]);
        let asked: List = typed(&format!("--prefix a/b --site s --admin {address}"));
        let mut out = Vec::new();
        list(&asked, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<&str>> = out
            .lines()
            .map(|row| row.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["memory", "s", "5", "1", "59", "0", "http://a/b"]);
        assert_eq!(rows[2], ["disk", "-", "5", "1", "0", "2", "a\\u{1b}"]);
        let asked = server.join().unwrap();
        assert!(
            asked[0].starts_with("get /v1/entries?site=s&prefix=a%2fb http/1.1"),
            "{asked:?}"
        );
        assert!(asked[1].contains("&cursor=1.0.0.0 "), "{asked:?}");
    }

    #[test]
    fn a_scrub_is_waited_for_and_a_tier_that_failed_is_told() {
        let (address, server) = crate::client::stub::answering(&[
            "HTTP/1.1 202 Accepted\r\nconnection: close\r\n\r\n{\"id\":1,\"running\":true,\"tiers\":[]}",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":1,\"running\":false,\"tiers\":[{\"name\":\"disk\",\"checked\":0,\"error\":\"the tier is offline\"}]}",
        ]);
        let asked: Scrub = typed(&format!("--wait --admin {address}"));
        let mut out = Vec::new();
        let failure = scrub(&asked, &mut out).unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(failure.to_string().contains("the tier is offline"));
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("running:             false")
        );
        assert_eq!(server.join().unwrap().len(), 2);
    }
}
