//! What the demo does and tells, in order.
//!
//! After each burst the clients' own counts are held against those of the edge and of the origin,
//! so a number that is shown is one that all of them agree on.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::burst::{CONNECTIONS, Seen, burst};
use super::origin::{Content, Origin};
use crate::client::{Client, escaped};
use crate::clock;

/// Requests of each connection in the bursts that are compared.
const REQUESTS: u64 = 500;
/// Requests of each connection before the policy is swapped under them.
const LEAD: u64 = 100;
/// Requests of all connections after that.
const TAIL: u64 = 2_000;
/// The longest wait for the connections to get going.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is swapped in.
const POLICY: &str = "normalize-query";

/// Standard output was closed.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub(super) struct ReaderGone;

/// Everything that takes part.
pub(super) struct Story {
    pub(super) origin: Origin,
    pub(super) content: Arc<Content>,
    /// Where clients connect.
    pub(super) edge: SocketAddr,
    /// Where operators connect.
    pub(super) admin: SocketAddr,
    pub(super) client: Client,
    pub(super) out: io::Stdout,
}

/// What the edge counted.
#[derive(Clone, Copy)]
struct Counts {
    requests: u64,
    hits: u64,
    origin_requests: u64,
    /// Calls at the keying hook: all, and those of the policy that is swapped in.
    keying: u64,
    keying_by_policy: u64,
}

/// A burst, as its clients saw it and as the edge counted it.
struct Measured {
    seen: Seen,
    counts: Counts,
}

macro_rules! say {
    ($story:expr, $($text:tt)*) => {
        writeln!($story.out, $($text)*).map_err(unsaid)
    };
}

impl Story {
    /// Does all of it.
    pub(super) fn tell(mut self) -> anyhow::Result<()> {
        self.introduce()?;

        say!(
            self,
            "\n1. Requests under the native key: host and target as they came.\n"
        )?;
        let url = format!("http://{}/articles/7?part=2&fbclid=", self.edge);
        let (first, second) = (url.clone() + "1f", url + "2e");
        self.explain(&first)?;
        let all = |sent: u64| sent < REQUESTS;
        let native = self.measure(|story| Ok(burst(story.edge, &story.content, 1, &all)))?;

        say!(
            self,
            "\n2. More of them, and {POLICY} is put in while they run.\n"
        )?;
        let Counts {
            keying,
            keying_by_policy,
            ..
        } = self.measure(Self::swap_under_load)?.counts;
        let by_native = keying - keying_by_policy;
        ensure!(
            by_native > 0 && keying_by_policy > 0,
            "the swap missed the burst"
        );
        say!(
            self,
            "   {by_native} keyed by the native rule, then {keying_by_policy} by {POLICY}"
        )?;

        say!(
            self,
            "\n3. The requests of part 1 again, from an empty cache, by {POLICY}.\n"
        )?;
        let purged = self.client.post("/v1/purge", json!({ "all": true }))?;
        say!(self, "   purged {} entries", number(&purged, "/entries")?)?;
        let policy = self.measure(|story| Ok(burst(story.edge, &story.content, 1, &all)))?;
        self.explain(&first)?;
        self.explain(&second)?;

        self.compare(&native, &policy)?;
        self.look_around()
    }

    fn introduce(&mut self) -> anyhow::Result<()> {
        let (count, bytes) = self.content.size();
        let stats = self.client.get("/v1/stats")?;
        let active = |hook: &str| text(&stats, &format!("/sites/0/policies/{hook}/active"));
        say!(
            self,
            "An origin, an edge and its clients, all in this process.\n"
        )?;
        say!(
            self,
            "   origin     http://{}   {count} resources, {bytes} bytes",
            self.origin.address
        )?;
        say!(self, "   edge       http://{}   for clients", self.edge)?;
        say!(self, "   admin      http://{}   for operators", self.admin)?;
        for hook in ["keying", "freshness", "eviction"] {
            say!(self, "   {hook:<10} {}", active(hook)?)?;
        }
        Ok(())
    }

    /// Swaps the keying policy while clients ask, and lets them go on for a while.
    fn swap_under_load(&mut self) -> anyhow::Result<Seen> {
        let (swapped, after) = (AtomicBool::new(false), AtomicU64::new(0));
        let (ready, is_ready) = mpsc::sync_channel(usize::try_from(CONNECTIONS)?);
        let more = |sent: u64| {
            // Whether anybody still waits to hear it makes no difference.
            let told = sent != LEAD || ready.send(()).is_ok();
            let goes_on =
                !swapped.load(Ordering::Acquire) || after.fetch_add(1, Ordering::Relaxed) < TAIL;
            told && goes_on
        };
        let (seen, answer, took) = std::thread::scope(|scope| {
            let clients = scope.spawn(|| burst(self.edge, &self.content, 2, &more));
            for _ in 0..CONNECTIONS {
                // In vain if a client failed, which is told after the burst.
                if is_ready.recv_timeout(PATIENCE).is_err() {
                    break;
                }
            }
            let start = clock::instant();
            let body = json!({ "hook": "keying", "policy": POLICY });
            let answer = self.client.post("/v1/sites/default/policy", body);
            let took = start.elapsed();
            // Whatever came of it, or the clients would never end.
            swapped.store(true, Ordering::Release);
            (clients.join().unwrap_or_default(), answer, took)
        });
        let answer = answer?;
        let (previous, active) = (text(&answer, "/previous")?, text(&answer, "/active")?);
        ensure!(
            active.starts_with(POLICY),
            "{active} is active, not {POLICY}"
        );
        say!(self, "   {previous} -> {active} in {} ms", took.as_millis())?;
        Ok(seen)
    }

