//! What the tunnels lead to: a listener that echoes, and one that sends or takes transfers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::pattern::{PIECE, Place};

/// A transfer that is asked for, in 17 bytes: direction, number, length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) direction: Direction,
    pub(crate) number: u64,
    pub(crate) length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the target to the client.
    Down,
    /// From the client to the target.
    Up,
}

/// What the target answers when all bytes of an upload arrived as they were sent.
pub(crate) const WHOLE: u8 = b'+';

const REQUEST: usize = 17;

impl Transfer {
    pub(crate) fn request(self) -> [u8; REQUEST] {
        let mut request = [0; REQUEST];
        request[0] = match self.direction {
            Direction::Down => b'D',
            Direction::Up => b'U',
        };
        request[1..9].copy_from_slice(&self.number.to_be_bytes());
        request[9..].copy_from_slice(&self.length.to_be_bytes());
        request
    }

    fn parse(request: [u8; REQUEST]) -> Result<Self> {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&request[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Self {
            direction: match request[0] {
                b'D' => Direction::Down,
                b'U' => Direction::Up,
                other => bail!("no transfer begins with {other}"),
            },
            number: number(1),
            length: number(9),
        })
    }
}

/// The two listeners; they end with this.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) echo: SocketAddr,
    pub(crate) bulk: SocketAddr,
    _serving: JoinSet<()>,
}

impl Targets {
    pub(crate) async fn new() -> Result<Self> {
        let mut serving = JoinSet::new();
        let echoes = TcpListener::bind("127.0.0.1:0").await?;
        let echo = echoes.local_addr()?;
        serving.spawn(accept(echoes, |socket| async {
            drop(echo_all(socket).await)
        }));
        let transfers = TcpListener::bind("127.0.0.1:0").await?;
        let bulk = transfers.local_addr()?;
        serving.spawn(accept(transfers, |socket| async {
            drop(serve(socket).await);
        }));
        Ok(Self {
            echo,
            bulk,
            _serving: serving,
        })
    }
}

/// More than any measurement opens at once.
const MAX_CONNECTIONS: usize = 8192;

/// Between two tries when the system gives no socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

async fn accept<F>(listener: TcpListener, each: fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((socket, _)) => {
                connections.spawn(each(socket));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn echo_all(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            length => socket.write_all(&buffer[..length]).await?,
        }
    }
}

async fn serve(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    while socket.read_exact(&mut request).await.is_ok() {
        let transfer = Transfer::parse(request)?;
        match transfer.direction {
            Direction::Down => send(&mut socket, transfer).await?,
            Direction::Up => {
                receive(&mut socket, transfer).await?;
                socket.write_all(&[WHOLE]).await?;
            }
        }
    }
    Ok(())
}

/// Sends the transfer's bytes.
pub(crate) async fn send<T>(to: &mut T, transfer: Transfer) -> Result<()>
where
    T: tokio::io::AsyncWrite + Unpin,
{
    let mut place = Place::of(transfer.number);
    let mut left = usize::try_from(transfer.length)?;
    while left > 0 {
        let piece = place.bytes(left);
        to.write_all(piece).await.context("send")?;
        place.advance(piece.len());
        left -= piece.len();
    }
    to.flush().await.context("send")
}

/// Takes the transfer's bytes and compares each.
pub(crate) async fn receive<T>(from: &mut T, transfer: Transfer) -> Result<()>
where
    T: tokio::io::AsyncRead + Unpin,
{
    let mut place = Place::of(transfer.number);
    let mut left = usize::try_from(transfer.length)?;
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let limit = left.min(PIECE);
        let length = from.read(&mut buffer[..limit]).await.context("receive")?;
        if length == 0 {
            bail!("{left} bytes of {} did not arrive", transfer.length);
        }
        place.check(&buffer[..length])?;
        left -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_directions_are_checked_to_the_last_byte() {
        let targets = Targets::new().await.unwrap();
        let mut socket = TcpStream::connect(targets.bulk).await.unwrap();
        for (number, direction) in [(1, Direction::Down), (2, Direction::Up)] {
            let transfer = Transfer {
                direction,
                number,
                length: 1_000_003,
            };
            socket.write_all(&transfer.request()).await.unwrap();
            if direction == Direction::Down {
                receive(&mut socket, transfer).await.unwrap();
            } else {
                send(&mut socket, transfer).await.unwrap();
                assert_eq!(socket.read_u8().await.unwrap(), WHOLE);
            }
        }
        let short = Transfer {
            direction: Direction::Up,
            number: 3,
            length: 10,
        };
        socket.write_all(&short.request()).await.unwrap();
        socket.write_all(b"0123456789").await.unwrap();
        assert!(socket.read_u8().await.is_err(), "wrong bytes were taken");
        assert!(receive(&mut &b"12"[..], short).await.is_err());
    }
}
