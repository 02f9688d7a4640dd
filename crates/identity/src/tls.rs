//! TLS configurations that reload in place: each handshake takes the newest, connections that
//! stand keep theirs. A new file that cannot be used never replaces what works.
//!
//! The only place of the project where rustls configurations are built.

mod client;
mod files;
mod profile;
mod reloading;
mod server;
mod settings;
mod system;
mod unverified;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{ClientTls, ClientTlsFiles};
pub use files::{FlagFile, TlsError};
pub use profile::{TlsProfile, TlsProfileError};
pub use server::{ClientAuth, ServerTls, ServerTlsFiles};
pub use settings::TlsSettings;

/// Makes aws-lc-rs the provider of this process, for the libraries that ask for a default.
///
/// # Errors
/// When another provider is installed already: two TLS stacks in one process.
pub fn install_crypto_provider() -> Result<(), TlsError> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| TlsError::ProviderInstalled)
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(
        || Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        Arc::clone,
    )
}

fn describe_pair(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key does not belong to the certificate".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
