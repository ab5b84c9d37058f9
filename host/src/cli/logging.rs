//! Where log lines go: to standard error, one line an event.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::Level;

/// Starts logging at `level`, or as `RUST_LOG` says. Only the first call in a process counts.
pub(super) fn start(level: Level) {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let own = || EnvFilter::new(level.as_str());
    let filter = match wanted.map(EnvFilter::try_new) {
        None => own(),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            // The one line that cannot go through the log.
            drop(io::Write::write_fmt(
                &mut io::stderr(),
                format_args!("warning: RUST_LOG is not understood and not used: {error}\n"),
            ));
            own()
        }
    };
    let started = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init();
    // A second start (tests in one process) keeps the first one's settings.
    drop(started);
}
