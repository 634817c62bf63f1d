//! A look at the certificate that a server shows.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The certificate (DER) that the server at `address` shows, checked against the authority in a
/// PEM file.
///
/// # Errors
/// When there is no connection, or the certificate is not good.
pub fn served_certificate(address: SocketAddr, authority: &Path) -> Result<Vec<u8>> {
    crate::install_crypto_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut tls = ClientConnection::new(Arc::new(config), address.ip().into())?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    let shown = tls.peer_certificates().and_then(<[_]>::first);
    Ok(shown.context("a certificate")?.to_vec())
}
