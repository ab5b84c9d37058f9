//! The keying hook: answers what the parameters spell out, fails, or fails now and then.

use larder_guest::keying::{Request, Verdict};
use larder_guest::{Keying, Params};

use crate::{Fatal, misbehave, mode};

/// See the crate's documentation.
#[derive(Debug)]
pub(crate) struct Rogue {
    mode: Mode,
    fields: Vec<String>,
    variant: String,
}

#[derive(Debug)]
enum Mode {
    Fatal(Fatal),
    /// Traps on requests whose hashed target is divisible by this.
    Sometimes(u64),
    /// Traps on requests with `trap` in their target.
    OnDemand,
    Pass,
    /// The target as it came.
    Behave,
    /// The target as it came, spelt out.
    Echo,
    /// The target without its query.
    Path,
    /// This target.
    Answer(String),
    /// A target of this many bytes.
    Long(usize),
    /// A variant of this many bytes.
    LongVariant(usize),
    /// The values of the declared fields as the variant.
    Fields,
}

impl Keying for Rogue {
    fn configure(params: &Params) -> Result<Self, String> {
        let length = params.u64("bytes")?.unwrap_or(16 << 10);
        let length = usize::try_from(length).map_err(|_| "bytes: too many".to_owned())?;
        let one_in = params.u64("one_in")?.unwrap_or(100).max(1);
        let target = params.string("target")?.unwrap_or_default().to_owned();
        let mode = match mode(params)? {
            "behave" => Mode::Behave,
            "trap-sometimes" => Mode::Sometimes(one_in),
            "trap-on-demand" => Mode::OnDemand,
            "pass" => Mode::Pass,
            "echo" => Mode::Echo,
            "path" => Mode::Path,
            "answer" => Mode::Answer(target),
            "long" => Mode::Long(length),
            "long-variant" => Mode::LongVariant(length),
            "fields" => Mode::Fields,
            "refuse" => return Err("the mode refuse refuses its parameters".to_owned()),
            other => {
                let fatal = Fatal::parse(other).map(Mode::Fatal);
                fatal.ok_or_else(|| format!("mode: there is no mode {other:?}"))?
            }
        };
        Ok(Self {
            mode,
            fields: params.list("fields")?.unwrap_or_default().to_vec(),
            variant: params.string("variant")?.unwrap_or_default().to_owned(),
        })
    }

    fn fields(&self) -> Vec<&str> {
        self.fields.iter().map(String::as_str).collect()
    }

    fn key(&self, request: Request<'_>) -> Verdict {
        let target = match &self.mode {
            Mode::Fatal(fatal) => {
                misbehave(*fatal);
                None
            }
            Mode::Sometimes(one_in) => {
                if hash(request.target()).is_multiple_of(*one_in) {
                    misbehave(Fatal::Trap);
                }
                None
            }
            Mode::OnDemand => {
                if request.target().contains("trap") {
                    misbehave(Fatal::Trap);
                }
                None
            }
            Mode::Pass => return Verdict::Pass,
            Mode::Behave => None,
            Mode::Echo => Some(request.target().to_owned()),
            Mode::Path => Some(request.path().to_owned()),
            Mode::Answer(target) => Some(target.clone()),
            Mode::Long(length) => Some("/".repeat(*length)),
            Mode::LongVariant(length) => return Verdict::variant("v".repeat(*length)),
            Mode::Fields => return Verdict::variant(self.values(&request)),
        };
        Verdict::Key {
            target,
            variant: self.variant.clone(),
        }
    }
}

impl Rogue {
    fn values(&self, request: &Request<'_>) -> String {
        let values = (0..self.fields.len()).map(|index| request.field(index).unwrap_or("-"));
        values.collect::<Vec<_>>().join("|")
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let hash = text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash >> 8
}
