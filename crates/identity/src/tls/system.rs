//! The CAs of this machine: what a program trusts that was told of no CA in particular.

use std::sync::OnceLock;

use rustls::RootCertStore;

/// The CAs of this machine (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), read once: an image
/// brings its own and never changes them. Those that are damaged are left out, as everywhere.
pub(super) fn roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a CA of this machine cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    };
    ROOTS.get_or_init(read).clone()
}
