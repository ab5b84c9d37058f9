//! Writes what is queued: entries whole, the content of large ones first, in an object of its own
//! and in parts, and the head that names it last. Whoever reads sees the entry before or the entry
//! after, never half of one.

use std::sync::Arc;
use std::time::Duration;

use object_store::PutPayload;

use super::Inner;
use super::form::{self, Hashed, Hashing};
use super::names::{self, Name, Nonce};
use super::queue::{Item, Task};
use super::remote::{Fault, Remote};
use super::source::{PART, Source};
use crate::clock;
use crate::entry::{Entry, StoredBody};
use crate::tier::envelope::{Born, Envelope};

/// Times that a task may fail by itself.
const FAILURES_MAX: u32 = 8;
/// Before it runs again for the first time; twice that before the next, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long nothing is written after the store has refused it: only an operator can change that.
const DENIED_PAUSE: Duration = Duration::from_secs(5);

/// How a task ended that did not fail.
enum Ended {
    Written,
    Removed,
    /// It would have been of no use any more.
    Outdated,
    /// The fields of the response are too long.
    TooLong,
    /// Its content lies in another tier, which cannot read it any more.
    Lost,
}

/// Runs tasks of the queue, one after the other, for as long as the tier runs.
pub(super) async fn work(inner: Arc<Inner>) {
    loop {
        let item = inner.queue.next(&inner.remote.gate).await;
        let began = clock::instant();
        let result = match &item.task {
            Task::Put { entry, born } => put(&inner, item.name, entry, *born).await,
            Task::Remove => remove(&inner, item.name).await,
        };
        let stats = &inner.remote.stats;
        match result {
            Ok(ended) => {
                match ended {
                    Ended::Written => {
                        stats.writes.increment();
                        stats.write_time.observe(began.elapsed());
                    }
                    Ended::Removed => stats.removals.increment(),
                    Ended::Outdated => stats.superseded.increment(),
                    Ended::TooLong => stats.dropped_large.increment(),
                    Ended::Lost => stats.write_failures.increment(),
                }
                inner.queue.done(&item);
            }
            Err(fault) => failed(&inner, item, fault),
        }
    }
}

fn failed(inner: &Inner, mut item: Item, fault: Fault) {
    if let Some(withheld) = inner.remote.gate.closed_until() {
        // Not its own failure: all wait.
        return inner.queue.again(item, withheld.until);
    }
    let hopeless = match fault {
        Fault::Withheld(withheld) => return inner.queue.again(item, withheld.until),
        // Of what is written to, only the bucket can be missing.
        Fault::Denied | Fault::Missing => {
            inner.queue.pause(DENIED_PAUSE);
            true
        }
        Fault::Conflict => true,
        Fault::Throttled | Fault::TimedOut | Fault::Failed => false,
    };
    item.failures += 1;
    if !hopeless && item.failures <= FAILURES_MAX {
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(item.failures - 1));
        let pause = Remote::spread(pause.min(PAUSE_MAX));
        inner.remote.stats.retries.increment();
        return inner.queue.again(item, clock::now().after(pause));
    }
    match item.task {
        Task::Put { .. } => inner.remote.stats.write_failures.increment(),
        Task::Remove => inner.remote.stats.removal_failures.increment(),
    }
    inner.queue.done(&item);
}

