//! One connection to one cluster's service-proxy: through the tunnel, then TLS to the far end.

use std::io;
use std::sync::Arc;

use cluster_proxy_forward::{Connect, Dialled, Offer, tls};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_tunnel::dialer::Connection;
use cluster_proxy_tunnel::{DialError, Dialer, Target};
use rustls::pki_types::ServerName;
use tokio_rustls::client::TlsStream;

/// Dials one cluster's service-proxy.
#[derive(Debug)]
pub(crate) struct Connector {
    dialer: Arc<dyn Dialer>,
    tls: ClientTls,
    target: Target,
    server_name: ServerName<'static>,
}

/// Why there is no connection to a service-proxy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The tunnel does not lead there.
    #[error("no tunnelled connection")]
    Tunnel {
        #[source]
        source: DialError,
    },
    /// Somebody is there who did not prove to be that cluster's service-proxy.
    #[error("the service-proxy's certificate was not accepted")]
    Certificate {
        #[source]
        source: io::Error,
    },
    /// The handshake did not come to an end.
    #[error("the TLS handshake with the service-proxy failed")]
    Handshake {
        #[source]
        source: io::Error,
    },
}

impl Connector {
    pub(crate) fn new(dialer: Arc<dyn Dialer>, tls: ClientTls, cluster: &ClusterName) -> Self {
        let host = TunnelHost::of(cluster);
        let server_name = ServerName::try_from(host.as_str().to_owned())
            .expect("letters, digits, dots and dashes are a DNS name");
        Self {
            dialer,
            tls,
            target: Target::service_proxy(&host),
            server_name,
        }
    }
}

impl Connect for Connector {
    type Io = TlsStream<Box<dyn Connection>>;
    type Error = ConnectError;

    async fn connect(&self, offer: Offer) -> Result<Dialled<Self::Io>, ConnectError> {
        let tunnelled = self
            .dialer
            .dial(&self.target)
            .await
            .map_err(|source| ConnectError::Tunnel { source })?;
        let config = self.tls.with_alpn(offer.alpn()).config();
        tls::connect(config, self.server_name.clone(), tunnelled)
            .await
            .map_err(|source| {
                if is_about_certificate(&source) {
                    ConnectError::Certificate { source }
                } else {
                    ConnectError::Handshake { source }
                }
            })
    }
}

fn is_about_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}
