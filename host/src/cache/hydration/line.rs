//! Who waits for a place, in the order of arrival.
//!
//! Who leaves is not looked for in the line: it is taken off when its turn comes, or with all others
//! that left once they are half of the line. So leaving costs the same however long the line is, and
//! those who left are never more than those who wait.

use std::collections::VecDeque;

use super::{Ticket, lock};
use crate::sync::{Arc, Mutex};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Line {
    tickets: VecDeque<Arc<Mutex<Ticket>>>,
    /// Of these, those that nobody wants any more.
    left: usize,
}

impl Line {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.tickets.len() - self.left
    }

    /// Somebody new comes.
    pub(super) fn push(&mut self) -> Arc<Mutex<Ticket>> {
        let ticket = Arc::new(Mutex::default());
        self.tickets.push_back(Arc::clone(&ticket));
        ticket
    }

    /// Takes off who has waited the longest, and says that it has its place. What it was before.
    pub(super) fn grant(&mut self) -> Option<Ticket> {
        while let Some(ticket) = self.tickets.pop_front() {
            let mut ticket = lock(&ticket);
            if matches!(*ticket, Ticket::Left) {
                self.left -= 1;
            } else {
                return Some(std::mem::replace(&mut *ticket, Ticket::Granted));
            }
        }
        None
    }

    /// Somebody in it has left.
    pub(super) fn leave(&mut self) {
        self.left += 1;
        if self.left * 2 > self.tickets.len() {
            self.tickets
                .retain(|ticket| !matches!(*lock(ticket), Ticket::Left));
            self.left = 0;
        }
    }
}
