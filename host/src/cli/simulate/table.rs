//! Results as a table for people: one block a capacity, one line a policy.

use std::io::{self, Write};

use crate::cli::output::printable;
use crate::simulate::number::ratio;
use crate::simulate::offline::Bounded;
use crate::simulate::plot::{grouped, short};
use crate::simulate::{Report, Row};

const HEAD: [&str; 9] = [
    "policy",
    "request miss",
    "byte miss",
    "evictions",
    "refusals",
    "host ns",
    "guest ns",
    "faults",
    "peak",
];

/// Writes `report` of the trace `name`.
pub(super) fn write(out: &mut impl Write, name: &str, report: &Report) -> io::Result<()> {
    write!(
        out,
        "{}: {} requests for {}",
        printable(name),
        grouped(report.requests),
        short(report.bytes)
    )?;
    if let Some(footprint) = report.footprint {
        let (keys, bytes) = (grouped(footprint.keys), short(footprint.bytes));
        write!(out, "; {keys} objects, footprint {bytes}")?;
    }
    writeln!(out)?;
    let mut lines = Vec::new();
    let mut rest = report.rows.as_slice();
    let mut bounds = report.bounds.clone();
    while let Some(first) = rest.first() {
        let same = |row: &&Row| row.capacity == first.capacity;
        let (block, after) = rest.split_at(rest.iter().take_while(same).count());
        rest = after;
        let bytes = first.outcome.capacity_bytes;
        let title = match first.capacity.ends_with('%') {
            true => format!(
                "{} = {} ({} bytes)",
                first.capacity,
                short(bytes),
                grouped(bytes)
            ),
            false => format!("{} ({} bytes)", first.capacity, grouped(bytes)),
        };
        lines.push(Line::Title(title));
        lines.push(Line::Cells(HEAD.map(str::to_owned).to_vec()));
        lines.extend(block.iter().map(|row| Line::Cells(cells(row))));
        let here = |bounded: &Bounded| bounded.capacity_bytes == bytes;
        lines.extend(
            bounds
                .iter()
                .filter(|it| here(it))
                .map(|it| Line::Cells(offline(it))),
        );
        bounds.retain(|bounded| !here(bounded));
    }
    aligned(out, &lines)
}

enum Line {
    Title(String),
    Cells(Vec<String>),
}

fn percent(ratio: f64) -> String {
    format!("{:.2} %", ratio * 100.0)
}

fn cells(row: &Row) -> Vec<String> {
    let outcome = &row.outcome;
    let faults = match (outcome.fault_count(), outcome.fell_back) {
        (0, _) => "0".to_owned(),
        (count, false) => format!("{} !", grouped(count)),
        (count, true) => format!("{} ! native", grouped(count)),
    };
    let peak = ratio(outcome.peak_bytes, outcome.capacity_bytes);
    vec![
        printable(&row.policy),
        percent(outcome.request_miss_ratio()),
        percent(outcome.byte_miss_ratio()),
        grouped(outcome.evictions),
        grouped(outcome.refusals),
        format!("{:.0}", outcome.ns_host),
        format!("{:.0}", outcome.ns_guest),
        faults,
        format!("{:.1} %", peak * 100.0),
    ]
}

fn offline(bounded: &Bounded) -> Vec<String> {
    vec![
        format!("{} (offline)", bounded.bound.as_str()),
        percent(bounded.request_miss_ratio),
        percent(bounded.byte_miss_ratio),
    ]
}

/// Writes cells in columns: the first to the left, numbers to the right.
fn aligned(out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
    let mut widths = [0_usize; HEAD.len()];
    for line in lines {
        if let Line::Cells(cells) = line {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
    }
    for line in lines {
        match line {
            Line::Title(title) => writeln!(out, "\n{title}")?,
            Line::Cells(cells) => {
                for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
                    match place {
                        0 => write!(out, "  {cell:<width$}")?,
                        _ => write!(out, "  {cell:>width$}")?,
                    }
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}
