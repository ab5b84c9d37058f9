//! What a process said so far, line by line, and waiting for what it will say.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// What a process said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    pub(super) fn push(&self, line: &str) {
        self.0.0.lock().expect("sound").lines.push(line.to_owned());
        self.0.1.notify_all();
    }

    pub(super) fn end(&self) {
        self.0.0.lock().expect("sound").ended = true;
        self.0.1.notify_all();
    }

    pub(super) fn lines(&self) -> usize {
        self.0.0.lock().expect("sound").lines.len()
    }

    pub(super) fn text(&self) -> String {
        let lines = self.0.0.lock().expect("sound");
        lines
            .lines
            .iter()
            .flat_map(|line| {
                [
                    line, "
",
                ]
            })
            .collect()
    }

    /// The first line from number `from` on that is `wanted`, and its number; `None` if the
    /// process ended, or patience did.
    pub(super) fn wait_for_line(
        &self,
        from: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let found = |lines: &Lines| {
            let mut numbered = lines.lines.iter().enumerate().skip(from);
            numbered
                .find(|(_, line)| wanted(line))
                .map(|(number, line)| (number, line.clone()))
        };
        let locked = self.0.0.lock().expect("sound");
        let waiting = self.0.1.wait_timeout_while(locked, PATIENCE, |lines| {
            !lines.ended && found(lines).is_none()
        });
        let (lines, _) = waiting.expect("sound");
        found(&lines)
    }
}
