//! TLS towards origins: which certificates are trusted, and which protocols are offered.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::config::OriginProtocol;

/// HTTP/2 over TLS (RFC 9113 3.2).
pub const H2: &[u8] = b"h2";
/// HTTP/1.1 over TLS (RFC 7301 6).
pub const HTTP1: &[u8] = b"http/1.1";

/// How connections to the servers of one site begin. They must show a certificate for their name
/// that is signed by `authorities`, or by those that the platform trusts.
///
/// # Errors
/// The library for TLS offers nothing that both sides know.
pub fn client_config(
    protocol: OriginProtocol,
    authorities: Option<&[CertificateDer<'static>]>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let roots = match authorities {
        None => platform(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone())?;
            }
            Arc::new(roots)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let offered: &[&[u8]] = match protocol {
        OriginProtocol::Auto => &[H2, HTTP1],
        OriginProtocol::Http1 => &[HTTP1],
        OriginProtocol::H2 => &[H2],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The authorities that the platform trusts, read once.
fn platform() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "trusted certificates of the platform could not be read");
        }
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!(
                "the platform trusts no certificate authority: https origins need origin_ca"
            );
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}
