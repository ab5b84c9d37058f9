//! Commands that ask a running Larder over its admin API.

#![expect(
    clippy::doc_markdown,
    reason = "comments on arguments are the text of --help"
)]

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, output};
use crate::client::{AdminAddress, Client, escaped};
use crate::clock;
use crate::config::{Rejected, Variables, read_token};

/// How often `--wait` asks, and for how long.
const POLL: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_mins(2);
/// How long a purge that nobody waits for is asked whether anything matched after all.
const GLANCE: Duration = Duration::from_secs(5);

/// Which admin API, and the right to use it.
#[derive(Debug, Args)]
pub(super) struct Admin {
    /// Where the admin API listens [env: LARDER_ADMIN] [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// File with the token it asks for [env: LARDER_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Admin {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_in(&Variables::of_process())
    }

    fn client_in(&self, variables: &Variables) -> Result<Client, Failure> {
        let usage =
            |place: &str, rejected: &Rejected| Failure::Usage(format!("{place}: {rejected}"));
        let address = match (&self.admin, variables.get("LARDER_ADMIN")) {
            (Some(address), _) => address.clone(),
            (None, Some(text)) => text.parse().map_err(|why| usage("LARDER_ADMIN", &why))?,
            (None, None) => AdminAddress::from(crate::config::Admin::default().listen.0),
        };
        let (place, file) = match (&self.token_file, variables.get("LARDER_TOKEN_FILE")) {
            (Some(file), _) => ("--token-file", Some(file.clone())),
            (None, file) => ("LARDER_TOKEN_FILE", file.map(PathBuf::from)),
        };
        let token = file.map(|file| read_token(&file).map_err(|why| usage(place, &why)));
        Ok(Client::new(address, token.transpose()?))
    }
}

/// What `purge` removes, and how.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["url", "key", "tag", "prefix", "host", "all"]))]
pub(super) struct Purge {
    /// Every variant stored under this URL; like all that follow, may be given several times
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Every variant stored under this key, as `larder explain` prints it
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// What has this tag from the origin (Surrogate-Key, Cache-Tag, xkey, Cache-Groups) or a policy
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// What is at or below HOST[:PORT]/PATH, in whole segments: a.com/b is not a.com/bc
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,
    /// What belongs to this host, on all of its ports unless one is given
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Everything, of the site if one is given
    #[arg(long)]
    all: bool,
    /// Only in this site
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    #[command(flatten)]
    how: Manner,
    #[command(flatten)]
    admin: Admin,
}

/// What `purge` does to what it covers.
#[derive(Debug, Args)]
struct Manner {
    /// Make it stale instead of removing it: it is validated before it is used again
    #[arg(long)]
    soft: bool,
    /// Only count what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Return when the counts are final
    #[arg(long)]
    wait: bool,
}

/// How `stat` prints.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// The request that `explain` asks about.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// URL of the request, such as http://example.com/a?b=1
    url: String,
    /// A field of the request, as 'name: value'; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<String>,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

/// `name: value` without the space that people write.
fn field(text: &str) -> Result<String, String> {
    let shape = || format!("\"{text}\" is not a field; write 'name: value'");
    let (name, value) = text.split_once(':').ok_or_else(shape)?;
    if http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(value).is_err() {
        return Err(shape());
    }
    Ok(format!("{name}:{}", value.trim()))
}

/// Removes stored responses and prints what was removed.
pub(super) fn purge(purge: &Purge, out: &mut impl Write) -> Result<(), Failure> {
    let client = purge.admin.client()?;
    let body = json!({
        "urls": purge.url,
        "keys": purge.key,
        "tags": purge.tag,
        "prefixes": purge.prefix,
        "hosts": purge.host,
        "all": purge.all,
        "site": purge.site,
        "soft": purge.how.soft,
        "dry_run": purge.how.dry_run,
    });
    let mut receipt = client.post("/v1/purge", body)?;
    let since = clock::now();
    while is_worth_waiting(&receipt, purge.how.wait)
        && let Some(id) = receipt.get("id").map(output::text)
    {
        let waited = clock::now().since(since);
        if purge.how.wait && waited > SETTLE {
            let message = format!("purge {id} has not settled in {} s", SETTLE.as_secs());
            return Err(Failure::local(
                message,
                "it is in force already; only its counts are not final",
            ));
        }
        if !purge.how.wait && waited > GLANCE {
            break;
        }
        std::thread::sleep(POLL);
        receipt = client.get(&format!("/v1/purge/{}", escaped(&id)))?;
    }
    output::report(out, &receipt)?;
    out.flush()?;
    match is_of_nothing(&receipt) {
        true => Err(Failure::NothingMatched),
        false => Ok(()),
    }
}

/// Whether the counts in `receipt` may still change, and matter: to whoever `waits` for them, and
/// to everybody as long as they are of nothing, which the exit code tells.
fn is_worth_waiting(receipt: &Value, waits: bool) -> bool {
    let counted = receipt.get("entries").and_then(Value::as_u64);
    receipt.get("settled") == Some(&Value::Bool(false)) && (waits || counted == Some(0))
}

/// Whether it is certain that nothing matched: everything was counted, and it came to nothing.
fn is_of_nothing(receipt: &Value) -> bool {
    let uncounted = receipt.get("uncounted").and_then(Value::as_array);
    receipt.get("entries").and_then(Value::as_u64) == Some(0)
        && receipt.get("settled") != Some(&Value::Bool(false))
        && uncounted.is_none_or(Vec::is_empty)
}

/// Prints counters.
pub(super) fn stat(stat: &Stat, out: &mut impl Write) -> Result<(), Failure> {
    let answer = stat.admin.client()?.get("/v1/stats")?;
    if stat.json {
        output::json(out, &answer)?;
    } else {
        output::statistics(out, &answer)?;
    }
    Ok(())
}

