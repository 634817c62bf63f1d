//! The one cryptography provider.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Makes ring the process's default provider for rustls. Calling it again does nothing.
pub fn install_crypto_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    match CryptoProvider::get_default() {
        Some(provider) => provider.clone(),
        None => Arc::new(rustls::crypto::ring::default_provider()),
    }
}
