//! What every simulation keeps to, and what its options change.

use serde_json::Value;

use crate::rig::{
    count, document, file, generated, larder, path, ratio, rows, simulated, succeeds,
};

const TRAFFIC: &str = "--requests 40000 --objects 3000 --skew 0.9 --one-hit 0.1 --seed 9";

/// The rows without what depends on the machine.
fn settled(document: &Value) -> Vec<Value> {
    let mut rows = rows(document).to_vec();
    for row in &mut rows {
        let fields = row.as_object_mut().expect("a row");
        fields.remove("ns_host");
        fields.remove("ns_guest");
    }
    rows
}

#[test]
fn every_policy_keeps_to_the_capacity_and_the_outcome_is_the_same_every_time() {
    let trace = file(generated(TRAFFIC));
    let first = simulated(trace.path(), "--jobs 1");
    let shares = ["0.1%", "1%", "10%"];
    assert_eq!(
        rows(&first)[0]["policy"],
        "native:lru",
        "all there are, if nobody says"
    );
    assert!(rows(&first).len() >= 3 * 3 && rows(&first).len().is_multiple_of(3));
    for row in rows(&first) {
        assert!(
            count(row, "peak_bytes") <= count(row, "capacity_bytes"),
            "{row}"
        );
        assert!(
            shares.contains(&row["capacity"].as_str().expect("text")),
            "{row}"
        );
        assert_eq!(count(row, "requests"), 40_000);
        assert_eq!(count(row, "native_evictions"), 0, "{row}");
        assert_eq!(row["fell_back"], false, "{row}");
    }
    let footprint = count(&first["trace"], "footprint_bytes");
    let tenth = rows(&first).last().expect("a row");
    assert_eq!(count(tenth, "capacity_bytes"), (footprint + 5) / 10);
    let second = simulated(trace.path(), "--jobs 4");
    assert_eq!(settled(&first), settled(&second));
}

#[test]
fn a_capacity_above_the_footprint_leaves_the_first_requests_to_miss() {
    let trace = file("0,a,10\n1,b,20\n2,a,10\n3,b,20\n");
    let arguments = [
        "--capacity",
        "1GiB",
        "--capacity",
        "100%",
        "--capacity",
        "1",
    ];
    let mut command = larder(&[
        "simulate",
        "--trace",
        path(trace.path()),
        "--format",
        "json",
    ]);
    let (out, err) = succeeds(command.args(arguments).args(["--policy", "lru"]));
    let document = document(&out);
    for (row, (misses, peak)) in rows(&document).iter().zip([(2, 30), (2, 30), (4, 0)]) {
        assert_eq!(
            (count(row, "misses"), count(row, "peak_bytes")),
            (misses, peak),
            "{row}"
        );
    }
    assert!(
        err.contains("lru at 1GiB: larger than the footprint"),
        "{err}"
    );
    assert_eq!(
        count(&rows(&document)[2], "refusals"),
        4,
        "too large for a byte"
    );
}

#[test]
fn lifetimes_count_only_when_asked_for() {
    let trace =
        file("time,key,size,ttl\n0,a,1,10\n5,a,1,10\n10,a,1,10\n15,a,1,\n99,b,1,\n999,b,1,\n");
    for policy in ["lru", "native:lru"] {
        let misses = |more: &str| {
            let arguments = format!("--policy {policy} --capacity 5 {more}");
            count(&rows(&simulated(trace.path(), &arguments))[0], "misses")
        };
        assert_eq!(misses(""), 2);
        assert_eq!(misses("--ttl"), 3, "at 10 s, when its age is its lifetime");
    }
}

#[test]
fn production_figures_charge_bookkeeping_and_shards_split_the_cache() {
    let trace = file(generated(TRAFFIC));
    let of = |more: &str| {
        let arguments = format!("--policy lru --policy native:lru --capacity 20MiB {more}");
        simulated(trace.path(), &arguments)
    };
    let [plain, served, sharded] = ["", "--overhead", "--overhead --shards 4"].map(of);
    for place in 0..2 {
        let [plain, served, sharded] = [&plain, &served, &sharded].map(|d| &rows(d)[place]);
        assert!(
            count(served, "misses") > count(plain, "misses"),
            "{served} {plain}"
        );
        assert!(count(served, "peak_entries") < count(plain, "peak_entries"));
        for row in [plain, served, sharded] {
            assert!(count(row, "peak_bytes") <= 20 << 20, "{row}");
        }
        let difference = ratio(sharded, "request_miss_ratio") - ratio(served, "request_miss_ratio");
        assert!(
            difference.abs() < 0.02,
            "shards hardly matter: {difference}"
        );
    }
}

#[test]
fn bounds_are_below_what_policies_reach() {
    let trace = file(generated(
        "--requests 20000 --objects 1000 --sizes fixed:1 --seed 3",
    ));
    let document = simulated(trace.path(), "--bounds --capacity 20 --capacity 10%");
    let bounds = document["bounds"].as_array().expect("bounds");
    assert_eq!(bounds.len(), 6);
    for row in rows(&document) {
        let of = |name: &str| {
            let same = |bound: &&Value| {
                bound["bound"] == name && bound["capacity_bytes"] == row["capacity_bytes"]
            };
            ratio(
                bounds.iter().find(same).expect("a bound"),
                "request_miss_ratio",
            )
        };
        let reached = ratio(row, "request_miss_ratio");
        assert!(
            of("pfoo-l") <= of("belady") && of("belady") <= reached,
            "{row}"
        );
        assert!(of("belady-size") <= reached && of("pfoo-l") > 0.0, "{row}");
    }
}

#[test]
fn the_table_and_the_plot_name_every_policy_and_capacity() {
    let trace = file(generated(TRAFFIC));
    let plot = file("");
    let arguments = format!(
        "--policy lru --policy s3-fifo?small=20 --capacity 1% --capacity 5MiB --bounds --plot {}",
        path(plot.path())
    );
    let mut words = vec!["simulate", "--trace", path(trace.path())];
    words.extend(arguments.split_whitespace());
    let (table, _) = succeeds(&mut larder(&words));
    let svg = std::fs::read_to_string(plot.path()).expect("a plot");
    for name in ["lru", "s3-fifo?small=20", "pfoo-l (offline)", "1%", "5MiB"] {
        assert!(
            table.contains(name) && svg.contains(name),
            "{name}: {table}\n{svg}"
        );
    }
    assert!(
        table.contains("40,000 requests for ") && table.contains("request miss"),
        "{table}"
    );
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("prefers-color-scheme:dark"));
    // Two panels of five curves, and two points each.
    assert_eq!(svg.matches("<polyline").count(), 2 * 5);
    assert_eq!(svg.matches("<g><title>").count(), 2 * 5 * 2);
    well_formed(&svg);
}

/// Every element is closed, in order.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag
            .split([' ', '/'])
            .find(|name| !name.is_empty())
            .expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}
