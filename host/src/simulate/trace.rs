//! Traces: files of requests, read one after another and never kept.
//!
//! | format | lines |
//! |---|---|
//! | `csv` | `time,key,size` and perhaps `ttl`, in this order or as a header names them |
//! | `clf` | common and combined log format |
//! | `json` | Larder's own access log |
//!
//! Plain, gzip or zstd, known by content. A bad line is counted and passed over, and the first few
//! are named. Time never goes back: a line that says so is counted, and time stands still for it.

mod access;
mod clf;
mod csv;
mod field;
mod lines;
mod source;
mod web;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use access::Line as AccessLine;
use csv::{Columns, First};
use field::Flaw;
use lines::{Line, Lines};
use web::Web;

use super::request::Request;

/// Bad lines that are named.
const NAMED: usize = 5;

/// How the lines of a trace are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `time,key,size`.
    Csv,
    /// Common or combined log format.
    Clf,
    /// Larder's access log.
    Json,
}

/// Whether a bad line ends the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// It is counted.
    Lenient,
    /// It does.
    Strict,
}

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be opened.
    #[error("{}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It cannot be read on, which for compressed files may be for damage.
    #[error("{}: cannot be read past {requests} requests: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Requests read before.
        requests: u64,
        /// Why.
        error: io::Error,
    },
    /// It is not a trace in the format.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// What a trace had that was not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Lines that were no request, and were passed over.
    pub bad: u64,
    /// Lines of a log that were none to a cache.
    pub not_cacheable: u64,
    /// Lines whose time was before that of a line before.
    pub backwards: u64,
    /// The first few of the first and third, in words.
    pub named: Vec<String>,
}

/// How a trace is to be read.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// Its format, if it is not to be found out.
    pub format: Option<Format>,
    /// Whether a bad line ends the reading.
    pub tolerance: Tolerance,
}

/// A trace that is being read.
pub struct Trace {
    settings: TraceSettings,
    lines: Lines<Box<dyn Read>>,
    parser: Option<Parser>,
    consumed: Arc<AtomicU64>,
    total: Option<u64>,
    requests: u64,
    time_ms: u64,
    oddities: Oddities,
}

enum Parser {
    Csv(Columns),
    Clf(Web),
    Json(Web),
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Trace");
        fields.field("settings", &self.settings);
        fields
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Opens a trace.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(settings: TraceSettings) -> Result<Self, TraceError> {
        let source = source::open(&settings.path).map_err(|error| TraceError::Open {
            path: settings.path.clone(),
            error,
        })?;
        Ok(Self {
            settings,
            lines: Lines::new(source.text),
            parser: None,
            consumed: source.consumed,
            total: source.total,
            requests: 0,
            time_ms: 0,
            oddities: Oddities::default(),
        })
    }

    /// Appends requests to `batch` until it has `most`. Answers whether there may be more.
    ///
    /// # Errors
    /// It cannot be read on, or, where that is not tolerated, a line is bad.
    pub(super) fn read(
        &mut self,
        batch: &mut Vec<Request>,
        most: usize,
    ) -> Result<bool, TraceError> {
        while batch.len() < most {
            let line = match self.lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(false),
                Err(error) => {
                    return Err(TraceError::Read {
                        path: self.settings.path.clone(),
                        requests: self.requests,
                        error,
                    });
                }
            };
            let text = match line {
                Line::Whole(text) if text.is_empty() || text.starts_with(b"#") => continue,
                Line::Whole(text) => Some(text),
                Line::TooLong => None,
            };
            let parsed = match (text, &mut self.parser) {
                (Some(text), Some(parser)) => parser.parse(text),
                (Some(text), none) => {
                    let begun = Parser::begin(text, self.settings.format);
                    let (mut parser, first) = begun.map_err(|message| TraceError::Format {
                        path: self.settings.path.clone(),
                        message,
                    })?;
                    let parsed = match first {
                        First::Header => Ok(None),
                        First::Request => parser.parse(text),
                    };
                    let header = first == First::Header;
                    *none = Some(parser);
                    if header {
                        continue;
                    }
                    parsed
                }
                (None, _) => Flaw::err("longer than 1 MiB"),
            };
            match parsed {
                Ok(Some(request)) => batch.push(self.in_time(request)?),
                Ok(None) => self.oddities.not_cacheable += 1,
                Err(flaw) => {
                    self.oddities.bad += 1;
                    self.name(|| flaw)?;
                }
            }
        }
        Ok(true)
    }

    /// What was not as it should be, so far.
    pub fn oddities(&self) -> &Oddities {
        &self.oddities
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How much of the file was read, between 0 and 1; `None` where its length is not known.
    pub fn progress(&self) -> Option<f64> {
        self.total
            .map(|total| super::number::ratio(self.consumed.load(Relaxed), total).min(1.0))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.settings.path
    }

    /// `request` at a time no less than that of the one before.
    fn in_time(&mut self, mut request: Request) -> Result<Request, TraceError> {
        if request.time_ms < self.time_ms {
            self.oddities.backwards += 1;
            let by = self.time_ms - request.time_ms;
            self.name(|| Flaw::new(format!("time goes back by {by} ms")))?;
            request.time_ms = self.time_ms;
        }
        self.time_ms = request.time_ms;
        self.requests += 1;
        Ok(request)
    }

    /// Notes a flaw of the last line, if it is one of the first.
    fn name(&mut self, flaw: impl FnOnce() -> Flaw) -> Result<(), TraceError> {
        let is_strict = self.settings.tolerance == Tolerance::Strict;
        if !is_strict && self.oddities.named.len() >= NAMED {
            return Ok(());
        }
        let named = format!("line {}: {}", self.lines.number, flaw());
        if is_strict {
            return Err(TraceError::Format {
                path: self.settings.path.clone(),
                message: named,
            });
        }
        self.oddities.named.push(named);
        Ok(())
    }
}

