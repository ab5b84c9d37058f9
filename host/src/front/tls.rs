//! TLS towards clients (RFC 8446, RFC 5246): which certificate a client gets, and what is
//! negotiated with it.
//!
//! The certificate follows the name that the client asks for (RFC 6066 3) and never decides which
//! site answers: that is the authority of each request, so sites cannot mix. Sessions are resumed
//! by tickets whose keys live in this process, so nothing is kept of a client that has left.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use crate::config::Certificate;

/// The protocols that a client may choose from, the best first (RFC 7301).
const ALPN: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// HTTP/2 over TLS (RFC 9113 3.2).
pub const HTTP2: &[u8] = b"h2";

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// For clients that ask for no name, or one that no certificate bears.
    first: Option<Arc<CertifiedKey>>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Uses `certificates`.
    pub fn new(certificates: &[Certificate]) -> Self {
        Self(RwLock::new(Known::of(certificates)))
    }

    /// Uses `certificates` for the handshakes to come. Connections go on as they are.
    pub fn replace(&self, certificates: &[Certificate]) {
        let known = Known::of(certificates);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl Known {
    fn of(certificates: &[Certificate]) -> Self {
        let mut known = Self::default();
        for certificate in certificates {
            let certified = &certificate.certified;
            known.first.get_or_insert_with(|| Arc::clone(certified));
            for name in &certificate.names {
                let named = known.by_name.entry(name.clone());
                named.or_insert_with(|| Arc::clone(certified));
            }
        }
        known
    }

    /// The certificate for `name`: one that bears it, or else one that bears it with `*` for its
    /// first label (RFC 9525 6.3), or else the first of all.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.by_name.get(&name);
            exact.or_else(|| {
                let (_, rest) = name.split_once('.')?;
                self.by_name.get(&format!("*.{rest}"))
            })
        });
        named.or(self.first.as_ref())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.find(hello.server_name()).cloned()
    }
}

/// What is negotiated with clients: TLS 1.2 or 1.3, HTTP/2 or HTTP/1.1.
///
/// # Errors
/// The system has no random numbers.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::CertificateFiles;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let generated = rcgen::generate_simple_self_signed(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("chain"), dir.path().join("key"));
        fs::write(&chain, generated.cert.pem()).unwrap();
        fs::write(&key, generated.signing_key.serialize_pem()).unwrap();
        Certificate::read(0, &CertificateFiles { chain, key }).unwrap()
    }

    #[test]
    fn a_certificate_is_found_by_its_names() {
        let all = [
            certificate(&["first.test"]),
            certificate(&["*.b.test", "c.test"]),
            certificate(&["x.b.test", "c.test"]),
        ];
        let known = Known::of(&all);
        for (name, expected) in [
            (None, 0),
            (Some("first.test"), 0),
            (Some("other.test"), 0),
            (Some("test"), 0),
            (Some("b.test"), 0),
            (Some("a.b.test"), 1),
            (Some("A.B.test"), 1),
            (Some("a.a.b.test"), 0),
            (Some("*.b.test"), 1),
            (Some("x.b.test"), 2),
            (Some("c.test"), 1),
        ] {
            let found = known.find(name).unwrap();
            assert!(Arc::ptr_eq(found, &all[expected].certified), "{name:?}");
        }
        assert!(Known::of(&[]).find(Some("a.test")).is_none());
    }
}
