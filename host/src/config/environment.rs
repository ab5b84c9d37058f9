//! Checks a configuration against the machine: names resolve, files can be read.
//!
//! Apart from [`super::load`], because only `check` and the start of `serve` may wait for a name
//! server or refuse to run for its sake; a reload keeps serving.

use std::net::ToSocketAddrs;
use std::path::Path;

use super::text::Rejected;
use super::{ConfigError, Loaded};

impl Loaded {
    /// Checks that every origin's name resolves, that the token file holds a token and that the
    /// data directory is none other than a directory. Waits for the name server.
    ///
    /// # Errors
    ///
    /// All that does not hold.
    pub fn verify(&self) -> Result<(), ConfigError> {
        let Self { config, sources } = self;
        let mut problems = Vec::new();
        if let Some(path) = &config.admin.token_file
            && let Err(rejected) = read_token(path)
        {
            problems.push(sources.problem("admin.token_file", rejected.to_string()));
        }
        if let Some(path) = &config.data_dir
            && path.exists()
            && !path.is_dir()
        {
            let clause = format!("\"{}\" is not a directory", path.display());
            problems.push(sources.problem("data_dir", clause));
        }
        for (position, site) in config.sites.iter().enumerate() {
            if let Err(error) = site.origin.address().to_socket_addrs() {
                let clause = format!(
                    "\"{}\" cannot be reached: {error}; write a host that resolves, or an address",
                    site.origin
                );
                problems.push(sources.problem(format!("site[{position}].origin"), clause));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }
}

/// The token in the file at `path`: its only line.
///
/// # Errors
///
/// The file cannot be read, or does not hold one line of visible ASCII characters, which is what
/// fits behind `Bearer` (RFC 6750 2.1).
pub fn read_token(path: &Path) -> Result<String, Rejected> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Rejected::because(format!("\"{shown}\" cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let clause = "holds no token; write one line of visible ASCII characters without spaces";
        return Err(Rejected::because(format!("\"{shown}\" {clause}")));
    }
    Ok(token.to_owned())
}
