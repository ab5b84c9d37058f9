//! Many requests at once, each answer checked, each latency noted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// Clients of a load.
pub(crate) const CLIENTS: usize = 4;

/// An origin whose answers can be stored and tell the target they answer.
pub(crate) fn telling_origin() -> Origin {
    Origin::answering(|asked| Reply::cached(told(&asked.target)))
}

/// What [`telling_origin`] answers to a request for `target`.
pub(crate) fn told(target: &str) -> String {
    format!("the answer to {target}\n")
}

/// Latencies in ascending order.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Of `count` GETs by one client, whatever they are answered.
    #[track_caller]
    pub(crate) fn of(edge: &Edge, count: usize, target: impl Fn(usize) -> String) -> Self {
        let mut client = edge.client();
        let mut latencies = Vec::new();
        for number in 0..count {
            let start = Instant::now();
            assert_eq!(client.get(&target(number)).status(), 200);
            latencies.push(start.elapsed());
        }
        latencies.sort_unstable();
        Self(latencies)
    }

    /// All of several.
    pub(crate) fn merged(rounds: Vec<Self>) -> Self {
        let mut latencies: Vec<Duration> = rounds.into_iter().flat_map(|round| round.0).collect();
        latencies.sort_unstable();
        Self(latencies)
    }

    /// The latency that so many of a thousand requests did not exceed.
    pub(crate) fn at(&self, per_thousand: usize) -> Duration {
        let last = self.0.len() - 1;
        self.0[last * per_thousand / 1_000]
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(500)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(990)
    }
}

/// Sends `count` GETs on [`CLIENTS`] connections; `target` makes them from their numbers. Fails
/// unless each is answered with 200 and what [`told`] says of what `target` gives as the second.
#[track_caller]
pub(crate) fn run(
    edge: &Edge,
    count: usize,
    target: impl Fn(usize) -> (String, String) + Sync,
) -> Latencies {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut client = edge.client();
        let mut latencies = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return latencies;
            }
            let (asked, expected) = target(number);
            let start = Instant::now();
            let response = client.get(&asked);
            latencies.push(start.elapsed());
            assert_eq!(response.status(), 200, "{asked}: {response:?}");
            assert_eq!(response.text(), told(&expected), "{asked}");
        }
    };
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("every request is answered correctly"))
            .collect()
    });
    latencies.sort_unstable();
    Latencies(latencies)
}

/// Targets that are asked for over and over: `kinds` of them.
pub(crate) fn repeated(kinds: usize) -> impl Fn(usize) -> (String, String) + Sync {
    move |number| {
        let target = format!("/page/{}?n=1", number % kinds);
        (target.clone(), target)
    }
}

/// Targets none of which was asked for before, if `round` was not.
pub(crate) fn new_ones(round: &str) -> impl Fn(usize) -> (String, String) + Sync {
    let round = round.to_owned();
    move |number| {
        let target = format!("/{round}/{number}?n=1");
        (target.clone(), target)
    }
}
