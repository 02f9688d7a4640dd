//! A TCP load balancer on the loopback address that spreads connections over its backends in turn,
//! and over which a backend can fall silent as a machine does whose cable is pulled.
//!
//! It knows no health: a backend that does not listen costs the client its connection, as behind a
//! Kubernetes Service whose endpoints are not updated yet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running load balancer; dropped, it and all its connections are gone.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Backends whose packets are swallowed.
    silent: watch::Sender<Vec<SocketAddr>>,
}

#[derive(Debug)]
struct State {
    backends: Vec<SocketAddr>,
    turn: usize,
    taken: u64,
    carried: u64,
}

impl Balancer {
    /// Listens on a free port of 127.0.0.1. Runs on the runtime of the caller.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(backends: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("a load balancer's listener")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                backends,
                turn: 0,
                taken: 0,
                carried: 0,
            }),
            silent: watch::Sender::new(Vec::new()),
        });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _task: task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to these from now on; those there are stay.
    pub fn set_backends(&self, backends: Vec<SocketAddr>) {
        self.shared.state().backends = backends;
    }

    /// From now on nothing passes from or to `backend`, on old connections and on new ones, and
    /// nobody is told.
    pub fn silence(&self, backend: SocketAddr) {
        self.shared.silent.send_modify(|all| all.push(backend));
    }

    /// What was swallowed is lost as packets are: it passes now.
    pub fn hear_again(&self, backend: SocketAddr) {
        self.shared
            .silent
            .send_modify(|all| all.retain(|one| *one != backend));
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.shared.state().taken
    }

    /// How many bytes it has carried, both ways.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.shared.state().carried
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<SocketAddr> {
        let mut state = self.state();
        state.taken += 1;
        state.turn += 1;
        let count = state.backends.len();
        (count > 0).then(|| state.backends[state.turn % count])
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((front, _)) = accepted else { return };
                if let Some(backend) = shared.next() {
                    let silent = shared.silent.subscribe();
                    connections.spawn(carry(front, backend, silent, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// An error of one side is the end of both, at once: what was cut must not look finished.
async fn carry(
    front: TcpStream,
    backend: SocketAddr,
    silent: watch::Receiver<Vec<SocketAddr>>,
    shared: Arc<Shared>,
) {
    let mut opening = silent.clone();
    heard(&mut opening, backend).await;
    let carried = async {
        let back = TcpStream::connect(backend).await?;
        for socket in [&front, &back] {
            socket.set_nodelay(true)?;
        }
        let (front_read, front_write) = front.into_split();
        let (back_read, back_write) = back.into_split();
        tokio::try_join!(
            copy(front_read, back_write, backend, silent.clone(), &shared),
            copy(back_read, front_write, backend, silent, &shared),
        )
        .map(|_| ())
    };
    // A client sees its end either way.
    let _: std::io::Result<()> = carried.await;
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    backend: SocketAddr,
    mut silent: watch::Receiver<Vec<SocketAddr>>,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await;
        // An end or a reset is a packet like any other.
        heard(&mut silent, backend).await;
        match read? {
            0 => return to.shutdown().await,
            count => {
                to.write_all(&buffer[..count]).await?;
                shared.state().carried += count as u64;
            }
        }
    }
}

async fn heard(silent: &mut watch::Receiver<Vec<SocketAddr>>, backend: SocketAddr) {
    // Fails only when the balancer is gone, and this task with it.
    let _ = silent.wait_for(|all| !all.contains(&backend)).await;
}

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    async fn named(name: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = socket.write_all(name).await;
                    let mut asked = [0];
                    while socket.read_exact(&mut asked).await.is_ok() {
                        let _ = socket.write_all(name).await;
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn backends_take_turns_and_may_fall_silent() {
        let (a, b) = (named(b"a").await, named(b"b").await);
        let balancer = Balancer::start(vec![a, b]).await.unwrap();
        let mut connections = Vec::new();
        let mut names = Vec::new();
        for _ in 0..4 {
            let mut socket = TcpStream::connect(balancer.address()).await.unwrap();
            let name = timeout(SOON, socket.read_u8()).await;
            names.push(name.unwrap().unwrap());
            connections.push(socket);
        }
        names.sort_unstable();
        assert_eq!((names.as_slice(), balancer.taken()), (&b"aabb"[..], 4));
        assert_eq!(balancer.carried(), 4);

        balancer.silence(a);
        let mut heard = Vec::new();
        for socket in &mut connections {
            socket.write_all(b"?").await.unwrap();
            let answer = timeout(Duration::from_millis(200), socket.read_u8()).await;
            heard.extend(answer.map(Result::unwrap));
        }
        assert_eq!(heard, b"bb");
        balancer.hear_again(a);
        let mut late = Vec::new();
        for socket in &mut connections {
            late.extend(timeout(Duration::from_millis(200), socket.read_u8()).await);
        }
        assert_eq!(late.len(), 2);

        // Nobody listens: the client is told at once.
        balancer.set_backends(vec!["127.0.0.1:1".parse().unwrap()]);
        let mut socket = TcpStream::connect(balancer.address()).await.unwrap();
        let end = timeout(SOON, socket.read_u8()).await;
        assert!(end.unwrap().is_err());
    }
}
