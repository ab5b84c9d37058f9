//! Real traces, and what another simulator found on them: for those who have them, in one folder.
//!
//! `traces.csv` (`trace`, `keys`, `footprint_bytes`, `sized`) says what is in `TRACE.csv.zst`, and
//! `reference.csv` (`trace`, `cache_bytes`, `algo`, `req_miss`, `byte_miss`) what algorithms missed.

use std::path::{Path, PathBuf};

/// A trace that is there.
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) keys: f64,
    /// Sum of the sizes of the keys.
    pub(crate) footprint_bytes: f64,
    /// Whether its objects have sizes.
    pub(crate) is_sized: bool,
}

impl Trace {
    /// Objects of average size that fit into so many bytes.
    pub(crate) fn objects_in(&self, bytes: u64) -> f64 {
        number::<f64>(&bytes.to_string()) * self.keys / self.footprint_bytes
    }
}

/// What an algorithm missed of a trace.
pub(crate) struct Cell {
    pub(crate) trace: String,
    pub(crate) cache_bytes: u64,
    pub(crate) algorithm: String,
    pub(crate) request_miss: f64,
    pub(crate) byte_miss: f64,
}

/// The folder that `LARDER_TRACES` names.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("LARDER_TRACES").map(PathBuf::from)
}

/// The traces in a folder, as they are listed.
pub(crate) fn traces(folder: &Path) -> Vec<Trace> {
    let names = ["trace", "keys", "footprint_bytes", "sized"];
    let lines = columns(&folder.join("traces.csv"), names).into_iter();
    let traces = lines.map(|[name, keys, footprint_bytes, sized]| Trace {
        file: folder.join(format!("{name}.csv.zst")),
        name,
        keys: number(&keys),
        footprint_bytes: number(&footprint_bytes),
        is_sized: sized == "1",
    });
    traces.filter(|trace| trace.file.is_file()).collect()
}

/// What these algorithms missed.
pub(crate) fn cells(folder: &Path, algorithms: &[&str]) -> Vec<Cell> {
    let names = ["algo", "trace", "cache_bytes", "req_miss", "byte_miss"];
    let lines = columns(&folder.join("reference.csv"), names).into_iter();
    let lines = lines.filter(|[algorithm, ..]| algorithms.contains(&algorithm.as_str()));
    let cell = |[algorithm, trace, cache_bytes, request_miss, byte_miss]: [String; 5]| Cell {
        trace,
        cache_bytes: number(&cache_bytes),
        algorithm,
        request_miss: number(&request_miss),
        byte_miss: number(&byte_miss),
    };
    lines.map(cell).collect()
}

/// The lines of a table, with the columns of these names.
fn columns<const N: usize>(path: &Path, names: [&str; N]) -> Vec<[String; N]> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().expect("a header").split(',').collect();
    let places = names.map(|name| {
        let place = header.iter().position(|each| *each == name);
        place.unwrap_or_else(|| panic!("{}: no column {name}", path.display()))
    });
    let line = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        places.map(|place| fields[place].to_owned())
    };
    lines.map(line).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number"))
}
