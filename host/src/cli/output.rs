//! How results look: aligned reports and tables made of JSON whose fields are the server's
//! business.
//!
//! Nothing here knows what a counter means, so a new one is shown without a new client. Text from
//! the other side never reaches the terminal raw.

use std::io::{self, Write};

use serde_json::Value;

/// Width that tables keep to where one record alone does not exceed it.
const WIDTH: usize = 100;

/// `text` with control characters escaped, so that none of them steers a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Writes `value` as JSON, for programs.
pub(super) fn json(out: &mut impl Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

/// Writes the fields of `value` as `name: value` lines with the values aligned.
pub(super) fn report(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let fields = fields(value);
    let rows: Vec<_> = fields
        .into_iter()
        .map(|(name, text)| vec![format!("{name}:"), text])
        .collect();
    columns(out, "", &rows)
}

/// Writes statistics: what is single as a report, then a table for each list of records, one
/// column a record.
pub(super) fn statistics(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let Value::Object(parts) = value else {
        return report(out, value);
    };
    let (lists, single): (Vec<_>, Vec<_>) =
        parts.iter().partition(|(_, part)| records(part).is_some());
    let single: serde_json::Map<_, _> = single
        .into_iter()
        .map(|(name, part)| (name.clone(), part.clone()))
        .collect();
    report(out, &Value::Object(single))?;
    for (name, part) in lists {
        let records = records(part).unwrap_or_default();
        if !records.is_empty() {
            writeln!(out)?;
            table(out, &printable(name), records)?;
        }
    }
    Ok(())
}

/// The records of a list that holds nothing else.
fn records(value: &Value) -> Option<&[Value]> {
    let items = value.as_array()?;
    (!items.is_empty() && items.iter().all(Value::is_object)).then_some(items)
}

/// Writes `records` side by side, as many as fit.
fn table(out: &mut impl Write, title: &str, records: &[Value]) -> io::Result<()> {
    let mut names: Vec<String> = Vec::new();
    let mut shown: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for record in records {
        let mut fields = fields(record);
        let own = fields.iter().position(|(name, _)| name == "name");
        let heading = own.map(|at| fields.remove(at).1).unwrap_or_default();
        for (name, _) in &fields {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        shown.push((heading, fields));
    }
    let wide = |text: &str| text.chars().count() + 2;
    let first = names
        .iter()
        .map(|name| wide(name) + 2)
        .max()
        .unwrap_or(0)
        .max(wide(title));
    let mut rest = shown.as_slice();
    while !rest.is_empty() {
        let mut width = first;
        let fitting = rest
            .iter()
            .take_while(|(heading, fields)| {
                let texts = fields.iter().map(|(_, text)| wide(text));
                width += texts.max().unwrap_or(0).max(wide(heading));
                width <= WIDTH
            })
            .count();
        let (now, later) = rest.split_at(fitting.max(1));
        let mut rows = vec![vec![title.to_owned()]];
        rows.extend(names.iter().map(|name| vec![format!("  {name}")]));
        for (heading, fields) in now {
            let cells = names.iter().map(|name| {
                let own = fields.iter().find(|(field, _)| field == name);
                own.map_or("-", |(_, text)| text).to_owned()
            });
            let column = std::iter::once(heading.clone()).chain(cells);
            for (row, cell) in rows.iter_mut().zip(column) {
                row.push(cell);
            }
        }
        columns(out, "", &rows)?;
        rest = later;
    }
    Ok(())
}

/// Writes the records of `value`, or of its only list, one line a record. A record that holds a
/// list of records itself takes one line for each of those.
pub(super) fn list(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let inner = || value.as_object()?.values().find_map(records);
    let Some(found) = records(value).or_else(inner) else {
        return report(out, value);
    };
    let lines: Vec<_> = found
        .iter()
        .flat_map(unfolded)
        .map(|line| fields(&line))
        .collect();
    let mut names = vec!["name".to_owned(), "version".to_owned()];
    for (name, _) in lines.iter().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.retain(|name| lines.iter().flatten().any(|(field, _)| field == name));
    let mut rows = vec![names.clone()];
    rows.extend(lines.iter().map(|line| {
        let cell = |name: &String| {
            let own = line.iter().find(|(field, _)| field == name);
            own.map_or("-", |(_, text)| text).to_owned()
        };
        names.iter().map(cell).collect()
    }));
    columns(out, "", &rows)
}

/// `record` with each record of its own list in turn laid over what it says of all of them.
fn unfolded(record: &Value) -> Vec<Value> {
    let Value::Object(members) = record else {
        return vec![record.clone()];
    };
    let Some((name, inner)) = members.iter().find_map(|(n, v)| Some((n, records(v)?))) else {
        return vec![record.clone()];
    };
    let over = |item: &Value| {
        let mut line = members.clone();
        line.remove(name);
        line.extend(item.as_object().cloned().unwrap_or_default());
        Value::Object(line)
    };
    inner.iter().map(over).collect()
}

/// Writes `rows` with their columns aligned to the left, two spaces apart.
pub(super) fn columns(out: &mut impl Write, indent: &str, rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (position, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(position) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Every scalar inside `value`, by its path. Lists of scalars count as one.
fn fields(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let child = |name: &str| {
        let name = printable(name);
        if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                collect(&child(name), member, found);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (position, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str);
                collect(
                    &child(&name.map_or(position.to_string(), str::to_owned)),
                    item,
                    found,
                );
            }
        }
        scalar => found.push((path.to_owned(), text(scalar))),
    }
}

/// A scalar, or a list of them, as it is shown.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(write: impl Fn(&mut Vec<u8>, &Value) -> io::Result<()>, value: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_report_is_aligned() {
        let value = json!({
            "age_ms": 12, "key": "a\nb", "none": null, "tiers": [{ "name": "memory", "hit": true }],
            "tags": ["a", "b"], "verdict": { "lifetime": 1.5, "empty": {}, "why": "" },
        });
        assert_eq!(
            shown(report, &value),
            "age_ms:             12\n\
             key:                a\\nb\n\
             none:               -\n\
             tags:               a, b\n\
             tiers.memory.hit:   true\n\
             tiers.memory.name:  memory\n\
             verdict.empty:      -\n\
             verdict.lifetime:   1.5\n\
             verdict.why:        \"\"\n"
        );
    }

    #[test]
    fn statistics_stand_in_columns() {
        let value = json!({
            "uptime_s": 5,
            "tiers": [
                { "name": "memory", "hits": 1_000_000, "bytes": null },
                { "name": "disk", "hits": 2, "faults": { "trap": 1 } },
            ],
            "policies": [],
        });
        assert_eq!(
            shown(statistics, &value),
            "policies:  -\n\
             uptime_s:  5\n\
             \n\
             tiers          memory   disk\n\
             \x20 bytes        -        -\n\
             \x20 hits         1000000  2\n\
             \x20 faults.trap  -        1\n"
        );
    }

    #[test]
    fn a_list_has_a_line_a_version() {
        let expected = "name  version  bytes  hooks\n\
                        a     1        10     keying\n\
                        a     2        11     keying, eviction\n\
                        b     3        12     -\n";
        let value = json!({ "policies": [
            { "name": "a", "versions": [
                { "version": "1", "bytes": 10, "hooks": ["keying"] },
                { "version": "2", "bytes": 11, "hooks": ["keying", "eviction"] },
            ] },
            { "name": "b", "version": "3", "bytes": 12, "hooks": [] },
        ] });
        assert_eq!(shown(list, &value), expected);
        assert_eq!(shown(list, &json!({ "policies": [] })), "policies:  -\n");
    }

    #[test]
    fn many_records_are_broken_into_lots_that_fit() {
        let sites: Vec<_> = (0..30)
            .map(|n| json!({ "name": format!("site-{n:02}"), "hits": n }))
            .collect();
        let text = shown(statistics, &json!({ "sites": sites }));
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        for n in 0..30 {
            assert_eq!(text.matches(&format!("site-{n:02}")).count(), 1);
        }
        let wide = json!({ "sites": [{ "name": "x".repeat(200), "hits": 1 }] });
        assert!(shown(statistics, &wide).contains(&"x".repeat(200)));
    }
}
