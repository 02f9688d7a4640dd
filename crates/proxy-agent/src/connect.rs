//! Reaching a proxy-server: DNS, TCP, an HTTP proxy where one leads there, TLS and the
//! introduction of the protocol that both speak, each with a deadline and with words for who has to mend it.

use std::io;

use cluster_proxy_http_proxy::{Outbound, ProxyError, Via};
use cluster_proxy_identity::Token;
use cluster_proxy_identity::tls::{ClientTls, FlagFile};
use cluster_proxy_tunnel::konnectivity::{KONNECTIVITY_ALPN, ServerStream};
use cluster_proxy_tunnel::lane::{AgentHello, AgentLane, LANE_ALPN, LANES, LaneEvent, ServerHello};
use cluster_proxy_tunnel::tls::{self, ServerName};
use cluster_proxy_tunnel::{DialError, TunnelError, socket};
use tokio::net::TcpStream;

use crate::config::Config;

/// TLS, with or without an HTTP proxy in between.
type Io = tls::ClientStream<Outbound>;

/// A connection to one server: a lane, or konnectivity with a server that speaks nothing else.
#[derive(Debug)]
pub(crate) enum Lane {
    Native(Box<AgentLane<Io>>),
    Konnectivity(Box<ServerStream<Io>>),
}

impl Lane {
    /// How the server introduced itself.
    pub(crate) fn server(&self) -> &ServerHello {
        match self {
            Self::Native(lane) => lane.server(),
            Self::Konnectivity(stream) => stream.server(),
        }
    }

    /// What happens next. Nothing is lost when the future is dropped and asked for again.
    pub(crate) async fn next(&mut self) -> Result<LaneEvent, TunnelError> {
        match self {
            Self::Native(lane) => lane.next().await,
            Self::Konnectivity(stream) => stream.next().await,
        }
    }

    /// Tells the server that this agent ends soon.
    pub(crate) fn drain(&mut self) {
        match self {
            Self::Native(lane) => lane.drain(),
            Self::Konnectivity(stream) => stream.drain(),
        }
    }

    /// Takes no more connections; those open go on.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Native(lane) => lane.finish(),
            Self::Konnectivity(stream) => stream.finish(),
        }
    }

    /// Ends in order, once the connections are done.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Native(lane) => lane.close(),
            Self::Konnectivity(stream) => stream.close(),
        }
    }
}

/// Everything needed to reach a server.
#[derive(Debug)]
pub(crate) struct Connector {
    config: Config,
    tls: ClientTls,
    server_name: ServerName<'static>,
    hello: AgentHello,
}

impl Connector {
    pub(crate) fn new(config: Config) -> Result<Self, ConnectError> {
        let host = config.server.host();
        let server_name =
            ServerName::try_from(host.clone()).map_err(|_| ConnectError::ServerName { host })?;
        let mut capabilities = Vec::new();
        if config.lanes > 1 {
            capabilities.push(LANES.to_owned());
        }
        if config.is_quiet() {
            capabilities.push(AgentHello::quiet(config.http2.ping_interval));
        }
        let hello = AgentHello {
            agent_id: config.agent_id.clone(),
            identifiers: config.identifiers.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities,
        };
        let mut alpn = vec![LANE_ALPN, KONNECTIVITY_ALPN];
        for more in config.more_alpn.iter().map(String::as_bytes) {
            if !alpn.contains(&more) {
                alpn.push(more);
            }
        }
        let tls = config.tls.with_alpn(&alpn);
        Ok(Self {
            config,
            tls,
            server_name,
            hello,
        })
    }

