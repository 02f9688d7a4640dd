//! Targets that the agents of this suite dial.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A target that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Target {
    /// Sends back what it gets, to the end of file.
    pub(crate) async fn echo() -> Result<Self> {
        Self::serve(|mut socket: TcpStream| async move {
            let (mut read, mut write) = socket.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    /// Sends 1 GiB and reads nothing.
    pub(crate) async fn flood() -> Result<Self> {
        Self::serve(|mut socket: TcpStream| async move {
            let bytes = vec![b'x'; PIECE];
            let mut left = FLOOD;
            while left > 0 && socket.write_all(&bytes).await.is_ok() {
                left -= PIECE.min(left);
            }
            let _ = tokio::time::timeout(HOLD, socket.read(&mut [0])).await;
        })
        .await
    }

    /// Reads nothing and sends nothing.
    pub(crate) async fn silent() -> Result<Self> {
        Self::serve(|socket: TcpStream| async move {
            tokio::time::sleep(HOLD).await;
            drop(socket);
        })
        .await
    }

    async fn serve<S, F>(each: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // Small buffers of the kernel: what is measured is what the programs hold.
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(64 * 1024)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(4096)?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((socket, _)) = accepted else { continue };
                        let _ = socket.set_nodelay(true);
                        connections.spawn(each(socket));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, serving })
    }
}

/// One write of it.
const PIECE: usize = 64 * 1024;

/// What a flood has to send.
pub(crate) const FLOOD: usize = 1024 * 1024 * 1024;

/// Longer than any step.
const HOLD: Duration = Duration::from_secs(3600);
