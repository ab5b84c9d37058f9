//! Miss-ratio curves as an SVG: requests on the left, bytes on the right, one line a policy.
//!
//! It needs no script and no font, and is legible on light and dark ground: whoever shows it says
//! which by `prefers-color-scheme`. Policies differ by colour and by the shape of their marks.

use std::fmt::{self, Write};

use super::Report;
use super::number::{count, real};

/// One curve: a name, and for each capacity a miss ratio.
#[derive(Debug)]
struct Curve {
    name: String,
    points: Vec<Point>,
    offline: bool,
}

impl Curve {
    fn class(&self) -> &'static str {
        match self.offline {
            true => "curve offline",
            false => "curve",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Point {
    capacity: u64,
    /// Of requests and of bytes.
    ratios: [f64; 2],
}

/// Colours that remain apart for those who see few (Okabe and Ito, 2008), and with enough contrast
/// on either ground.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6fd1", "#b58900", "#3aa6d0", "#a0522d",
];

const WIDTH: f64 = 1_200.0;
const PANEL_TOP: f64 = 96.0;
const PANEL_HEIGHT: f64 = 400.0;
const BOTTOM: f64 = PANEL_TOP + PANEL_HEIGHT;
const PANEL_WIDTH: f64 = 500.0;
const PANEL_LEFT: [f64; 2] = [76.0, 666.0];
const LEGEND_TOP: f64 = BOTTOM + 92.0;
const LEGEND_ROW: f64 = 26.0;
const LEGEND_COLUMNS: usize = 3;

// Plain rules first and no variables: what draws for slides and print often knows no more.
const STYLE: &str = "\
svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:14px}\
.ground{fill:#fff}text{fill:#1b1f24}.soft{fill:#59636e}\
.grid{stroke:#d9dee4;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}\
.curve{fill:none;stroke-width:2.5;stroke-linejoin:round}.offline{stroke-dasharray:7 5}\
.mark{stroke:#fff;stroke-width:1.2}.title{font-size:22px;font-weight:600}\
.panel{font-size:16px;font-weight:600}\
@media(prefers-color-scheme:dark){\
.ground{fill:#14181d}text{fill:#eceff3}.soft{fill:#9aa5b1}\
.grid{stroke:#2f3740}.axis{stroke:#9aa5b1}.mark{stroke:#14181d}}";

/// Writes the curves of `report`, titled `title`.
///
/// # Errors
/// Those of `out`.
pub fn svg(out: &mut impl Write, title: &str, report: &Report) -> fmt::Result {
    Chart::of(title, report).write(out)
}

struct Chart<'a> {
    title: &'a str,
    about: String,
    curves: Vec<Curve>,
    /// Where each capacity is, and what is written there.
    ticks: Vec<(u64, String)>,
}

