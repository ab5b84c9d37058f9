//! Verifying what the tiers below memory hold, because an operator asked for it.

use std::sync::Arc;

use super::{Control, wait};
use crate::cache::scrubs::{self, Report};
use crate::policy::refusal::{Refusal, RefusalKind};

impl Control {
    /// How the latest scrub is.
    pub fn scrubbed(&self) -> Report {
        self.edge.cache.scrubs.report()
    }

    /// Begins to verify every tier that can be verified, on a thread of its own.
    ///
    /// # Errors
    /// No tier can be, or one scrub is under way.
    pub fn scrub(&self) -> Result<Report, Refusal> {
        let cache = &self.edge.cache;
        if !scrubs::any(&cache.lower) {
            return Err(Refusal::new(
                RefusalKind::NotFound,
                "nothing_to_scrub",
                "there is no disk tier",
                "give it one with --data-dir or disk.dir; an object store verifies what it reads",
            ));
        }
        let Some(report) = cache.scrubs.begin() else {
            return Err(Refusal::new(
                RefusalKind::InUse,
                "scrubbing",
                "a scrub is under way",
                "GET /v1/scrub tells when it is done",
            ));
        };
        let edge = Arc::clone(&self.edge);
        let thread = std::thread::Builder::new().name("larder-scrub".to_owned());
        let began = thread.spawn(move || {
            let cache = &edge.cache;
            if let Err(refusal) = wait(cache.scrubs.run(&cache.lower)) {
                tracing::error!(%refusal, "not scrubbed");
            }
            cache.scrubs.end();
        });
        began.map(|_| report).map_err(|error| {
            cache.scrubs.end();
            let message = format!("no thread to scrub with: {error}");
            let hint = "see the limit of threads of this process";
            Refusal::new(RefusalKind::Host, "no_thread", message, hint)
        })
    }
}
