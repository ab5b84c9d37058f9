//! Names that came with an upload, in messages: few, short and without control characters.

use std::fmt;

/// Names listed in one message.
const NAMES_SHOWN: usize = 8;

/// Bytes shown of one name.
const NAME_BYTES_SHOWN: usize = 100;

/// `name` in a form fit for a message: short and without control characters.
pub(super) fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(NAME_BYTES_SHOWN);
    let cut = name.get(..end).unwrap_or_default();
    cut.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Names of imports or exports: all counted, the first few kept.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) count: usize,
    pub(super) any_wasi: bool,
    first: Vec<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn push(&mut self, name: &'a str) {
        self.count = self.count.saturating_add(1);
        self.any_wasi |= name.starts_with("wasi:");
        if self.first.len() < NAMES_SHOWN {
            self.first.push(name);
        }
    }
}

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.first.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{}", shown(name))?;
        }
        match self.count.saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