impl<'a> Chart<'a> {
    fn of(title: &'a str, report: &Report) -> Self {
        let mut curves: Vec<Curve> = Vec::new();
        let mut add = |name: &str, offline: bool, point: Point| match curves
            .iter_mut()
            .find(|curve| curve.name == name && curve.offline == offline)
        {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve {
                name: name.to_owned(),
                points: vec![point],
                offline,
            }),
        };
        let mut ticks = Vec::new();
        for row in &report.rows {
            let outcome = &row.outcome;
            let ratios = [outcome.request_miss_ratio(), outcome.byte_miss_ratio()];
            let capacity = outcome.capacity_bytes;
            add(&row.policy, false, Point { capacity, ratios });
            ticks.push((capacity, row.capacity.clone()));
        }
        for bounded in &report.bounds {
            let ratios = [bounded.request_miss_ratio, bounded.byte_miss_ratio];
            let capacity = bounded.capacity_bytes;
            add(bounded.bound.as_str(), true, Point { capacity, ratios });
        }
        for curve in &mut curves {
            curve.points.sort_by_key(|point| point.capacity);
        }
        ticks.sort();
        ticks.dedup();
        let mut about = format!("{} requests", grouped(report.requests));
        if let Some(footprint) = report.footprint {
            let (keys, bytes) = (grouped(footprint.keys), short(footprint.bytes));
            about = format!("{about}, {keys} objects, footprint {bytes}");
        }
        Self {
            title,
            about,
            curves,
            ticks,
        }
    }

    fn write(&self, out: &mut impl Write) -> fmt::Result {
        let rows = self.curves.len().div_ceil(LEGEND_COLUMNS);
        let height = LEGEND_TOP + real(count(rows)) * LEGEND_ROW + 8.0;
        write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
             <title>Miss ratio by cache size: {title}</title><style>{STYLE}</style>\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\
             <text class=\"title\" x=\"24\" y=\"38\">{title}</text>\
             <text class=\"soft\" x=\"24\" y=\"62\">{about}</text>",
            title = escaped(self.title),
            about = escaped(&self.about),
        )?;
        for (measure, name) in ["Request miss ratio", "Byte miss ratio"].iter().enumerate() {
            self.panel(out, measure, name)?;
        }
        self.legend(out)?;
        out.write_str("</svg>\n")
    }

    fn panel(&self, out: &mut impl Write, measure: usize, name: &str) -> fmt::Result {
        let left = PANEL_LEFT.get(measure).copied().unwrap_or_default();
        let ratio = |point: &Point| point.ratios.get(measure).copied().unwrap_or_default();
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let highest = points.map(ratio).fold(0.0, f64::max);
        let step = match highest {
            _ if highest > 0.5 => 0.1,
            _ if highest > 0.2 => 0.05,
            _ => 0.02,
        };
        let top = (highest / step).ceil().max(1.0) * step;
        let y = |ratio: f64| BOTTOM - ratio / top * PANEL_HEIGHT;
        write!(
            out,
            "<text class=\"panel\" x=\"{left}\" y=\"{}\">{name}</text>",
            PANEL_TOP - 14.0
        )?;
        let mut level = 0.0;
        while level <= top + step / 2.0 {
            let class = if level > 0.0 { "grid" } else { "axis" };
            write!(
                out,
                "<line class=\"{class}\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"soft\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
                left + PANEL_WIDTH,
                left - 10.0,
                y(level) + 5.0,
                level * 100.0,
                at = y(level),
            )?;
            level += step;
        }
        self.capacities(out, left)?;
        for (index, curve) in self.curves.iter().enumerate() {
            let place = |point: &Point| {
                let x = left + self.place(point.capacity) * PANEL_WIDTH;
                (x, y(ratio(point)), ratio(point))
            };
            let places: Vec<_> = curve.points.iter().map(place).collect();
            draw(out, index, curve, &places)?;
        }
        Ok(())
    }

    /// The axis of capacities of the panel that begins at `left`.
    fn capacities(&self, out: &mut impl Write, left: f64) -> fmt::Result {
        let mut written_to = f64::MIN;
        for (capacity, label) in &self.ticks {
            let at = left + self.place(*capacity) * PANEL_WIDTH;
            write!(
                out,
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/>",
                BOTTOM + 6.0
            )?;
            // A label that would run into the one before is left out; its tick stays.
            let bytes = short(*capacity);
            let half = real(count(label.chars().count().max(bytes.len()))) * 4.0;
            if at - half < written_to {
                continue;
            }
            written_to = at + half + 6.0;
            write!(
                out,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 24.0,
                escaped(label)
            )?;
            if label.ends_with('%') {
                write!(
                    out,
                    "<text class=\"soft\" font-size=\"12\" x=\"{at:.1}\" y=\"{}\" \
                     text-anchor=\"middle\">{bytes}</text>",
                    BOTTOM + 41.0
                )?;
            }
        }
        write!(
            out,
            "<text class=\"soft\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">\
             cache size, logarithmic</text>",
            left + PANEL_WIDTH / 2.0,
            BOTTOM + 62.0
        )
    }

    /// Where a capacity is on the axis, from 0 to 1.
    fn place(&self, capacity: u64) -> f64 {
        let log = |bytes: u64| real(bytes.max(1)).ln();
        let (Some((least, _)), Some((most, _))) = (self.ticks.first(), self.ticks.last()) else {
            return 0.5;
        };
        let span = log(*most) - log(*least);
        if span <= 0.0 {
            return 0.5;
        }
        // Some room on both sides, for marks and labels.
        0.04 + 0.92 * (log(capacity) - log(*least)) / span
    }

    fn legend(&self, out: &mut impl Write) -> fmt::Result {
        for (index, curve) in self.curves.iter().enumerate() {
            let (row, column) = (index / LEGEND_COLUMNS, index % LEGEND_COLUMNS);
            let x = 24.0 + real(count(column)) * 390.0;
            let y = LEGEND_TOP + real(count(row)) * LEGEND_ROW;
            write!(
                out,
                "<line class=\"{}\" stroke=\"{}\" x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
                curve.class(),
                colour(index),
                x + 40.0
            )?;
            mark(out, index, (x + 20.0, y))?;
            let offline = if curve.offline { " (offline)" } else { "" };
            write!(
                out,
                "<text x=\"{}\" y=\"{}\">{}{offline}</text>",
                x + 52.0,
                y + 5.0,
                escaped(&curve.name)
            )?;
        }
        Ok(())
    }
}

