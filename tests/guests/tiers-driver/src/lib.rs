//! A program that calls interface `tiers` as its parameter `script` says, line by line.
//!
//! Test fixture. The answer is a transcript: one line for each call, with what came of it. Bodies
//! follow a pattern, so that whoever reads the transcript can work out every hash in it.

mod bindings;
mod script;

use bindings::Guest;
use larder_guest::Params;

struct Driver;

#[expect(unsafe_code, reason = "the generated exports")]
mod export {
    use super::{Driver, bindings};
    bindings::export!(Driver with_types_in bindings);
}

impl Guest for Driver {
    fn run(params: String) -> Result<String, String> {
        let params = Params::parse(&params)?;
        let mut transcript = String::new();
        for line in params.list("script")?.unwrap_or_default() {
            let outcome = script::execute(line)?;
            transcript.extend([line, " -> ", &outcome, "\n"]);
        }
        Ok(transcript)
    }
}
