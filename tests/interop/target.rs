//! The targets that a tunnel leads to: real sockets on the loopback address, each with a deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, SockRef, Socket, Type};

use crate::outcome::Sight;

/// Longer than any tunnel of the suite takes to tell of an end; what did not come by then is said
/// to be still open.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Somebody listens here.
pub(crate) struct Target {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Target {
    pub(crate) fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a target's listener")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, address })
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Result<TargetConnection> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.listener.accept() {
                Ok((stream, _)) => return TargetConnection::new(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error).context("accept"),
            }
        }
        bail!("no connection reached the target within {PATIENCE:?}")
    }

    /// Serves every connection in a thread of its own until the guard is dropped.
    pub(crate) fn serve(self, each: fn(TargetConnection) -> Result<()>) -> Serving {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let address = self.address;
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let Ok((stream, _)) = self.listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let counting = Arc::clone(&counting);
                std::thread::spawn(move || {
                    let served = TargetConnection::new(stream).and_then(each);
                    counting.fetch_add(u64::from(served.is_ok()), Ordering::Relaxed);
                });
            }
        });
        Serving {
            address,
            served,
            stop,
            thread: Some(thread),
        }
    }
}

/// A target that serves by itself.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Connections that were served to their end, in order.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The target's end of one connection.
pub(crate) struct TargetConnection {
    pub(crate) stream: TcpStream,
}

impl TargetConnection {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    pub(crate) fn expect(&mut self, bytes: &[u8]) -> Result<()> {
        let mut got = vec![0; bytes.len()];
        self.stream
            .read_exact(&mut got)
            .context("the target got less than was sent")?;
        anyhow::ensure!(got == bytes, "the target got other bytes than were sent");
        Ok(())
    }

    /// The head of an HTTP request.
    pub(crate) fn read_head(&mut self) -> Result<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            anyhow::ensure!(head.len() < 16 * 1024, "an endless head");
            self.stream.read_exact(&mut byte).context("a request")?;
            head.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the target's write")
    }

    pub(crate) fn end_output(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        Ok(())
    }

    /// Reads on: the bytes, and how they ended.
    pub(crate) fn watch(&mut self) -> (Vec<u8>, Sight) {
        let mut bytes = Vec::new();
        let sight = match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Sight::End,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => Sight::Reset,
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Sight::StillOpen,
                _ => Sight::Error(error.to_string()),
            },
        };
        (bytes, sight)
    }

    /// Ends it with RST.
    pub(crate) fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }
}

/// An address that answers no SYN: its listener's queue is full and nobody accepts.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _queue: Vec<Socket>,
}

impl Silent {
    pub(crate) fn new() -> Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket().context("no address")?;
        let mut queue = Vec::new();
        // The kernel takes one more than it was told, and a machine may take some more.
        for _ in 0..16 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            let full = socket
                .connect_timeout(&address.into(), Duration::from_millis(200))
                .is_err();
            queue.push(socket);
            if full {
                return Ok(Self {
                    address,
                    _listener: listener,
                    _queue: queue,
                });
            }
        }
        bail!("this kernel goes on accepting into a full queue")
    }
}
