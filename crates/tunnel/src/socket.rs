//! TCP sockets: dialling a host whose name has several addresses, and the options that make a
//! dead peer noticed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial_error::DialError;

/// Connects to the first address of `host` that answers, within `limit` for all of it. An address
/// that does not answer leaves its share of the time to those after it, so that a dead one in
/// front (an IPv6 black hole) does not hide a living one.
///
/// # Errors
///
/// The last address's error; the details name each address tried.
pub async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let addresses = resolve(host, port, deadline, limit).await?;
    let mut tried = String::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if !tried.is_empty() {
            tried.push_str(", ");
        }
        tried.push_str(&format!("{address}: {}", describe(&last)));
    }
    Err(dial_error(&last, tried))
}

/// Options for a socket that carries a lane or a frontend connection. Both ends always read
/// these, so that a peer which takes nothing for 30 s is lost.
///
/// # Errors
///
/// When the socket is gone.
pub fn tune_tunnel(socket: &TcpStream) -> io::Result<()> {
    let options = SockRef::from(socket);
    options.set_tcp_nodelay(true)?;
    options.set_tcp_user_timeout(Some(PEER_LOST))?;
    options.set_tcp_keepalive(&keepalive(Duration::from_secs(15)))
}

/// Options for a socket to a target. It may leave data unread for as long as it likes, so only its
/// host must be alive.
///
/// # Errors
///
/// When the socket is gone.
pub fn tune_target(socket: &TcpStream) -> io::Result<()> {
    let options = SockRef::from(socket);
    options.set_tcp_nodelay(true)?;
    options.set_tcp_keepalive(&keepalive(Duration::from_secs(60)))
}

/// How long sent bytes may stay unacknowledged between two ends of the tunnel.
const PEER_LOST: Duration = Duration::from_secs(30);

/// Addresses of one name that are tried: with more, none would get a useful share of the time.
const MAX_ADDRESSES: usize = 8;

fn keepalive(idle: Duration) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(idle)
        .with_interval(Duration::from_secs(5))
        .with_retries(3)
}

async fn resolve(
    host: &str,
    port: u16,
    deadline: Instant,
    limit: Duration,
) -> Result<Vec<SocketAddr>, DialError> {
    let looked_up = match timeout_at(deadline, lookup_host((host, port))).await {
        Err(_) => {
            let details = format!("no answer for {host} from DNS within {} s", limit.as_secs());
            return Err(DialError::Unresolvable { details });
        }
        Ok(Err(error)) if is_exhaustion(&error) => {
            return Err(dial_error(&error, describe(&error)));
        }
        Ok(Err(error)) => {
            return Err(DialError::Unresolvable {
                details: format!("{host}: {error}"),
            });
        }
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect::<Vec<_>>(),
    };
    if looked_up.is_empty() {
        return Err(DialError::Unresolvable {
            details: format!("{host} has no address"),
        });
    }
    Ok(looked_up)
}

fn dial_error(error: &io::Error, details: String) -> DialError {
    match error.kind() {
        _ if is_exhaustion(error) => DialError::Overloaded { details },
        io::ErrorKind::ConnectionRefused => DialError::Refused { details },
        io::ErrorKind::TimedOut => DialError::TimedOut { details },
        _ => DialError::Unreachable { details },
    }
}

/// Whether this process or machine has run out of something.
fn is_exhaustion(error: &io::Error) -> bool {
    // ENOMEM, ENFILE, EMFILE and ENOBUFS of Linux; io::ErrorKind has no names for most.
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

/// The error without the "(os error 111)" of its text.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn errors_say_which_address_and_what() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(5);
        assert!(dial("127.0.0.1", port, limit).await.is_ok());
        drop(listener);
        let error = dial("127.0.0.1", port, limit).await.unwrap_err();
        let details = format!("127.0.0.1:{port}: connection refused");
        assert_eq!(error, DialError::Refused { details });
        let error = dial("nowhere.invalid", port, limit).await.unwrap_err();
        assert_eq!(error.reason(), "unresolvable");
    }

    #[tokio::test]
    async fn a_silent_address_times_out() {
        // A listener whose backlog is full answers no further SYN.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let begin = Instant::now();
        let error = loop {
            match dial("127.0.0.1", address.port(), Duration::from_millis(300)).await {
                Ok(socket) => held.push(socket),
                Err(error) => break error,
            }
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "the backlog never filled"
            );
        };
        assert_eq!(error.reason(), "timed_out");
    }
}
