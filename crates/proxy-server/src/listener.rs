//! Accepting connections for as long as the process does: no error of one connection, and no
//! lack of descriptors, ends the loop.
//!
//! Each handshake runs in a task of its own with a deadline; so many at most, that who connects
//! and says nothing cannot use up the process.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::unix_socket::UnixSocket;
use cluster_proxy_tunnel::throttle::Throttle;
use cluster_proxy_tunnel::tls::{self, Accepted};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::config::Port;
use crate::metrics::{Metrics, PortLabel};

/// Accepts on `port` until the drain closes; `serve` has each connection whose handshake
/// succeeded, in its own task.
pub(crate) async fn run<S, F>(
    name: &'static str,
    port: Port,
    drain: Drain,
    metrics: Metrics,
    serve: S,
) where
    S: Fn(Accepted, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let accept_trouble = Throttle::new(LOG_INTERVAL);
    let failed = Arc::new(Failures {
        port: name,
        metrics,
        throttle: Throttle::new(LOG_INTERVAL),
    });
    loop {
        let accepted = tokio::select! {
            () = drain.closing() => return,
            accepted = accept(&port, &handshakes) => accepted,
        };
        let (socket, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error, name, &accept_trouble).await;
                continue;
            }
        };
        let config = port.tls.config();
        let (failed, serve) = (Arc::clone(&failed), serve.clone());
        drain.spawn_until_ended(async move {
            // Each in room of its own, which goes with it: a connection stays for days.
            let handshake = Box::pin(tls::accept(socket, config, HANDSHAKE_LIMIT)).await;
            drop(permit);
            let serving = match handshake {
                Ok(accepted) => Box::pin(serve(accepted, peer)),
                Err(error) => return failed.note(peer, &error),
            };
            serving.await;
        });
    }
}

/// The same on a Unix socket, where there is no handshake. Its file goes when this ends.
pub(crate) async fn run_unix<S, F>(name: &'static str, socket: UnixSocket, drain: Drain, serve: S)
where
    S: Fn(UnixStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let accept_trouble = Throttle::new(LOG_INTERVAL);
    loop {
        let accepted = tokio::select! {
            () = drain.closing() => return,
            accepted = socket.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                drain.spawn_until_ended(serve(stream));
            }
            Err(error) => pause_after(&error, name, &accept_trouble).await,
        }
    }
}

async fn pause_after(error: &io::Error, port: &'static str, throttle: &Throttle) {
    if let Some(left_out) = throttle.pass() {
        tracing::warn!(port, %error, left_out, "cannot accept connections");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Connections that may shake hands at once. A whole fleet reconnecting gets through in turns; as
/// many silent clients hold the rest up for one [`HANDSHAKE_LIMIT`] at most.
const MAX_HANDSHAKES: usize = 1024;

/// A handshake is two round trips.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Out of descriptors, accepting again at once would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Port scanners and health checks fail handshakes for ever.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

async fn accept(
    port: &Port,
    handshakes: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(handshakes)
        .acquire_owned()
        .await
        .expect("this semaphore is never closed");
    let (socket, peer) = port.listener.accept().await?;
    Ok((socket, peer, permit))
}

struct Failures {
    port: &'static str,
    metrics: Metrics,
    throttle: Throttle,
}

impl Failures {
    fn note(&self, peer: SocketAddr, error: &io::Error) {
        let label = PortLabel { port: self.port };
        self.metrics
            .handshakes_failed
            .get_or_create_owned(&label)
            .inc();
        if let Some(left_out) = self.throttle.pass() {
            tracing::info!(port = self.port, %peer, %error, left_out, "TLS handshake failed");
        }
    }
}
