//! How an agent is let in, or told why not, in each of the two protocols.

use cluster_proxy_identity::{AnnouncedIdentifiers, PeerIdentity};
use cluster_proxy_tunnel::konnectivity::PendingAgent;
use cluster_proxy_tunnel::lane::{HubLane, LANE_ALPN, ServerHello};
use cluster_proxy_tunnel::{Http2Settings, TunnelError};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent_link::{AgentLink, AgentLinkDriver, AgentProtocol};
use crate::agent_tokens::{AgentTokens, TokenRefusal};
use crate::ownership::{Claims, Refusal, Rule};

/// An agent that was let in.
pub(crate) type Admitted<T> = (AgentLink, AgentLinkDriver<T>, Claims);

/// Why an agent was not let in.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// It may not be, and was told so.
    Refused(Refusal),
    /// Its token does not let it in, and it was told so.
    Unauthenticated(TokenRefusal),
    /// The connection came to nothing.
    Failed(TunnelError),
}

impl From<TunnelError> for NotAdmitted {
    fn from(error: TunnelError) -> Self {
        Self::Failed(error)
    }
}

/// What the agent speaks. TLS lets no other protocol through than those offered; Go programs with
/// an older gRPC may name none.
pub(crate) fn protocol(alpn: Option<&[u8]>) -> AgentProtocol {
    match alpn {
        Some(alpn) if alpn == LANE_ALPN => AgentProtocol::Lane,
        _ => AgentProtocol::Konnectivity,
    }
}

/// Shakes hands with the agent at the other end of `stream`, whose certificate proves `identity`,
/// and has its token reviewed where there are `tokens` to show.
pub(crate) async fn admit<T>(
    stream: T,
    protocol: AgentProtocol,
    (rule, identity, tokens): (&Rule, &PeerIdentity, Option<&AgentTokens>),
    hello: &ServerHello,
    http2: &Http2Settings,
) -> Result<Admitted<T>, NotAdmitted>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // Before anything else is read of an agent that will not be let in.
    let nothing = AnnouncedIdentifiers::default();
    if let Err(refusal) = rule.claims(identity, &nothing) {
        refuse(stream, protocol, &refusal, http2).await;
        return Err(NotAdmitted::Refused(refusal));
    }
    match protocol {
        AgentProtocol::Lane => {
            let (lane, mut driver) = HubLane::open_over(stream, hello, http2).await?;
            let claims = match rule.claims(identity, &lane.agent().identifiers) {
                Ok(claims) => claims,
                Err(refusal) => {
                    lane.refuse(driver, &refusal.to_string()).await;
                    return Err(NotAdmitted::Refused(refusal));
                }
            };
            if let Some(tokens) = tokens {
                let shown = driver.take_token();
                let checked = tokio::select! {
                    checked = tokens.check(shown) => checked,
                    end = driver.run() => return Err(NotAdmitted::Failed(end)),
                };
                if let Err(refusal) = checked {
                    lane.refuse(driver, &refusal.to_string()).await;
                    return Err(NotAdmitted::Unauthenticated(refusal));
                }
                lane.admit();
            }
            let driver = AgentLinkDriver::Lane(Box::new(driver));
            Ok((AgentLink::Lane(lane), driver, claims))
        }
        AgentProtocol::Konnectivity => {
            let mut pending = PendingAgent::open_over(stream, http2).await?;
            let claims = match rule.claims(identity, &pending.hello().identifiers) {
                Ok(claims) => claims,
                Err(refusal) => {
                    pending.refuse(&refusal.to_string()).await;
                    return Err(NotAdmitted::Refused(refusal));
                }
            };
            if let Some(tokens) = tokens
                && let Err(refusal) = tokens.check(pending.take_token()).await
            {
                let told = refusal.to_string();
                if refusal.is_failure() {
                    pending.put_off(&told).await;
                } else {
                    pending.refuse(&told).await;
                }
                return Err(NotAdmitted::Unauthenticated(refusal));
            }
            let (stream, driver) = pending.accept(hello)?;
            let driver = AgentLinkDriver::Konnectivity(Box::new(driver));
            Ok((AgentLink::konnectivity(stream), driver, claims))
        }
    }
}

/// Best effort: the agent's own log then has the reason.
async fn refuse<T>(stream: T, protocol: AgentProtocol, refusal: &Refusal, http2: &Http2Settings)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let reason = refusal.to_string();
    match protocol {
        AgentProtocol::Lane => HubLane::refuse_over(stream, &reason, http2).await,
        AgentProtocol::Konnectivity => {
            if let Ok(pending) = PendingAgent::open_over(stream, http2).await {
                pending.refuse(&reason).await;
            }
        }
    }
}