/// One curve through `places`, each with its ratio.
fn draw(
    out: &mut impl Write,
    index: usize,
    curve: &Curve,
    places: &[(f64, f64, f64)],
) -> fmt::Result {
    let points: Vec<_> = places
        .iter()
        .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
        .collect();
    write!(
        out,
        "<polyline class=\"{}\" stroke=\"{}\" points=\"{}\"/>",
        curve.class(),
        colour(index),
        points.join(" ")
    )?;
    for ((x, y, ratio), point) in places.iter().zip(&curve.points) {
        let percent = ratio * 100.0;
        let tip = format!("{}, {}: {percent:.2} %", curve.name, short(point.capacity));
        write!(out, "<g><title>{}</title>", escaped(&tip))?;
        mark(out, index, (*x, *y))?;
        out.write_str("</g>")?;
    }
    Ok(())
}

fn colour(index: usize) -> &'static str {
    COLOURS
        .get(index % COLOURS.len())
        .copied()
        .unwrap_or_default()
}

/// The mark of the curve at `index`: the shape changes with every curve, so that those who share a
/// colour do not share it.
fn mark(out: &mut impl Write, index: usize, (x, y): (f64, f64)) -> fmt::Result {
    let colour = colour(index);
    let shape = (index + index / COLOURS.len()) % 4;
    match shape {
        0 => write!(
            out,
            "<circle class=\"mark\" fill=\"{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"
        ),
        1 => write!(
            out,
            "<rect class=\"mark\" fill=\"{colour}\" x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\"/>",
            x - 4.5,
            y - 4.5
        ),
        2 => write!(
            out,
            "<path class=\"mark\" fill=\"{colour}\" d=\"M{x:.1} {:.1}l6 10h-12z\"/>",
            y - 6.0
        ),
        _ => write!(
            out,
            "<path class=\"mark\" fill=\"{colour}\" d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\"/>",
            y - 6.0
        ),
    }
}

fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            '"' => shown.push_str("&quot;"),
            // XML 1.0 2.2 has no other control characters.
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}

/// Bytes, in the unit that leaves one to three digits.
pub fn short(bytes: u64) -> String {
    let mut amount = real(bytes);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 999.5 {
            let digits = usize::from(amount < 9.95 && unit != "B");
            return format!("{amount:.digits$} {unit}");
        }
        amount /= 1_024.0;
    }
    format!("{amount:.1} TiB")
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
