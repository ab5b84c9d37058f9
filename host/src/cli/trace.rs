//! `trace`: traces for those who have none.

use std::io::{BufWriter, Write};

use clap::{Args, Subcommand};

use super::Failure;
use crate::simulate::generate::{Sizes, Traffic};

/// What can be done with traces.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Writes synthetic traffic to standard output, as `simulate` reads it.
    ///
    /// Popularity follows a Zipf law. Churn gives each rank new objects in the course of the trace.
    /// One-hit wonders and scans are never asked for again. The same arguments always give the same
    /// trace.
    Generate(Generate),
}

/// What `trace generate` takes.
#[derive(Debug, Args)]
pub(super) struct Generate {
    /// Requests in all
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    requests: u64,
    /// Popular objects at any one time
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    objects: u64,
    /// Exponent of the Zipf law, 0 to 10; 0 makes all objects equally popular
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.9)]
    skew: f64,
    /// How often each rank gets a new object over the whole trace
    #[arg(long, value_name = "TIMES", default_value_t = 0.0)]
    churn: f64,
    /// Share of the requests for what is asked for once, one by one, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    one_hit: f64,
    /// Share of the requests that belong to scans, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    scans: f64,
    /// Requests of one scan
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    scan_length: u64,
    /// Sizes of objects: fixed:SIZE, uniform:MIN,MAX, lognormal:MEDIAN,SIGMA or pareto:MIN,SHAPE
    #[arg(long, value_name = "DISTRIBUTION", default_value_t = Sizes::Lognormal(16 << 10, 1.5))]
    sizes: Sizes,
    /// Requests a second
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    rate: u64,
    /// Chooses among all traces with these numbers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Runs one of the commands.
pub(super) fn run(command: Command, out: &mut impl Write) -> Result<(), Failure> {
    let Command::Generate(generate) = command;
    let traffic = Traffic {
        requests: generate.requests,
        objects: generate.objects,
        skew: generate.skew,
        churn: generate.churn,
        one_hit: generate.one_hit,
        scans: generate.scans,
        scan_length: generate.scan_length,
        sizes: generate.sizes,
        rate: generate.rate,
        seed: generate.seed,
    };
    let requests = traffic.generate().map_err(Failure::Usage)?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    writeln!(out, "time,key,size")?;
    for request in requests {
        let (seconds, ms) = (request.time_ms / 1_000, request.time_ms % 1_000);
        writeln!(
            out,
            "{seconds}.{ms:03},{:x},{}",
            request.object, request.size
        )?;
    }
    Ok(out.flush()?)
}
