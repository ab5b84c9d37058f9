//! Writes what is queued: entries whole, the content of large ones first, in an object of its own
//! and in parts, and the head that names it last. Whoever reads sees the entry before or the entry
//! after, never half of one.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::body::RemoteBody;
use super::content::{self, Unwritten};
use super::form::{self, Hashed};
use super::names::{self, Name, Nonce};
use super::queue::{Item, Task};
use super::remote::{Fault, Remote};
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
}

/// Runs tasks of the queue, one after the other, for as long as the tier runs.
pub(super) async fn work(inner: Arc<Inner>) {
    loop {
        let item = inner.queue.next(&inner.remote.gate).await;
        let began = clock::instant();
        let result = match &item.task {
            Task::Put { entry, born } => put(&inner, item.name, entry, *born).await,
            Task::Head { envelope, content } => {
                let put = put_head(&inner, item.name, envelope, content);
                put.await.map_err(Unwritten::Fault)
            }
            Task::Remove => remove(&inner, item.name).await.map_err(Unwritten::Fault),
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
                }
                if matches!(ended, Ended::Outdated | Ended::TooLong) {
                    inner.queue.withdraw(&item);
                } else {
                    inner.outdated.settled(item.name);
                    inner.queue.done(&item);
                }
            }
            Err(Unwritten::Fault(fault)) => failed(&inner, item, fault),
            Err(Unwritten::Unreadable(unreadable)) => {
                tracing::debug!(%unreadable, "content to be uploaded cannot be read any more");
                stats.write_failures.increment();
                inner.queue.withdraw(&item);
            }
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
        Task::Put { .. } | Task::Head { .. } => {
            inner.remote.stats.write_failures.increment();
            if !hopeless {
                return inner.queue.withdraw(&item);
            }
        }
        Task::Remove => inner.remote.stats.removal_failures.increment(),
    }
    // Before the task is gone, which is what hides the object until then.
    let now = || clock::unix_millis(clock::wall());
    inner
        .outdated
        .note(item.name, item.task.born_at().unwrap_or_else(now));
    inner.queue.done(&item);
}

async fn put(inner: &Inner, name: Name, entry: &Entry, born: Born) -> Result<Ended, Unwritten> {
    let empty = StoredBody::default();
    let body = entry.response().map_or(&empty, |stored| &stored.body);
    let Some(mut envelope) = Envelope::of(entry, born, [0; 32]) else {
        return Ok(Ended::Outdated);
    };
    let useful = |until: u64| until > clock::unix_millis(clock::wall());
    if !envelope.expires().is_none_or(useful) {
        return Ok(Ended::Outdated);
    }
    if envelope.encode().is_none() || body.len() > form::CONTENT_MAX {
        return Ok(Ended::TooLong);
    }
    let head = inner.names.head(name);
    let within = inner.remote.deadlines.small;
    if body.len() <= form::INLINE_MAX {
        let (pieces, hashed) = content::whole(body).await?;
        envelope.digest = hashed.digest;
        let Some(pieces) = form::with_content(&envelope, &pieces) else {
            return Ok(Ended::TooLong);
        };
        inner.remote.put(&head, pieces, within).await?;
        return Ok(Ended::Written);
    }
    let now = content_now(inner, name).await?;
    let (nonce, hashed) = match ours(inner, body, name, now).await? {
        Some(content) => content,
        None => {
            let nonce = names::nonce();
            // Each of them holds a part of what it copies.
            let _turn = inner.copies.acquire().await;
            let object = inner.names.body(name, nonce);
            (nonce, content::write(&inner.remote, &object, body).await?)
        }
    };
    envelope.digest = hashed.digest;
    let Some(object) = form::without_content(&envelope, nonce, &hashed) else {
        return Ok(Ended::TooLong);
    };
    // If this fails the head may have been written all the same, so that its content must stay;
    // the sweep finds it if not.
    inner.remote.put(&head, vec![object], within).await?;
    if let Some(replaced) = now.filter(|now| *now != nonce) {
        inner.retired.push(name, replaced);
    }
    Ok(Ended::Written)
}

/// Writes the head of an entry whose content was uploaded while it arrived.
async fn put_head(
    inner: &Inner,
    name: Name,
    envelope: &Envelope,
    (nonce, hashed): &(Nonce, Hashed),
) -> Result<Ended, Fault> {
    let Some(object) = form::without_content(envelope, *nonce, hashed) else {
        inner.retired.push(name, *nonce);
        return Ok(Ended::TooLong);
    };
    let now = content_now(inner, name).await?;
    let within = inner.remote.deadlines.small;
    inner
        .remote
        .put(&inner.names.head(name), vec![object], within)
        .await?;
    if let Some(replaced) = now.filter(|now| now != nonce) {
        inner.retired.push(name, replaced);
    }
    Ok(Ended::Written)
}

/// The object that `body` is already, if it is the content of the entry as it is `now`: a response
/// that was freshened has a new head and the same content.
async fn ours(
    inner: &Inner,
    body: &StoredBody,
    name: Name,
    now: Option<Nonce>,
) -> Result<Option<(Nonce, Hashed)>, Fault> {
    let place = body.place().map(|place| -> &dyn Any { place.as_ref() });
    let remote = place.and_then(|place| place.downcast_ref::<RemoteBody>());
    let (Some(remote), Some(nonce)) = (remote, now) else {
        return Ok(None);
    };
    let object = inner.names.body(name, nonce);
    let Some(hashed) = remote.hashed_at(&inner.remote, &object) else {
        return Ok(None);
    };
    // Someone may have expired it.
    let there = inner.remote.is_there(&object).await?;
    Ok(there.then_some((nonce, hashed)))
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
        inner.retired.push(name, nonce);
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
