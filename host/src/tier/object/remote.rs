//! Requests to the store, each with a deadline and a permit, counted by how it ended. Lookups are
//! repeated and hedged within a budget; everything else is repeated by the queue it came from.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, PutPayload, UploadPart,
};
use tokio::time::{Instant, sleep, timeout};

use super::budget::Budget;
use super::form;
use super::gate::{Gate, Permit, Withheld};
use super::latency::Latency;
use super::names;
use super::settings::Deadlines;
use super::stats::{Outcome, Request, Stats};
use super::transport::Throttled;
use crate::clock;

/// Times that a lookup is made again.
const RETRIES: u32 = 2;
/// Before the first of them; twice that before the second.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A second request is not made before this has passed, however fast the store mostly is.
const HEDGE_MIN: Duration = Duration::from_millis(5);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no such object.
    Missing,
    /// There is one already.
    Conflict,
    /// The store wants fewer requests.
    Throttled,
    /// The credentials are missing, wrong, or allow too little.
    Denied,
    /// It took too long.
    TimedOut,
    /// No connection, a broken one, or an error of the store.
    Failed,
    /// The request was not made.
    Withheld(Withheld),
}

impl Fault {
    fn outcome(self) -> Option<Outcome> {
        Some(match self {
            Self::Missing => Outcome::Missing,
            Self::Conflict => Outcome::Conflict,
            Self::Throttled => Outcome::Throttled,
            Self::Denied => Outcome::Denied,
            Self::TimedOut => Outcome::TimedOut,
            Self::Failed => Outcome::Failed,
            Self::Withheld(_) => return None,
        })
    }

    /// Whether the same request may succeed a moment later.
    fn is_transient(self) -> bool {
        matches!(self, Self::TimedOut | Self::Failed)
    }
}

/// The store, as the tier asks it.
#[derive(Debug)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    /// How long requests may take.
    pub(super) deadlines: Deadlines,
    /// Whether it is asked.
    pub(super) gate: Gate,
    /// What is counted.
    pub(super) stats: Arc<Stats>,
    budget: Budget,
    latency: Latency,
    /// Said after an error of credentials.
    hint: &'static str,
}