    /// One attempt; a server that is not wanted is left at once.
    pub(crate) async fn connect(
        &self,
        is_wanted: impl FnOnce(&ServerHello) -> bool,
    ) -> Result<Lane, ConnectError> {
        let limit = self.config.connect_timeout;
        let token = self.token()?;
        let outbound = Box::pin(self.dial()).await?;
        let name = self.server_name.clone();
        let connected = tls::connect_over(outbound, name, self.tls.config(), limit)
            .await
            .map_err(|cause| ConnectError::Tls {
                via: self.via(),
                cause,
            })?;
        match connected.alpn.as_deref() {
            Some(LANE_ALPN) => self.open_lane(connected.stream, token, is_wanted).await,
            // TLS lets none through that was not offered.
            Some(_) => self.open_stream(connected.stream, token, is_wanted).await,
            None => return Err(ConnectError::NoLane { via: self.via() }),
        }
        .map_err(|cause| ConnectError::Lane { cause })
    }

    async fn open_lane(
        &self,
        io: Io,
        token: Option<Token>,
        is_wanted: impl FnOnce(&ServerHello) -> bool,
    ) -> Result<Lane, TunnelError> {
        let (token, http2) = (token.as_ref(), &self.config.http2);
        let lane = AgentLane::open_over(io, &self.hello, token, http2, is_wanted).await?;
        Ok(Lane::Native(Box::new(lane)))
    }

    async fn open_stream(
        &self,
        io: Io,
        token: Option<Token>,
        is_wanted: impl FnOnce(&ServerHello) -> bool,
    ) -> Result<Lane, TunnelError> {
        let authority = self.config.server.to_string();
        let (token, http2) = (token.as_ref(), &self.config.http2);
        let stream =
            ServerStream::open_over(io, &authority, &self.hello, token, http2, is_wanted).await?;
        Ok(Lane::Konnectivity(Box::new(stream)))
    }

    /// The token as the file has it now: the kubelet renews it within the hour.
    fn token(&self) -> Result<Option<Token>, ConnectError> {
        let Some(file) = &self.config.token_file else {
            return Ok(None);
        };
        let error = |cause: String| ConnectError::Token {
            file: file.clone(),
            cause,
        };
        let text = std::fs::read_to_string(&file.path).map_err(|cause| error(cause.to_string()))?;
        let token = Token::parse(&text).map_err(|cause| error(cause.to_string()))?;
        if token.expose().len() > MAX_TOKEN {
            return Err(error(format!("longer than {MAX_TOKEN} bytes")));
        }
        Ok(Some(token))
    }

    /// A connection on which TLS with the server can begin.
    async fn dial(&self) -> Result<Outbound, ConnectError> {
        let limit = self.config.connect_timeout;
        let server = &self.config.server;
        let Some(proxy) = &self.config.http_proxy else {
            let socket = self.tuned(&server.host(), server.port()).await;
            return socket
                .map(Outbound::Left)
                .map_err(|cause| ConnectError::Dial { cause });
        };
        let address = proxy.url().address();
        let socket = self
            .tuned(&address.host, address.port)
            .await
            .map_err(|cause| ConnectError::DialProxy {
                proxy: proxy.url().to_string(),
                cause,
            })?;
        proxy
            .open(socket, (&server.host(), server.port()), &[], limit)
            .await
            .map_err(|cause| ConnectError::Proxy { cause })
    }

    async fn tuned(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let gone = |error: io::Error| DialError::Unreachable {
            details: error.to_string(),
        };
        let socket = socket::dial(host, port, self.config.connect_timeout).await?;
        socket::tune_tunnel(&socket).map_err(gone)?;
        if self.config.is_quiet() {
            socket::leave_idle(&socket).map_err(gone)?;
        }
        Ok(socket)
    }

    /// Which HTTP proxy is on the way.
    fn via(&self) -> Via {
        Via::of(self.config.http_proxy.as_ref())
    }
}

