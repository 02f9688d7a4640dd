//! Upgrades: a connection of its own for each, in HTTP/1.1.
//!
//! SPDY and WebSocket (kubectl exec, attach, cp, port-forward) take over a whole connection, which
//! HTTP/2 cannot give and the pool could not take back. So ALPN offers `http/1.1` alone, even to a
//! peer that would rather speak HTTP/2, and the connection is used for this one request whatever
//! the answer is: bytes after a refused upgrade must never be read as another request's answer
//! (CVE-2018-1002105).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::http1::{self, Http1Body};
use super::outgoing::Outgoing;
use super::traffic::{Counted, Traffic};
use super::{Pool, Shared};
use crate::body::Body;
use crate::connect::{Connect, Dialled, Offer};
use crate::error::{DialFailure, SendError};
use crate::headers::set_upgrade;
use cluster_proxy_runtime::drain::Drain;

/// The answer to an upgrade.
#[derive(Debug)]
pub enum Upgrade {
    /// 101: the protocol changes.
    Switched(Switched),
    /// Any other answer, to be handed on as it is.
    Answered(Response<Body>),
}

/// A connection whose protocol has changed.
#[derive(Debug)]
pub struct Switched {
    /// The 101 answer's head as it came, hop-by-hop fields included.
    pub head: Response<()>,
    server: OnUpgrade,
    permit: OwnedSemaphorePermit,
}

impl<C: Connect> Pool<C> {
    /// Sends a request that asks to change to `protocol`, on a connection dialled for it.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is tried twice.
    pub async fn upgrade(
        &self,
        request: Request<Body>,
        protocol: HeaderValue,
        head_timeout: Duration,
    ) -> Result<Upgrade, SendError<C::Error>> {
        let shared = &*self.shared;
        shared.metrics.upgrades.inc();
        let permit = Arc::clone(&shared.upgrades)
            .try_acquire_owned()
            .map_err(|_| SendError::TooManyUpgrades {
                limit: shared.settings.max_upgrades,
            })?;
        let mut outgoing = Outgoing::new(request, shared.origin.clone());
        let mut request = outgoing
            .http1_request()
            .expect("nothing of its body has been sent");
        set_upgrade(request.headers_mut(), protocol);

        let after = shared.settings.dial_timeout;
        let mut sender = timeout(after, shared.dial_http1())
            .await
            .unwrap_or(Err(DialFailure::TimedOut { after }))?;
        let mut response = timeout(head_timeout, sender.send_request(request))
            .await
            .map_err(|_elapsed| SendError::HeadTimedOut {
                after: head_timeout,
            })?
            .map_err(|error| SendError::Broken {
                cause: error.to_string(),
            })?;

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let server = hyper::upgrade::on(&mut response);
            let head = response.map(drop);
            return Ok(Upgrade::Switched(Switched {
                head,
                server,
                permit,
            }));
        }
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        let body = Body::from_http1(Http1Body::alone(incoming));
        Ok(Upgrade::Answered(Response::from_parts(parts, body)))
    }
}

impl<C: Connect> Shared<C> {
    async fn dial_http1(
        &self,
    ) -> Result<hyper::client::conn::http1::SendRequest<Body>, DialFailure<C::Error>> {
        let Dialled { io, .. } = self
            .connector
            .connect(Offer::Http1)
            .await
            .map_err(|source| DialFailure::Connect {
                source: Arc::new(source),
            })?;
        let (sender, driver) = http1::handshake(Counted::new(io, Arc::new(Traffic::default())))
            .await
            .map_err(|error| DialFailure::Handshake {
                cause: error.to_string(),
            })?;
        self.tasks.spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "connection of an upgrade ended");
            }
        });
        Ok(sender)
    }
}

impl Switched {
    /// Moves bytes between the client, once its connection has changed too, and the server, until
    /// both directions have ended, one side breaks, or `drain` ends. Returns the bytes that went
    /// to the server and to the client.
    ///
    /// One direction's end is passed on while the other goes on: `kubectl exec` closes its standard
    /// input and still reads.
    ///
    /// # Errors
    /// When a side did not change its protocol in time, or broke off; both are closed then without
    /// a TLS close, so that neither reads a clean end.
    pub async fn relay(self, client: OnUpgrade, drain: &Drain) -> std::io::Result<(u64, u64)> {
        let both = async { tokio::try_join!(client, self.server) };
        let (client, server): (Upgraded, Upgraded) = timeout(SWITCH_TIMEOUT, both)
            .await
            .map_err(|_elapsed| std::io::Error::from(std::io::ErrorKind::TimedOut))?
            .map_err(std::io::Error::other)?;
        let mut client = hyper_util::rt::TokioIo::new(client);
        let mut server = hyper_util::rt::TokioIo::new(server);
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional_with_sizes(
                &mut client, &mut server, RELAY_BUFFER, RELAY_BUFFER,
            ) => copied,
            () = drain.ended() => Err(std::io::Error::other("the process is ending")),
        };
        drop(self.permit);
        copied
    }
}

/// How long a side may take to change its protocol after 101: a client that does not read the
/// answer holds a connection.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Per direction, in bytes; two full TLS records.
const RELAY_BUFFER: usize = 32 << 10;
