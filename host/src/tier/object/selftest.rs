//! What the store is found to be when the tier starts: whether it can be reached with these
//! credentials, and whether it keeps the one promise that nodes could coordinate by: of several
//! who create an object, exactly one succeeds.
//!
//! Reading and writing entries needs no such promise and never waits for this.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::path::Path;
use tokio::time::sleep;

use super::names::{self, Names};
use super::remote::{Fault, Remote};

/// Who create the same object at once.
const RACERS: usize = 8;
/// Before the test is made again if it could not be finished, at first.
const PAUSE: Duration = Duration::from_secs(1);
/// And at most.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Whether nodes can coordinate through the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Coordination {
    /// Not known yet: the store has not answered.
    #[default]
    Unknown,
    /// Never known: the tier is only read, and the test has to write.
    ReadOnly,
    /// They can.
    Supported,
    /// They cannot, because the store does not do what it must.
    Unsupported(&'static str),
}

/// The finding.
#[derive(Debug, Default)]
pub(super) struct Finding(Mutex<Coordination>);

impl Finding {
    pub(super) fn get(&self) -> Coordination {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, coordination: Coordination) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = coordination;
    }
}

/// Tests the store until there is a finding.
pub(super) async fn run(remote: &Remote, names: &Names, finding: &Finding) {
    let mut pause = PAUSE;
    loop {
        let result = test(remote, names).await;
        match result {
            Ok(None) => return finding.set(Coordination::Supported),
            Ok(Some(wrong)) => {
                tracing::error!(
                    wrong,
                    "nodes cannot coordinate through this object store; entries are still kept \
                     in it"
                );
                return finding.set(Coordination::Unsupported(wrong));
            }
            Err(_) => sleep(Remote::spread(pause)).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reaches for the store without writing, so that its state is known.
pub(super) async fn reach(remote: &Remote, names: &Names) {
    let mut pause = PAUSE;
    while remote.list(&names.probes(names::nonce()), 1).await.is_err() {
        sleep(Remote::spread(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What the store does wrong.
async fn test(remote: &Remote, names: &Names) -> Result<Option<&'static str>, Fault> {
    let test = names::nonce();
    let probes = [1, 2].map(|number| names.probe(test, number));
    let wrong = test_with(remote, &names.probes(test), &probes).await;
    for probe in &probes {
        // One that stays is a few bytes.
        remote.delete(probe).await.unwrap_or_default();
    }
    wrong
}

async fn test_with(
    remote: &Remote,
    place: &Path,
    [twice, raced]: &[Path; 2],
) -> Result<Option<&'static str>, Fault> {
    let content = |number: usize| Bytes::from(format!("probe {number}"));
    remote.create(twice, content(1)).await?;
    match remote.create(twice, content(2)).await {
        Err(Fault::Conflict) => {}
        Ok(()) => return Ok(Some("an object that exists is created once more")),
        Err(fault) => return Err(fault),
    }
    let racers = (0..RACERS).map(|number| remote.create(raced, content(number)));
    let results = join_all(racers).await;
    let mut winners = Vec::new();
    for (number, result) in results.iter().enumerate() {
        match result {
            Ok(()) => winners.push(number),
            Err(Fault::Conflict) => {}
            Err(fault) => return Err(*fault),
        }
    }
    let winner = match winners.as_slice() {
        [winner] => *winner,
        // Everyone may be told to try again.
        [] => return Err(Fault::Conflict),
        _ => return Ok(Some("several who create one object at once all succeed")),
    };
    for (probe, expected) in [(twice, content(1)), (raced, content(winner))] {
        if remote.small(probe).await? != expected {
            return Ok(Some("an object is not what was created"));
        }
    }
    let listed = remote.list(place, RACERS).await?;
    let all = [twice, raced]
        .iter()
        .all(|probe| listed.iter().any(|it| it.location == **probe));
    Ok((!all).then_some("an object that was created is not listed"))
}
