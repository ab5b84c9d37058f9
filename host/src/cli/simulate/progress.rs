//! How far a simulation has come, on a terminal: one line that is written over.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::clock;
use crate::simulate::number::real;
use crate::simulate::plot::grouped;
use crate::simulate::{Phase, Progress};

/// Time between two looks of the line.
const EVERY: Duration = Duration::from_millis(200);
/// Characters of the bar.
const BAR: u8 = 24;

/// Shows progress, if somebody looks.
pub(super) struct Meter {
    watched: bool,
    phase: Phase,
    began: Instant,
    shown: Option<Instant>,
}

impl Meter {
    /// Shows nothing yet.
    pub(super) fn new() -> Self {
        Self {
            watched: io::stderr().is_terminal(),
            phase: Phase::Surveying,
            began: clock::instant(),
            shown: None,
        }
    }

    /// Shows `progress`, unless the line is young.
    pub(super) fn show(&mut self, progress: Progress) {
        if !self.watched {
            return;
        }
        let now = clock::instant();
        if progress.phase != self.phase {
            self.phase = progress.phase;
            self.began = now;
            self.shown = None;
        }
        if self
            .shown
            .is_some_and(|shown| now.duration_since(shown) < EVERY)
        {
            return;
        }
        self.shown = Some(now);
        let line = line(progress, now.duration_since(self.began));
        // A terminal that has gone away need not see it.
        drop(write!(io::stderr().lock(), "\r{line}\x1b[K"));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.shown.is_some() {
            drop(write!(io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

fn line(progress: Progress, passed: Duration) -> String {
    let what = match progress.phase {
        Phase::Surveying => "reading for the footprint",
        Phase::Replaying => "replaying",
        Phase::Bounding => return "computing bounds".to_owned(),
    };
    let requests = grouped(progress.requests);
    let seconds = passed.as_secs_f64().max(0.001);
    let rate = real(progress.requests) / seconds / 1e6;
    let mut line = format!("{what}  {requests} requests  {rate:.1} M/s");
    if let Some(part) = progress.part.filter(|part| *part > 0.0) {
        let reached = |cell: &u8| part * f64::from(BAR) >= f64::from(*cell);
        let cells = (1..=BAR).map(|cell| if reached(&cell) { '#' } else { '-' });
        let bar: String = cells.collect();
        let left = seconds / part - seconds;
        line = format!("{line}  [{bar}] {:.0} %  {left:.0} s left", part * 100.0);
    }
    line
}
