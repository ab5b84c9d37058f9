//! The freshness hook: stores as the parameters say, or fails.

use std::time::Duration;

use larder_guest::freshness::{Response, Storing, Tiers, Verdict};
use larder_guest::{Freshness, Params};

use crate::{Fatal, misbehave, mode};

/// See the crate's documentation.
#[derive(Debug)]
pub(crate) struct Rogue {
    mode: Mode,
    lifetime: Duration,
    stale: Duration,
    tags: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Fatal(Fatal),
    Behave,
    DoNotStore,
    Store,
    Nowhere,
}

impl Freshness for Rogue {
    fn configure(params: &Params) -> Result<Self, String> {
        let ms = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or_default());
        let tag = params.string("tag")?.unwrap_or("tag").to_owned();
        let count = usize::try_from(params.u64("tags")?.unwrap_or_default());
        let mode = match mode(params)? {
            "behave" => Mode::Behave,
            "do-not-store" => Mode::DoNotStore,
            "store" => Mode::Store,
            "forever" => {
                return Ok(Self {
                    mode: Mode::Store,
                    lifetime: Duration::MAX,
                    stale: Duration::MAX,
                    tags: Vec::new(),
                });
            }
            "nowhere" => Mode::Nowhere,
            other => {
                let fatal = Fatal::parse(other).map(Mode::Fatal);
                fatal.ok_or_else(|| format!("mode: there is no mode {other:?}"))?
            }
        };
        Ok(Self {
            mode,
            lifetime: ms(params.u64("lifetime_ms")?),
            stale: ms(params.u64("stale_ms")?),
            tags: vec![tag; count.map_err(|_| "tags: too many".to_owned())?],
        })
    }

    fn freshness(&self, _: Response<'_>) -> Verdict {
        let tiers = match self.mode {
            Mode::Behave => return Verdict::Native,
            Mode::DoNotStore => return Verdict::DoNotStore,
            Mode::Fatal(fatal) => {
                misbehave(fatal);
                return Verdict::Native;
            }
            Mode::Store => Tiers::all(),
            Mode::Nowhere => Tiers::empty(),
        };
        Verdict::Store(Storing {
            lifetime: self.lifetime,
            stale_while_revalidate: self.stale,
            stale_if_error: self.stale,
            tiers,
            tags: self.tags.clone(),
        })
    }
}