impl Parser {
    /// The parser for a trace with this first line.
    fn begin(line: &[u8], format: Option<Format>) -> Result<(Self, First), String> {
        let Some(format) = format.or_else(|| guess(line)) else {
            return Err(format!(
                "the first line is in no known format (csv: time,key,size; clf: common or \
                 combined log; json: Larder's access log): {:.80}",
                String::from_utf8_lossy(line)
            ));
        };
        Ok(match format {
            Format::Csv => {
                let (columns, first) = Columns::of(line)?;
                (Self::Csv(columns), first)
            }
            Format::Clf => (Self::Clf(Web::default()), First::Request),
            Format::Json => (Self::Json(Web::default()), First::Request),
        })
    }

    /// The request of a line; `None` if it is none to a cache.
    fn parse(&mut self, line: &[u8]) -> Result<Option<Request>, Flaw> {
        match self {
            Self::Csv(columns) => columns.parse(line).map(Some),
            Self::Clf(web) => clf::parse(line).map(|logged| web.request(logged)),
            Self::Json(web) => AccessLine::parse(line).map(|line| web.request(line.logged())),
        }
    }
}

fn guess(line: &[u8]) -> Option<Format> {
    if line.trim_ascii_start().starts_with(b"{") {
        return Some(Format::Json);
    }
    if clf::parse(line).is_ok() {
        return Some(Format::Clf);
    }
    memchr::memchr(b',', line).map(|_| Format::Csv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &str, tolerance: Tolerance) -> (Result<Vec<(u64, u64)>, String>, Oddities) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let settings = TraceSettings {
            path: file.path().to_owned(),
            format: None,
            tolerance,
        };
        let mut trace = Trace::open(settings).unwrap();
        let mut all = Vec::new();
        let outcome = loop {
            let mut batch = Vec::new();
            match trace.read(&mut batch, 2) {
                Ok(more) => {
                    all.extend(batch.iter().map(|r| (r.time_ms, r.size)));
                    if !more {
                        break Ok(all);
                    }
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        (outcome, trace.oddities().clone())
    }

    #[test]
    fn bad_lines_are_counted_and_the_first_named() {
        let text = "time,key,size\r\n1,a,10\n2,b\r3,c,-1\n\n# x\n5,d,30\n4,e,40\n";
        let (read, oddities) = trace(text, Tolerance::Lenient);
        assert_eq!(read, Ok(vec![(1000, 10), (5000, 30), (5000, 40)]));
        assert_eq!((oddities.bad, oddities.backwards), (2, 1));
        assert_eq!(
            oddities.named,
            [
                "line 3: 2 columns, not 3",
                "line 4: the size is negative",
                "line 8: time goes back by 1000 ms",
            ]
        );
        let (read, _) = trace(text, Tolerance::Strict);
        assert!(read.unwrap_err().ends_with(": line 3: 2 columns, not 3"));
        let (_, oddities) = trace(&"0,a,1\n".replace('1', "x").repeat(9), Tolerance::Lenient);
        assert_eq!((oddities.bad, oddities.named.len()), (9, 5));
        let (read, _) = trace("0,a,1\n5,b,1\n4,c,1\n", Tolerance::Strict);
        let told = read.unwrap_err();
        assert!(
            told.ends_with(": line 3: time goes back by 1000 ms"),
            "{told}"
        );
    }

    #[test]
    fn formats_are_known_by_the_first_line() {
        for (text, expected) in [
            ("1,a,2\n", 1),
            (
                "{\"unix_ms\":1,\"method\":\"GET\",\"host\":\"h\",\"path\":\"/\",\"status\":200,\"bytes\":1}\n",
                1,
            ),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /a,b HTTP/1.0\" 200 5\n",
                1,
            ),
            ("time,key,size\n", 0),
            ("", 0),
        ] {
            assert_eq!(
                trace(text, Tolerance::Strict).0.unwrap().len(),
                expected,
                "{text}"
            );
        }
        let (told, _) = trace("what is this\n", Tolerance::Lenient);
        assert!(
            told.unwrap_err()
                .contains("in no known format (csv: time,key,size; clf:")
        );
    }
}