async fn put(inner: &Inner, name: Name, entry: &Entry, born: Born) -> Result<Ended, Fault> {
    let empty = StoredBody::default();
    let body = entry.response().map_or(&empty, |stored| &stored.body);
    let Some(mut envelope) = Envelope::of(entry, born, [0; 32]) else {
        return Ok(Ended::Outdated);
    };
    let useful = |until: u64| until > clock::unix_millis(clock::wall());
    if !envelope.expires().is_none_or(useful) {
        return Ok(Ended::Outdated);
    }
    if envelope.encode().is_none() {
        return Ok(Ended::TooLong);
    }
    let head = inner.names.head(name);
    let within = inner.remote.deadlines.small;
    if body.len() <= form::INLINE_MAX {
        let Ok(content) = Source::of(body).next().await else {
            return Ok(Ended::Lost);
        };
        let content = content.unwrap_or_default();
        let mut hashing = Hashing::default();
        for piece in &content {
            hashing.update(piece);
        }
        envelope.digest = hashing.finish().digest;
        let Some(pieces) = form::with_content(&envelope, &content) else {
            return Ok(Ended::TooLong);
        };
        inner.remote.put(&head, pieces, within).await?;
        return Ok(Ended::Written);
    }
    let replaced = content_now(inner, name).await?;
    let nonce = names::nonce();
    let Some(hashed) = content(inner, name, nonce, body).await? else {
        return Ok(Ended::Lost);
    };
    envelope.digest = hashed.digest;
    let Some(object) = form::without_content(&envelope, nonce, &hashed) else {
        return Ok(Ended::TooLong);
    };
    // If this fails the head may have been written all the same, so that its content must stay;
    // the sweep finds it if not.
    inner.remote.put(&head, vec![object], within).await?;
    if let Some(nonce) = replaced {
        inner.retired.push(inner.names.body(name, nonce));
    }
    Ok(Ended::Written)
}

async fn remove(inner: &Inner, name: Name) -> Result<Ended, Fault> {
    let head = inner.names.head(name);
    let content = match inner.remote.prelude(&head).await {
        Ok(prelude) => form::content_of(&prelude).ok().flatten(),
        Err(Fault::Missing) => return Ok(Ended::Removed),
        Err(fault @ Fault::Withheld(_)) => return Err(fault),
        // Unknown: the sweep will find it.
        Err(_) => None,
    };
    inner.remote.delete(&head).await?;
    if let Some(nonce) = content {
        inner.retired.push(inner.names.body(name, nonce));
    }
    Ok(Ended::Removed)
}

/// The object that holds the content of the entry as it is now, if it has one.
async fn content_now(inner: &Inner, name: Name) -> Result<Option<Nonce>, Fault> {
    match inner.remote.prelude(&inner.names.head(name)).await {
        Ok(prelude) => Ok(form::content_of(&prelude).ok().flatten()),
        Err(fault @ Fault::Withheld(_)) => Err(fault),
        // Unknown: the sweep will find it.
        Err(_) => Ok(None),
    }
}

/// Writes content as an object of its own. None if it cannot be read where it lies.
async fn content(
    inner: &Inner,
    name: Name,
    nonce: Nonce,
    body: &StoredBody,
) -> Result<Option<Hashed>, Fault> {
    let (remote, path) = (&inner.remote, inner.names.body(name, nonce));
    let mut hashing = Hashing::default();
    let mut source = Source::of(body);
    if body.len() <= PART {
        let Ok(part) = source.next().await else {
            return Ok(None);
        };
        let part = part.unwrap_or_default();
        for piece in &part {
            hashing.update(piece);
        }
        remote.put(&path, part, remote.deadlines.part).await?;
        return Ok(Some(hashing.finish()));
    }
    let mut upload = remote.begin(&path).await?;
    loop {
        let part = match source.next().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(_) => {
                remote.abort(upload.as_mut()).await;
                return Ok(None);
            }
        };
        for piece in &part {
            hashing.update(piece);
        }
        let payload: PutPayload = part.into_iter().collect();
        let bytes = u64::try_from(payload.content_length()).unwrap_or(u64::MAX);
        let written = remote.part(upload.put_part(payload), bytes).await;
        if let Err(fault) = written {
            remote.abort(upload.as_mut()).await;
            return Err(fault);
        }
    }
    match remote.complete(upload.as_mut()).await {
        Ok(()) => Ok(Some(hashing.finish())),
        Err(fault) => {
            remote.abort(upload.as_mut()).await;
            Err(fault)
        }
    }
}
