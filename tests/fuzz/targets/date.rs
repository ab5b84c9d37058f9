//! Any bytes as a date: what is read can be written and read again.
#![no_main]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder::rfc9111::date::{parse, parse_near};
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fuzz_target!(|bytes: &[u8]| {
    let near = parse_near(bytes, UNIX_EPOCH + NOW);
    let far = parse(bytes);
    assert_eq!(near.is_some(), far.is_some());
    if let Some(time) = near {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH);
            since.map_or_else(|error| -error.duration().as_secs_f64(), |d| d.as_secs_f64())
        };
        // Years 0 to 9999.
        assert!((-62_200_000_000.0..253_402_300_801.0).contains(&seconds(time)));
    }
});
