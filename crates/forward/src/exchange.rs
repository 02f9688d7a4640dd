//! A client's request handed to a pool, and the answer made fit for the client: the one path that
//! ordinary requests and upgrades share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;

use crate::body::{Body, BodyError};
use crate::connect::Connect;
use crate::error::SendError;
use crate::headers::{HopRequest, carried_upgrade, remove_hop_by_hop, set_upgrade};
use crate::pool::{Class, Pool, Switched, Upgrade};
use cluster_proxy_runtime::drain::Drain;

/// How one request is handed on.
#[derive(Debug)]
pub struct HandOn {
    /// Which connections it rides on.
    pub class: Class,
    /// How long the answer's head may take; `None` leaves it to the peers.
    pub head_timeout: Option<Duration>,
    /// The upgrade it asks for.
    pub upgrade: Option<ClientUpgrade>,
}

/// A client that wants its connection's protocol changed.
#[derive(Debug)]
pub struct ClientUpgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl ClientUpgrade {
    /// The upgrade that `request` asks for, as `asked` says, if this hop can carry it.
    pub fn of(request: &mut Request<Body>, asked: &HopRequest) -> Option<Self> {
        let protocol = carried_upgrade(asked, request.version())?;
        Some(Self {
            protocol,
            client: hyper::upgrade::on(request),
        })
    }
}

/// An answer ready for the client.
#[derive(Debug)]
pub struct HandedOn {
    /// Its hop-by-hop fields are gone, except those of an upgrade.
    pub response: Response<Body>,
    /// After an upgrade: the bytes still to be moved, by a task of the caller's.
    pub relay: Option<Relay>,
}

/// Two connections whose protocol changes once the client has read its 101 answer.
#[derive(Debug)]
pub struct Relay {
    client: OnUpgrade,
    server: Switched,
}

impl Relay {
    /// Moves bytes until both directions have ended, a side breaks, or `drain` ends; returns those
    /// that went to the server and to the client.
    ///
    /// # Errors
    /// When it did not end by itself.
    pub async fn run(self, drain: &Drain) -> std::io::Result<(u64, u64)> {
        self.server.relay(self.client, drain).await
    }
}

impl<C: Connect> Pool<C> {
    /// Hands `request` on and the answer back.
    ///
    /// The request's hop-by-hop fields must be gone; the answer's are removed here.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn hand_on(
        &self,
        request: Request<Body>,
        how: HandOn,
    ) -> Result<HandedOn, SendError<C::Error>> {
        let HandOn {
            class,
            head_timeout,
            upgrade,
        } = how;
        let Some(ClientUpgrade { protocol, client }) = upgrade else {
            let response = self.send(request, class, head_timeout).await?;
            return Ok(HandedOn {
                response: cleaned(response),
                relay: None,
            });
        };
        let head_timeout = head_timeout.unwrap_or(UPGRADE_TIMEOUT);
        match self.upgrade(request, protocol, head_timeout).await? {
            Upgrade::Answered(response) => Ok(HandedOn {
                response: cleaned(response),
                relay: None,
            }),
            Upgrade::Switched(server) => {
                let (mut parts, ()) = server.head.clone().into_parts();
                let agreed = remove_hop_by_hop(&mut parts.headers).upgrade;
                if let Some(protocol) = agreed {
                    set_upgrade(&mut parts.headers, protocol);
                }
                let response = Response::from_parts(parts, Body::empty());
                Ok(HandedOn {
                    response,
                    relay: Some(Relay { client, server }),
                })
            }
        }
    }
}

/// Content that reports what became of it.
#[derive(Debug)]
pub struct Metered<R: Report> {
    body: Body,
    bytes: u64,
    report: Option<R>,
}

/// What is told once, when an answer's content is over.
pub trait Report: Send + Unpin + 'static {
    /// `bytes` of content went to the client and it ended so.
    fn finished(self, bytes: u64, end: End);
}

/// How content ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was handed on.
    Whole,
    /// The source broke off; the client sees an error.
    Cut,
    /// The client went away.
    Abandoned,
}

impl End {
    /// One word, for access events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cut => "cut",
            Self::Abandoned => "abandoned",
        }
    }
}

impl<R: Report> Metered<R> {
    /// Content that reports to `report`.
    pub const fn new(body: Body, report: R) -> Self {
        Self {
            body,
            bytes: 0,
            report: Some(report),
        }
    }

    /// Content that nobody wants to hear of.
    pub const fn unreported(body: Body) -> Self {
        Self {
            body,
            bytes: 0,
            report: None,
        }
    }

    fn finish(&mut self, end: End) {
        if let Some(report) = self.report.take() {
            report.finished(self.bytes, end);
        }
    }
}

impl<R: Report> http_body::Body for Metered<R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                self.finish(End::Cut);
            }
            None => self.finish(End::Whole),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<R: Report> Drop for Metered<R> {
    fn drop(&mut self) {
        // hyper does not ask again for the end of content that says it is over.
        let end = if self.body.is_end_stream() {
            End::Whole
        } else {
            End::Abandoned
        };
        self.finish(end);
    }
}

fn cleaned(mut response: Response<Body>) -> Response<Body> {
    remove_hop_by_hop(response.headers_mut());
    response
}

/// For the answer to an upgrade when the caller sets no time. kube-apiserver dials the kubelet in
/// between.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(60);
