//! A self-contained minute.

/// Runs it.
///
/// # Errors
/// Something could not be started.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