impl Remote {
    /// Asks `store`.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        deadlines: Deadlines,
        hint: &'static str,
    ) -> Self {
        Self {
            store,
            deadlines,
            gate: Gate::default(),
            stats: Arc::default(),
            budget: Budget::default(),
            latency: Latency::default(),
            hint,
        }
    }

    /// All of an object of at most [`form::HEAD_MAX`] bytes, repeated and hedged.
    pub(super) async fn head(&self, path: &Path) -> Result<Bytes, Fault> {
        let end = Instant::now() + self.deadlines.small;
        self.budget.earn();
        let mut tries = 0;
        loop {
            let fault = match self.hedged(path, end).await {
                Err(fault) if fault.is_transient() && tries < RETRIES => fault,
                answer => return answer,
            };
            let pause = RETRY_PAUSE * 2_u32.pow(tries);
            if Instant::now() + pause >= end || !self.budget.spend() {
                return Err(fault);
            }
            tries += 1;
            sleep(pause).await;
            self.stats.retries.increment();
        }
    }

    async fn hedged(&self, path: &Path, end: Instant) -> Result<Bytes, Fault> {
        let first = self.whole(path, end);
        let mut first = std::pin::pin!(first);
        let Some(slow) = self.latency.p95() else {
            return first.await;
        };
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            () = sleep(slow.max(HEDGE_MIN)) => {}
        }
        if !self.budget.spend() {
            return first.await;
        }
        self.stats.hedges.increment();
        let second = self.whole(path, end);
        let mut second = std::pin::pin!(second);
        let mut both = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut first, if both => match answer {
                    Err(fault) if fault.is_transient() => both = false,
                    answer => return answer,
                },
                answer = &mut second => {
                    return match answer {
                        Err(fault) if fault.outcome().is_none() || fault.is_transient() => {
                            if both { first.await } else { Err(fault) }
                        }
                        answer => {
                            self.stats.hedges_won.increment();
                            answer
                        }
                    };
                }
            }
        }
    }

    async fn whole(&self, path: &Path, end: Instant) -> Result<Bytes, Fault> {
        let began = clock::instant();
        let bytes = self
            .once(Request::Get, end - Instant::now(), async {
                let found = self.store.get(path).await?;
                if found.meta.size > form::HEAD_MAX {
                    // No head of ours: the empty one is none either.
                    return Ok(Bytes::new());
                }
                found.bytes().await
            })
            .await;
        if let Ok(bytes) = &bytes {
            self.stats.read_bytes.add(length(bytes));
        }
        if matches!(bytes, Ok(_) | Err(Fault::Missing)) {
            self.latency.observe(began.elapsed());
        }
        bytes
    }

    /// The first bytes of a head.
    pub(super) async fn prelude(&self, path: &Path) -> Result<Bytes, Fault> {
        let read = self.store.get_range(path, 0..form::PRELUDE);
        let bytes = self.once(Request::GetRange, self.deadlines.small, read);
        let bytes = bytes.await?;
        self.stats.read_bytes.add(length(&bytes));
        Ok(bytes)
    }

    /// Begins to read `range`. What comes is counted and timed by whoever takes it.
    pub(super) async fn range(
        &self,
        path: &Path,
        range: std::ops::Range<u64>,
    ) -> Result<GetResult, Fault> {
        self.budget.earn();
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let read = self.store.get_opts(path, options);
        self.once(Request::GetRange, self.deadlines.small, read)
            .await
    }

    /// Whether there is an object of that name.
    pub(super) async fn is_there(&self, path: &Path) -> Result<bool, Fault> {
        let head = self.store.head(path);
        match self.once(Request::Head, self.deadlines.small, head).await {
            Ok(_) => Ok(true),
            Err(Fault::Missing) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether a read that broke may be begun again.
    pub(super) fn may_retry(&self) -> bool {
        let may = self.budget.spend();
        if may {
            self.stats.retries.increment();
        }
        may
    }

    /// Writes an object, at once and whole.
    pub(super) async fn put(
        &self,
        path: &Path,
        pieces: Vec<Bytes>,
        within: Duration,
    ) -> Result<(), Fault> {
        self.write(path, pieces, PutMode::Overwrite, within).await
    }

    /// Writes an object if there is none.
    pub(super) async fn create(&self, path: &Path, piece: Bytes) -> Result<(), Fault> {
        let within = self.deadlines.small;
        self.write(path, vec![piece], PutMode::Create, within).await
    }

    async fn write(
        &self,
        path: &Path,
        pieces: Vec<Bytes>,
        mode: PutMode,
        within: Duration,
    ) -> Result<(), Fault> {
        let bytes = pieces.iter().map(length).sum();
        let payload: PutPayload = pieces.into_iter().collect();
        let write = self.store.put_opts(path, payload, PutOptions::from(mode));
        self.once(Request::Put, within, write).await?;
        self.stats.written_bytes.add(bytes);
        Ok(())
    }

    /// Begins an object in parts.
    pub(super) async fn begin(&self, path: &Path) -> Result<Box<dyn MultipartUpload>, Fault> {
        let begin = self.store.put_multipart(path);
        self.once(Request::Create, self.deadlines.small, begin)
            .await
    }

    /// Writes the next part, of so many bytes.
    pub(super) async fn part(&self, part: UploadPart, bytes: u64) -> Result<(), Fault> {
        self.once(Request::Part, self.deadlines.part, part).await?;
        self.stats.written_bytes.add(bytes);
        Ok(())
    }

    /// Makes the parts one object.
    pub(super) async fn complete(&self, upload: &mut dyn MultipartUpload) -> Result<(), Fault> {
        let complete = self.once(Request::Complete, self.deadlines.part, upload.complete());
        complete.await.map(drop)
    }

    /// Gives up an object in parts. The store forgets it by itself if this fails too.
    pub(super) async fn abort(&self, upload: &mut dyn MultipartUpload) {
        let abort = self.once(Request::Abort, self.deadlines.small, upload.abort());
        abort.await.unwrap_or_default();
    }

    /// Deletes an object. One that is not there is deleted.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Fault> {
        let delete = self.store.delete(path);
        match self
            .once(Request::Delete, self.deadlines.small, delete)
            .await
        {
            Ok(()) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Makes a request.
    async fn once<T>(
        &self,
        request: Request,
        within: Duration,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Fault> {
        let permit = self.gate.enter().map_err(|withheld| {
            self.stats.withheld.increment();
            Fault::Withheld(withheld)
        })?;
        let counted = Counted {
            stats: &self.stats,
            request,
            outcome: Outcome::Abandoned,
        };
        let answer = timeout(within, operation).await;
        let fault = match answer {
            Ok(Ok(answer)) => {
                counted.ends(Outcome::Done);
                permit.succeeded();
                return Ok(answer);
            }
            Ok(Err(error)) => self.judge(request, &error, permit),
            Err(_) => {
                let text = format!("{} took longer than {within:?}", request.label());
                self.failed(&text, permit);
                Fault::TimedOut
            }
        };
        counted.ends(fault.outcome().unwrap_or(Outcome::Abandoned));
        Err(fault)
    }

    /// What an error says of the store.
    fn judge(&self, request: Request, error: &Error, permit: Permit) -> Fault {
        let writes = !matches!(
            request,
            Request::Get | Request::GetRange | Request::Head | Request::List
        );
        match error {
            Error::NotFound { .. } => {
                if writes {
                    // Of what is written to, only the bucket can be missing.
                    self.stats
                        .note(&format!("the bucket or container is missing: {error}"));
                }
                permit.succeeded();
                return Fault::Missing;
            }
            Error::AlreadyExists { .. } | Error::Precondition { .. } => {
                permit.succeeded();
                return Fault::Conflict;
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                let text = format!("access is denied; {}; {error}", self.hint);
                if writes {
                    // Who may not write may still read.
                    self.stats.note(&text);
                    permit.succeeded();
                } else {
                    self.failed(&text, permit);
                }
                return Fault::Denied;
            }
            _ => {}
        }
        let Some(throttled) = cause::<Throttled>(error) else {
            self.failed(&chain(error), permit);
            return Fault::Failed;
        };
        match throttled.pause {
            // It works, and says what it wants.
            Some(pause) => {
                self.stats.note(&chain(error));
                permit.succeeded();
                self.gate.pause(pause);
            }
            None => self.failed(&chain(error), permit),
        }
        Fault::Throttled
    }

    fn failed(&self, text: &str, permit: Permit) {
        self.stats.note(text);
        if permit.failed() {
            self.stats.opened.increment();
            tracing::warn!(
                error = text,
                "the object store fails and is left alone for a while"
            );
        }
    }

    /// A read that had begun broke.
    pub(super) fn broke(&self, text: &str, outcome: Outcome) {
        self.stats.count(Request::GetRange, outcome);
        if let Ok(permit) = self.gate.enter() {
            self.failed(text, permit);
        }
    }

    /// Objects below `prefix`, at most so many. A thousand are one request.
    pub(super) async fn list(&self, prefix: &Path, most: usize) -> Result<Vec<ObjectMeta>, Fault> {
        let list = self.store.list(Some(prefix)).take(most).try_collect();
        self.once(Request::List, self.deadlines.part, list).await
    }

    /// The same, of those that come after `offset`.
    pub(super) async fn list_after(
        &self,
        prefix: &Path,
        offset: &Path,
        most: usize,
    ) -> Result<Vec<ObjectMeta>, Fault> {
        let list = self.store.list_with_offset(Some(prefix), offset);
        let list = list.take(most).try_collect();
        self.once(Request::List, self.deadlines.part, list).await
    }

    /// All of a small object.
    pub(super) async fn small(&self, path: &Path) -> Result<Bytes, Fault> {
        self.whole(path, Instant::now() + self.deadlines.small)
            .await
    }

    /// A time to wait that differs from node to node: between half of `time` and all of it.
    pub(super) fn spread(time: Duration) -> Duration {
        let [random, ..] = names::nonce();
        time / 2 + time / 2 * u32::from(random) / 255
    }
}

/// The request, which is counted whatever becomes of it.
struct Counted<'a> {
    stats: &'a Stats,
    request: Request,
    outcome: Outcome,
}

impl Counted<'_> {
    fn ends(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.stats.count(self.request, self.outcome);
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The `T` among the causes of `error`.
fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// An error and its causes, each said once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
