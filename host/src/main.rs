//! The program `larder`. Everything it does is in the library.

use std::process::ExitCode;

/// What one thread stores another evicts. This allocator frees without a lock what was allocated
/// elsewhere; under the system's, the two wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds after which the allocator gives free memory back. Its usual second is long enough for
/// a large body to leave tens of MiB behind.
const GIVE_BACK_MS: std::ffi::c_long = 10;
/// The number of that option, for which the binding has no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

#[expect(unsafe_code, reason = "an option of a C library")]
fn give_back_soon() {
    // SAFETY: it stores a number that the allocator reads now and then.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, GIVE_BACK_MS) };
}

fn main() -> ExitCode {
    give_back_soon();
    larder::cli::run(std::env::args_os())
}
