//! The program `larder`. Everything it does is in the library.

use std::process::ExitCode;

/// What one thread stores another evicts. This allocator frees without a lock what was allocated
/// elsewhere; under the system's, the two wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    larder::cli::run(std::env::args_os())
}
