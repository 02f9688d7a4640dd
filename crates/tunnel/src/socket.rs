//! TCP sockets: dialling a host whose name has several addresses, and the options that make a
//! dead peer noticed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::dial_error::DialError;

/// Connects to `host` at whichever of its addresses answers first, within `limit` for all of it.
/// They are tried in turn, each as soon as the one before has failed or was silent for a moment
/// (RFC 8305): a dead one in front (an IPv6 black hole) hides no living one.
///
/// # Errors
///
/// The last address's error; the details name each address tried.
pub async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let addresses = resolve(host, port, deadline, limit).await?;
    dial_any(&alternating(addresses), deadline).await
}

async fn dial_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    if let [address] = *addresses {
        let connected = timeout_at(deadline, TcpStream::connect(address)).await;
        return connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| dial_error(&error, tried(address, &error)));
    }
    let mut waiting = addresses.iter().copied();
    let mut dialling = JoinSet::new();
    let mut failed = Vec::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            dialling.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let patience = if waiting.len() == 0 {
            deadline
        } else {
            deadline.min(Instant::now() + STAGGER)
        };
        match timeout_at(patience, dialling.join_next()).await {
            Ok(Some(Ok((_, Ok(socket))))) => return Ok(socket),
            Ok(Some(Ok((address, Err(error))))) => {
                failed.push((address, tried(address, &error)));
                last = error;
            }
            // A task of ours panicked: its address counts as silent.
            Ok(Some(Err(_))) => {}
            Ok(None) => break,
            Err(_) if Instant::now() < deadline => {}
            Err(_) => break,
        }
    }
    let tried: Vec<_> = addresses
        .iter()
        .map(
            |address| match failed.iter().find(|(failed, _)| failed == address) {
                Some((_, text)) => text.clone(),
                None => {
                    last = io::ErrorKind::TimedOut.into();
                    tried(*address, &last)
                }
            },
        )
        .collect();
    Err(dial_error(&last, tried.join(", ")))
}

/// The same addresses, first those of the first one's family and the others in turn.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else {
        return addresses;
    };
    let (one, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(one.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

fn tried(address: SocketAddr, error: &io::Error) -> String {
    format!("{address}: {}", describe(error))
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

/// Takes TCP's own probes off a socket whose peer is asked for a sign of life otherwise, at an
/// interval that may be longer: on a metered link each packet counts.
///
/// # Errors
///
/// When the socket is gone.
pub fn leave_idle(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_keepalive(false)
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

/// RFC 8305 section 5: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried; the last then has its turn within two seconds.
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

    /// A listener whose backlog is full answers no further SYN; and how that looks.
    async fn silent() -> (SocketAddr, DialError, (TcpListener, Vec<TcpStream>)) {
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
        (address, error, (listener, held))
    }

    #[tokio::test]
    async fn a_silent_address_times_out() {
        let (_, error, _held) = silent().await;
        assert_eq!(error.reason(), "timed_out");
    }

    #[tokio::test]
    async fn dead_addresses_in_front_cost_a_moment() {
        let (silent, _, _held) = silent().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = (alive.local_addr().unwrap(), alive);
        let refused = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(8);
        let all = [refused, silent, silent, alive.0];
        let socket = dial_any(&all, deadline).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), alive.0);
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{:?}",
            begin.elapsed()
        );
        // And each of them is named when none lives.
        let deadline = Instant::now() + Duration::from_millis(700);
        let error = dial_any(&[refused, silent], deadline).await.unwrap_err();
        let details = format!("{refused}: connection refused, {silent}: no answer");
        assert_eq!(error, DialError::TimedOut { details });
    }

    #[test]
    fn families_take_turns() {
        let parse = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|one| one.parse().unwrap()).collect()
        };
        let mixed = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        let turns = parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(alternating(mixed), turns);
        assert_eq!(alternating(Vec::new()), Vec::new());
    }
}
