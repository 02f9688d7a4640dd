//! How the load comes to a hub: which protocol, and one or many connections.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_tunnel::dialer::Connection;
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, ProxyServerDialer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http1::CONNECT_LIMIT;
use crate::{grpc, http1};

/// The protocol between client and hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// CONNECT of HTTP/1.1, a connection for each tunnel.
    Http1,
    /// CONNECT of HTTP/2, one kept connection for all tunnels.
    Http2,
    /// konnectivity's `ProxyService`, a connection for each tunnel.
    Grpc,
    /// Plain TCP to a port that stands for the target.
    Tcp,
}

impl Protocol {
    /// As the Go client calls it.
    pub(crate) fn client_mode(self) -> &'static str {
        match self {
            Self::Http1 => "http-connect",
            Self::Http2 => "http2-connect",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "CONNECT, HTTP/1.1",
            Self::Http2 => "CONNECT, HTTP/2",
            Self::Grpc => "gRPC",
            Self::Tcp => "TCP",
        })
    }
}

/// A way into one hub.
#[derive(Debug, Clone)]
pub(crate) enum Front {
    Http1 {
        proxy: SocketAddr,
        tls: ClientTls,
    },
    Http2 {
        dialer: ProxyServerDialer,
    },
    Grpc {
        proxy: SocketAddr,
        tls: ClientTls,
    },
    /// The port of each target.
    Ports(BTreeMap<SocketAddr, SocketAddr>),
}

impl Front {
    /// Dials nothing yet. `tls` has the client's certificate.
    pub(crate) fn new(protocol: Protocol, proxy: SocketAddr, tls: &ClientTls) -> Result<Self> {
        Ok(match protocol {
            // Go's server agrees on no protocol there.
            Protocol::Http1 => Self::Http1 {
                proxy,
                tls: tls.with_alpn(&[]),
            },
            Protocol::Http2 => {
                let server = proxy.to_string().parse().context("proxy")?;
                let config = DialerConfig {
                    connections: 1,
                    ..DialerConfig::new(server, tls.clone())
                };
                Self::Http2 {
                    dialer: ProxyServerDialer::new(config, DialerMetrics::default())?,
                }
            }
            Protocol::Tcp => bail!("a port leads to one target"),
            Protocol::Grpc => Self::Grpc {
                proxy,
                tls: tls.with_alpn(&[b"h2"]),
            },
        })
    }

    /// A tunnel to `target`.
    pub(crate) async fn dial(&self, target: SocketAddr) -> Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Http1 { proxy, tls } => Box::new(http1::dial(*proxy, tls, target).await?),
            Self::Http2 { dialer } => {
                let target = target.to_string().parse().context("target")?;
                Box::new(dialer.connect(&target).await?)
            }
            Self::Grpc { proxy, tls } => Box::new(grpc::dial(*proxy, tls, target).await?),
            Self::Ports(ports) => {
                let port = ports.get(&target).context("no port of that target")?;
                let socket = timeout(CONNECT_LIMIT, TcpStream::connect(port))
                    .await
                    .context("no connection in time")??;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
        })
    }
}
