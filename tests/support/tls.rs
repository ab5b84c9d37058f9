//! Certificates, and clients that speak TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::PATIENCE;
use super::client::request;

/// A certificate that signs itself.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    chain: String,
    key: String,
}

impl Certificate {
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let generated = rcgen::generate_simple_self_signed(names).expect("valid names");
        let chain = generated.cert.pem();
        Self {
            der: CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM"),
            chain,
            key: generated.signing_key.serialize_pem(),
        }
    }

    /// Writes it to `NAME.pem` and `NAME.key` in `dir`.
    pub(crate) fn write(&self, dir: &Path, name: &str) {
        for (ending, text) in [("pem", &self.chain), ("key", &self.key)] {
            std::fs::write(dir.join(format!("{name}.{ending}")), text).expect("a file");
        }
    }
}

/// The section of a configuration that uses the certificates of these names.
pub(crate) fn section(names: &[&str]) -> String {
    let mut text = "[listen.tls]\nhttps = \"127.0.0.1:0\"\n".to_owned();
    for name in names {
        let files = format!("chain = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        text.push_str("[[listen.tls.certificate]]\n");
        text.push_str(&files);
    }
    text
}

/// What a client offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    config: ClientConfig,
    name: String,
}

impl Offer {
    /// A client of `name` that trusts `certificates`.
    pub(crate) fn new(name: &str, certificates: &[&Certificate]) -> Self {
        Self::with_versions(name, certificates, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with_versions(
        name: &str,
        certificates: &[&Certificate],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.der.clone()).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            config,
            name: name.to_owned(),
        }
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::new(self.config.clone())
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.name.clone()).expect("a name")
    }

    /// Connects and completes the handshake.
    pub(crate) fn connect(&self, address: SocketAddr) -> std::io::Result<TlsClient> {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(self.config(), self.server_name())
            .map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient { stream })
    }
}

/// A client of HTTP/1.1 over TLS.
#[derive(Debug)]
pub(crate) struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    /// The protocol that was agreed on.
    pub(crate) fn alpn(&self) -> Option<String> {
        let protocol = self.stream.conn.alpn_protocol();
        protocol.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// The certificate that was shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        let shown = self.stream.conn.peer_certificates().expect("one");
        shown[0].clone().into_owned()
    }

    pub(crate) fn version(&self) -> rustls::ProtocolVersion {
        self.stream.conn.protocol_version().expect("agreed on")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the edge reads");
    }

    /// One request for `host`, and the head and content of its answer, which must have a length.
    pub(crate) fn get(&mut self, host: &str, target: &str) -> (String, Vec<u8>) {
        self.send(&request("GET", target, &[("Host", host)], b""));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.stream.read_exact(&mut body).expect("a whole body");
        (head, body)
    }

    /// Everything until the edge ends the connection; an error if it does not say so.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }
}
