//! How an agent is let in, or told why not, in each of the two protocols.

use cluster_proxy_identity::{AnnouncedIdentifiers, PeerIdentity};
use cluster_proxy_tunnel::konnectivity::PendingAgent;
use cluster_proxy_tunnel::lane::{HubLane, LANE_ALPN, ServerHello};
use cluster_proxy_tunnel::{Http2Settings, TunnelError};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent_link::{AgentLink, AgentLinkDriver, AgentProtocol};
use crate::ownership::{Claims, Refusal, Rule};

/// An agent that was let in.
pub(crate) type Admitted<T> = (AgentLink, AgentLinkDriver<T>, Claims);

/// Why an agent was not let in.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// It may not be, and was told so.
    Refused(Refusal),
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

/// Shakes hands with the agent at the other end of `stream`, whose certificate proves `identity`.
pub(crate) async fn admit<T>(
    stream: T,
    protocol: AgentProtocol,
    (rule, identity): (&Rule, &PeerIdentity),
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
            let (lane, driver) = HubLane::open_over(stream, hello, http2).await?;
            let claims = rule
                .claims(identity, &lane.agent().identifiers)
                .map_err(NotAdmitted::Refused)?;
            let driver = AgentLinkDriver::Lane(Box::new(driver));
            Ok((AgentLink::Lane(lane), driver, claims))
        }
        AgentProtocol::Konnectivity => {
            let pending = PendingAgent::open_over(stream, http2).await?;
            let claims = match rule.claims(identity, &pending.hello().identifiers) {
                Ok(claims) => claims,
                Err(refusal) => {
                    pending.refuse(&refusal.to_string()).await;
                    return Err(NotAdmitted::Refused(refusal));
                }
            };
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
