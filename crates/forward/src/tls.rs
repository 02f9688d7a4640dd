//! TLS around a dialled or accepted connection. The configurations are made elsewhere.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::connect::{Dialled, Protocol};

/// Starts TLS as a client on `io` and says what ALPN settled on.
///
/// # Errors
/// When the handshake fails; a certificate that is not `server_name`'s is an
/// [`io::ErrorKind::InvalidData`] with a [`rustls::Error`] inside.
pub async fn connect<Io>(
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    io: Io,
) -> io::Result<Dialled<client::TlsStream<Io>>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let io = TlsConnector::from(config).connect(server_name, io).await?;
    let protocol = Protocol::negotiated(io.get_ref().1.alpn_protocol());
    Ok(Dialled { io, protocol })
}

/// Starts TLS as the server on `io` and says what ALPN settled on.
///
/// # Errors
/// When the handshake fails.
pub async fn accept<Io>(
    config: Arc<ServerConfig>,
    io: Io,
) -> io::Result<Dialled<server::TlsStream<Io>>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let io = TlsAcceptor::from(config).accept(io).await?;
    let protocol = Protocol::negotiated(io.get_ref().1.alpn_protocol());
    Ok(Dialled { io, protocol })
}
