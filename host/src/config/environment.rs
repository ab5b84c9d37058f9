//! Checks a configuration against the machine: names resolve, files can be read.
//!
//! Apart from [`super::load`], because only `check` and the start of `serve` may wait for a name
//! server or refuse to run for its sake; a reload keeps serving.

use std::net::ToSocketAddrs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::text::Rejected;
use super::{Certificate, ConfigError, Loaded};

impl Loaded {
    /// Checks that every origin's name resolves, that the files of a token and of certificates hold
    /// some that can be used and that the data directory is none other than a directory. Waits for
    /// the name server.
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
        for (position, files) in config.listen.tls.certificates.iter().enumerate() {
            if let Err(unusable) = Certificate::read(position, files) {
                problems.push(sources.locate(&unusable));
            }
        }
        if let Some(path) = &config.data_dir
            && path.exists()
            && !path.is_dir()
        {
            let clause = format!("\"{}\" is not a directory", path.display());
            problems.push(sources.problem("data_dir", clause));
        }
        for (position, site) in config.sites.iter().enumerate() {
            for origin in site.origin.servers() {
                if let Err(error) = origin.address().to_socket_addrs() {
                    let clause = format!(
                        "\"{origin}\" cannot be reached: {error}; write a host that resolves, or \
                         an address"
                    );
                    problems.push(sources.problem(format!("site[{position}].origin"), clause));
                }
            }
            if let Some(path) = &site.origin_ca
                && let Err(rejected) = read_certificates(path)
            {
                let key = format!("site[{position}].origin_ca");
                problems.push(sources.problem(key, rejected.to_string()));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }
}

/// The certificates in the file at `path`, in PEM form (RFC 7468).
///
/// # Errors
///
/// The file cannot be read, holds none, or one in it is damaged.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Rejected> {
    let shown = path.display();
    let text = std::fs::read(path)
        .map_err(|error| Rejected::because(format!("\"{shown}\" cannot be read: {error}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let accepted = "write certificates as text that starts with -----BEGIN CERTIFICATE-----";
    match read {
        Ok(certificates) if !certificates.is_empty() => {
            for certificate in &certificates {
                RootCertStore::empty()
                    .add(certificate.clone())
                    .map_err(|error| {
                        let clause = format!("\"{shown}\" holds a damaged certificate: {error}");
                        Rejected::because(clause)
                    })?;
            }
            Ok(certificates)
        }
        Ok(_) => Err(Rejected::because(format!(
            "\"{shown}\" holds no certificate; {accepted}"
        ))),
        Err(error) => Err(Rejected::because(format!(
            "\"{shown}\" is not in PEM form: {error}; {accepted}"
        ))),
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