/// What HTTP/2 on both sides leaves room for in a head. Tokens of service accounts have 1 to 2 KiB.
const MAX_TOKEN: usize = 24 * 1024;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No certificate could name the configured host.
    #[error("{host} is no host name that a certificate could have")]
    ServerName {
        /// The host.
        host: String,
    },
    /// There is no token to show.
    #[error("{file}: {cause}")]
    Token {
        /// Where it should be.
        file: FlagFile,
        /// What is wrong with it, without a part of it.
        cause: String,
    },
    /// No TCP connection.
    #[error("cannot connect: {}", cause.details())]
    Dial {
        /// Which addresses, and what was wrong with each.
        cause: DialError,
    },
    /// No TCP connection to the HTTP proxy.
    #[error("cannot connect to the HTTP proxy {proxy}: {}", cause.details())]
    DialProxy {
        /// Its URL, without credentials.
        proxy: String,
        /// Which addresses, and what was wrong with each.
        cause: DialError,
    },
    /// The HTTP proxy leads nowhere.
    #[error("{cause}")]
    Proxy {
        /// What it says.
        cause: ProxyError,
    },
    /// No TLS.
    #[error("TLS with the proxy-server{via} failed: {cause}")]
    Tls {
        /// Which HTTP proxy is on the way.
        via: Via,
        /// What rustls or the socket says.
        cause: io::Error,
    },
    /// TLS, and then no common protocol.
    #[error("what answers{via} speaks neither lanes nor konnectivity")]
    NoLane {
        /// Which HTTP proxy is on the way.
        via: Via,
    },
    /// TLS, and then no introduction.
    #[error("no lane: {}", cause.in_full())]
    Lane {
        /// What was wrong with it.
        cause: TunnelError,
    },
}

impl ConnectError {
    /// Whose fault it is and what to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::ServerName { .. } => "correct --proxy-server-host",
            Self::Token { .. } => {
                "the file must hold the token of this agent's service account: is the projected \
                 volume mounted?"
            }
            Self::Dial {
                cause: DialError::Unresolvable { .. },
            } => "check --proxy-server-host and the DNS of this cluster",
            Self::Dial {
                cause: DialError::Refused { .. },
            } => {
                "nothing listens there: is the proxy-server running, and its Service or load \
                 balancer ready?"
            }
            Self::Dial {
                cause: DialError::Overloaded { .. },
            } => "this agent is out of file descriptors or memory",
            Self::Dial { .. } => "look for a firewall or a missing route to the hub",
            Self::DialProxy {
                cause: DialError::Unresolvable { .. },
                ..
            } => "check the host in HTTPS_PROXY (proxyConfig.httpsProxy) and the DNS here",
            Self::DialProxy { .. } => {
                "check the address in HTTPS_PROXY (proxyConfig.httpsProxy), and whether this \
                 cluster may reach it"
            }
            Self::Proxy { cause } => cause.advice(),
            Self::Tls { via, cause } if via.inspects(cause) => {
                "a certificate of an unknown CA came in place of the proxy-server's: does the HTTP \
                 proxy inspect TLS? Let it pass the hub's address on untouched; inspected lanes \
                 cannot work, since the agent proves itself in TLS"
            }
            Self::Tls { cause, .. } => tls::explain(cause),
            Self::NoLane { via } if via.is_proxy() => {
                "does the HTTP proxy inspect TLS? Let it pass the hub's address on untouched; or \
                 something else than the proxy-server's agent port answers there"
            }
            Self::NoLane { .. } => {
                "something else than the proxy-server's agent port answers there"
            }
            Self::Lane {
                cause: TunnelError::Refused { reason },
            } if reason.contains("token") => {
                "see --service-account-token-path here, and --agent-namespace, \
                 --agent-service-account and --authentication-audience at the server"
            }
            Self::Lane {
                cause: TunnelError::Refused { .. },
            } => "the hub has to accept this cluster, or this agent needs its own certificate",
            // TLS 1.3 servers judge a client's certificate after the client is done.
            Self::Lane { cause } if cause.in_full().contains("fatal alert") => {
                "the server refused this agent's certificate: look at --agent-cert and its CA"
            }
            Self::Lane { .. } => "the server ended the connection: its log says why",
        }
    }
}

#[cfg(test)]
mod tests;
