//! TLS handshakes with a deadline, on sockets tuned for the tunnel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::PeerIdentity;
use cluster_proxy_runtime::read_ahead::ReadAhead;
pub use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::lane::LANE_ALPN;
use crate::socket::{leave_idle, tune_tunnel};

/// The encrypted connection at the server's end.
pub type ServerStream = server::TlsStream<ReadAhead<TcpStream>>;

/// The encrypted connection at the client's end, over a socket or what stands for one.
pub type ClientStream<Io = TcpStream> = client::TlsStream<ReadAhead<Io>>;

/// A connection whose client shook hands.
#[derive(Debug)]
pub struct Accepted {
    /// The encrypted connection.
    pub stream: ServerStream,
    /// The protocol both ends agreed on (RFC 7301), if any.
    pub alpn: Option<Vec<u8>>,
    /// What the client's certificate proves.
    pub identity: PeerIdentity,
}

/// Shakes hands with a client on a socket just accepted.
///
/// # Errors
///
/// When the handshake fails or takes longer than `limit`.
pub async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> io::Result<Accepted> {
    tune_tunnel(&socket)?;
    let handshake = TlsAcceptor::from(config).accept(ReadAhead::new(socket));
    let mut stream = timeout(limit, handshake)
        .await
        .map_err(|_| too_slow(limit))??;
    let (socket, session) = stream.get_mut();
    session.set_buffer_limit(Some(SEND_BUFFER));
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    if alpn.as_deref() == Some(LANE_ALPN) {
        leave_idle(socket.get_ref())?;
    }
    let identity = PeerIdentity::of(session.peer_certificates());
    Ok(Accepted {
        stream,
        alpn,
        identity,
    })
}

/// A connection whose server shook hands.
#[derive(Debug)]
pub struct Connected<Io = TcpStream> {
    /// The encrypted connection.
    pub stream: ClientStream<Io>,
    /// The protocol both ends agreed on (RFC 7301), if any.
    pub alpn: Option<Vec<u8>>,
}

/// Shakes hands with the server `name` on a socket just connected. With TLS 1.3 a server refuses
/// a client's certificate only afterwards: the first read then fails.
///
/// # Errors
///
/// When the handshake fails or takes longer than `limit`.
pub async fn connect(
    socket: TcpStream,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> io::Result<Connected> {
    tune_tunnel(&socket)?;
    connect_over(socket, name, config, limit).await
}

/// The same over what leads to the server by way of an HTTP proxy; its socket has to be tuned by
/// who dialled it.
///
/// # Errors
///
/// When the handshake fails or takes longer than `limit`.
pub async fn connect_over<Io>(
    io: Io,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> io::Result<Connected<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsConnector::from(config).connect(name, ReadAhead::new(io));
    let mut stream = timeout(limit, handshake)
        .await
        .map_err(|_| too_slow(limit))??;
    let session = stream.get_mut().1;
    session.set_buffer_limit(Some(SEND_BUFFER));
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    Ok(Connected { stream, alpn })
}

/// What a client's failed handshake means, in words for who has to mend it.
#[must_use]
pub fn explain(error: &io::Error) -> &'static str {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(invalid)) => match invalid {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is of another CA than the one configured, or something \
                 in between inspects TLS"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired, or this machine's clock is wrong"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate does not name the host that was dialled"
            }
            _ => "the server's certificate is not accepted",
        },
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "the server does not speak the protocol offered: another program, or another port"
        }
        Some(rustls::Error::AlertReceived(_)) => {
            "the server refused the handshake: look at the client certificate and its CA"
        }
        Some(_) => "what answers there does not speak TLS as expected",
        None if error.kind() == io::ErrorKind::TimedOut => {
            "something accepts connections there and does not speak TLS"
        }
        None => "the connection was cut during the handshake: a load balancer without a backend?",
    }
}

/// Encrypted bytes that may wait for the socket: with rustls' 64 KiB one full frame would fill
/// it.
const SEND_BUFFER: usize = 256 * 1024;

fn too_slow(limit: Duration) -> io::Error {
    let text = format!("the TLS handshake took longer than {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}