    /// Runs a burst, holds what its clients saw against what edge and origin counted, and tells.
    fn measure(
        &mut self,
        run: impl FnOnce(&mut Self) -> anyhow::Result<Seen>,
    ) -> anyhow::Result<Measured> {
        let (before, arrived_before) = (self.counts()?, self.origin.requests.get());
        let seen = run(self)?;
        let counts = self.counts()?.since(before);
        let arrived = self.origin.requests.get() - arrived_before;
        let Seen {
            answered,
            hits,
            failures,
            took,
        } = &seen;
        let (failed, ms) = (failures.len(), took.as_millis());
        ensure!(
            failed == 0,
            "{failed} requests failed: {}",
            failures.join("; ")
        );
        for (what, found, expected) in [
            ("requests counted by the edge", counts.requests, *answered),
            ("keying calls", counts.keying, *answered),
            ("hits counted by the edge", counts.hits, *hits),
            ("requests at the origin", arrived, counts.origin_requests),
        ] {
            ensure!(found == expected, "{found} {what}, and {expected} expected");
        }
        say!(
            self,
            "   {answered} requests over {CONNECTIONS} connections in {ms} ms: {failed} failed, \
             {hits} hits, {arrived} reached the origin"
        )?;
        Ok(Measured { seen, counts })
    }

    fn counts(&self) -> anyhow::Result<Counts> {
        let stats = self.client.get("/v1/stats")?;
        let mut counts = Counts {
            requests: number(&stats, "/sites/0/requests")?,
            hits: number(&stats, "/sites/0/hits")?,
            origin_requests: number(&stats, "/sites/0/origin_requests")?,
            keying: 0,
            keying_by_policy: 0,
        };
        let policies = stats.get("policies").and_then(Value::as_array);
        for policy in policies.context("the admin API answered without policies")? {
            if text(policy, "/hook")? == "keying" {
                let calls = number(policy, "/calls")?;
                counts.keying += calls;
                counts.keying_by_policy += if text(policy, "/name")? == POLICY {
                    calls
                } else {
                    0
                };
            }
        }
        Ok(counts)
    }

    fn explain(&mut self, url: &str) -> anyhow::Result<()> {
        let path = format!("/v1/explain?url={}", escaped(url));
        let answer = self.client.get(&path)?;
        say!(self, "   GET {url}")?;
        say!(self, "     key {}", text(&answer, "/key")?)?;
        say!(
            self,
            "     {}: {}",
            text(&answer, "/verdict")?,
            text(&answer, "/why")?
        )
    }

    fn compare(&mut self, native: &Measured, policy: &Measured) -> anyhow::Result<()> {
        let rows = |measured: &Measured| {
            let Counts {
                requests,
                hits,
                origin_requests,
                keying,
                ..
            } = measured.counts;
            let tenths = (hits * 1_000).checked_div(requests).unwrap_or_default();
            [
                ("requests", requests.to_string()),
                ("hit ratio", format!("{}.{} %", tenths / 10, tenths % 10)),
                ("requests to the origin", origin_requests.to_string()),
                ("keying calls", keying.to_string()),
                ("time", format!("{} ms", measured.seen.took.as_millis())),
            ]
        };
        say!(self, "\n   {:<24}{:>16}{POLICY:>18}", "", "native:default")?;
        for ((name, before), (_, after)) in rows(native).into_iter().zip(rows(policy)) {
            say!(self, "   {name:<24}{before:>16}{after:>18}")?;
        }
        let (before, after) = (native.counts, policy.counts);
        ensure!(after.hits > before.hits, "{POLICY} brought no more hits");
        let spared = after.origin_requests < before.origin_requests;
        ensure!(spared, "{POLICY} did not spare the origin");
        Ok(())
    }

    fn look_around(&mut self) -> anyhow::Result<()> {
        let (edge, admin) = (self.edge, self.admin);
        let stays = if self.out.is_terminal() {
            "It runs until Ctrl-C. Look around meanwhile:"
        } else {
            "It ends here. In a terminal it goes on, and you can look around:"
        };
        say!(self, "\n{stays}\n")?;
        say!(
            self,
            "   curl -si 'http://{edge}/articles/7?gclid=you' | head -n 12"
        )?;
        say!(self, "   curl -s http://{admin}/v1/stats")?;
        say!(self, "   curl -s http://{admin}/metrics")?;
        say!(
            self,
            "   curl -s -X POST http://{admin}/v1/sites/default/rollback"
        )?;
        say!(
            self,
            "\nThen write a policy of your own: `larder policy new hello`."
        )
    }
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            hits: self.hits - before.hits,
            origin_requests: self.origin_requests - before.origin_requests,
            keying: self.keying - before.keying,
            keying_by_policy: self.keying_by_policy - before.keying_by_policy,
        }
    }
}

fn unsaid(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::new(error).context("standard output"),
    }
}

fn number(value: &Value, pointer: &str) -> anyhow::Result<u64> {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.with_context(|| format!("the admin API answered without a number at {pointer}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("the admin API answered without a text at {pointer}"))
}