/// Prints how a request would be answered.
pub(super) fn explain(explain: &Explain, out: &mut impl Write) -> Result<(), Failure> {
    let answer = explain.admin.client()?.get(&explain_path(explain))?;
    if explain.json {
        output::json(out, &answer)?;
    } else {
        output::report(out, &answer)?;
    }
    Ok(())
}

fn explain_path(explain: &Explain) -> String {
    let mut path = format!("/v1/explain?url={}", escaped(&explain.url));
    for header in &explain.headers {
        path.push_str("&header=");
        path.push_str(&escaped(header));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lose_the_space_that_people_write() {
        assert_eq!(
            field("accept: text/html").as_deref(),
            Ok("accept:text/html")
        );
        assert_eq!(field("x-time:12:30").as_deref(), Ok("x-time:12:30"));
        assert_eq!(field("empty:").as_deref(), Ok("empty:"));
        for text in ["accept", ": value", "a b: c", "a: b\r\nc: d"] {
            assert!(field(text).is_err(), "{text:?}");
        }
    }

    /// A line as it is typed, so that the defaults of flags are the real ones.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        purge: Purge,
    }

    /// Purges with the flags in `line` against a server that gives these answers in turn.
    fn purged(line: &str, answers: &[&'static str]) -> (Result<(), Failure>, String, Vec<String>) {
        let (address, server) = crate::client::stub::answering(answers);
        let line = format!("x {line} --admin {address}");
        let Line { purge: typed } = clap::Parser::parse_from(line.split_whitespace());
        let mut out = Vec::new();
        let outcome = purge(&typed, &mut out);
        (
            outcome,
            String::from_utf8(out).unwrap(),
            server.join().unwrap(),
        )
    }

    #[test]
    fn a_purge_waits_until_it_has_settled() {
        let (outcome, out, asked) = purged(
            "--url http://a/b --url http://a/c --tag t --site s --soft --wait",
            &[
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":0,\"settled\":false}",
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":0,\"settled\":false}",
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":2,\"settled\":true}",
            ],
        );
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(out, "entries:  2\nid:       7\nsettled:  true\n");
        let [posted, .., polled] = asked.as_slice() else {
            panic!("{asked:?}")
        };
        let (_, body) = posted.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap(),
            json!({
                "urls": ["http://a/b", "http://a/c"], "keys": [], "tags": ["t"], "prefixes": [],
                "hosts": [], "all": false, "site": "s", "soft": true, "dry_run": false,
            })
        );
        assert!(
            polled.starts_with("get /v1/purge/7 http/1.1\r\n"),
            "{polled}"
        );
    }

    #[test]
    fn whether_nothing_matched_is_worth_a_wait() {
        let (outcome, out, _) = purged(
            "--tag t",
            &[
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":0,\"settled\":false}",
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":0,\"settled\":true}",
            ],
        );
        assert_eq!(outcome.unwrap_err().code(), 3);
        assert_eq!(out, "entries:  0\nid:       7\nsettled:  true\n");
        let (outcome, out, _) = purged(
            "--tag t",
            &[
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":7,\"entries\":1,\"settled\":false}",
            ],
        );
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(out, "entries:  1\nid:       7\nsettled:  false\n");
    }

    #[test]
    fn a_purge_that_matched_nothing_is_told_by_its_code() {
        let (outcome, out, _) = purged(
            "--all --dry-run",
            &["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id\":1,\"entries\":0}"],
        );
        assert_eq!(outcome.unwrap_err().code(), 3);
        assert_eq!(out, "entries:  0\nid:       1\n");
    }

    #[test]
    fn what_is_not_counted_yet_or_at_all_is_not_nothing() {
        for (receipt, nothing) in [
            (json!({"entries": 0, "settled": true}), true),
            (
                json!({"entries": 0, "settled": true, "uncounted": []}),
                true,
            ),
            (json!({"entries": 1, "settled": true}), false),
            (json!({"entries": 0, "settled": false}), false),
            (
                json!({"entries": 0, "settled": true, "uncounted": ["object_store"]}),
                false,
            ),
        ] {
            assert_eq!(is_of_nothing(&receipt), nothing, "{receipt}");
        }
    }

    #[test]
    fn explain_escapes_what_it_asks_about() {
        let admin = Admin {
            admin: None,
            token_file: None,
        };
        let explain = Explain {
            url: "http://a/b?c=d&e".to_owned(),
            headers: vec!["accept:*/*".to_owned(), "x:y".to_owned()],
            json: false,
            admin,
        };
        assert_eq!(
            explain_path(&explain),
            "/v1/explain?url=http%3A%2F%2Fa%2Fb%3Fc%3Dd%26e&header=accept%3A%2A%2F%2A&header=x%3Ay"
        );
    }

    #[test]
    fn the_environment_names_api_and_token() {
        let variables = |name: &str, value: &str| {
            Variables([(name.to_owned(), value.to_owned())].into_iter().collect())
        };
        let admin = Admin {
            admin: None,
            token_file: None,
        };
        assert!(admin.client_in(&Variables::default()).is_ok());
        let failure = admin
            .client_in(&variables("LARDER_ADMIN", "a b"))
            .unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(
            failure
                .to_string()
                .starts_with("LARDER_ADMIN: \"a b\" is not"),
            "{failure}"
        );
        let failure = admin
            .client_in(&variables("LARDER_TOKEN_FILE", "/no/such"))
            .unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(
            failure
                .to_string()
                .starts_with("LARDER_TOKEN_FILE: \"/no/such\" cannot be read")
        );
    }
}
