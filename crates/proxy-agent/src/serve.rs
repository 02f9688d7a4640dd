//! Serving one tunnelled connection: where its target is, dialling it, and the relay.

use std::future::poll_fn;
use std::time::Duration;

use cluster_proxy_identity::{SERVICE_PROXY_PORT, TunnelHost};
use cluster_proxy_tunnel::relay::{RelayEnd, TcpRelay};
use cluster_proxy_tunnel::{DialError, IncomingConnect, Target, UnreadBudget, socket};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Config;
use crate::metrics::Metrics;

/// How targets are reached from here.
#[derive(Debug)]
pub(crate) struct Targets {
    own: Vec<TunnelHost>,
    service_proxy: Target,
    dial_timeout: Duration,
    metrics: Metrics,
    unread: UnreadBudget,
}

impl Targets {
    pub(crate) fn new(config: &Config, metrics: Metrics, unread: UnreadBudget) -> Self {
        Self {
            own: config.own_tunnel_hosts(),
            service_proxy: config.service_proxy.clone(),
            dial_timeout: config.dial_timeout,
            metrics,
            unread,
        }
    }

    /// Serves `incoming` to its end. It ends by itself when the lane does.
    pub(crate) async fn serve(&self, mut incoming: IncomingConnect) {
        let target = incoming.target().clone();
        let begun = Instant::now();
        let dialled = tokio::select! {
            dialled = self.dial(&target) => dialled,
            () = incoming.abandoned() => {
                self.metrics.dial("abandoned");
                tracing::debug!(%target, "the dial was given up by the other end");
                return;
            }
        };
        let socket = match dialled {
            Ok(socket) => socket,
            Err(error) => {
                self.metrics.dial(error.reason());
                self.metrics.konnectivity.not_dialled(error.reason());
                tracing::info!(%target, reason = error.reason(), "not connected: {error}");
                return incoming.refuse(&error).await;
            }
        };
        self.metrics.dial("connected");
        self.metrics.konnectivity.dialled(begun.elapsed());
        let Ok(stream) = incoming.accept() else {
            return;
        };
        let _active = self.metrics.active();
        let mut relay = TcpRelay::new(stream, socket).within(&self.unread);
        let mut meter = self.metrics.meter();
        let end = poll_fn(|cx| {
            let polled = relay.poll(cx);
            meter.note(relay.moved());
            polled
        })
        .await;
        match end {
            RelayEnd::Finished => tracing::debug!(%target, moved = ?relay.moved(), "finished"),
            RelayEnd::Left { error } => {
                tracing::debug!(%target, %error, moved = ?relay.moved(), "the client left");
            }
            RelayEnd::Broken { leg, error } => {
                tracing::debug!(%target, %leg, %error, moved = ?relay.moved(), "broken off");
            }
        }
    }

    async fn dial(&self, target: &Target) -> Result<TcpStream, DialError> {
        let address = self.address_of(target)?;
        let socket = socket::dial(&address.host(), address.port(), self.dial_timeout).await?;
        socket::tune_target(&socket).map_err(|error| DialError::Refused {
            details: format!("{address}: {error}"),
        })?;
        Ok(socket)
    }

    /// The own tunnel host stands for the service-proxy, which has no such name in DNS.
    fn address_of<'a>(&'a self, target: &'a Target) -> Result<&'a Target, DialError> {
        if !self.own.iter().any(|host| target.host_is(host.as_str())) {
            return Ok(target);
        }
        if target.port() == SERVICE_PROXY_PORT {
            return Ok(&self.service_proxy);
        }
        let details = format!("{target}: a tunnel host has port {SERVICE_PROXY_PORT} only");
        Err(DialError::Refused { details })
    }
}

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ClusterName;

    use super::*;

    #[test]
    fn the_own_tunnel_host_leads_to_the_service_proxy_and_nothing_else_does() {
        let host = |name: &str| TunnelHost::of(&name.parse::<ClusterName>().unwrap());
        let targets = Targets {
            own: vec![host("managed")],
            service_proxy: "127.0.0.1:17443".parse().unwrap(),
            dial_timeout: Duration::from_secs(1),
            metrics: Metrics::default(),
            unread: UnreadBudget::new(0),
        };
        let to = |target: &str| {
            targets
                .address_of(&target.parse().unwrap())
                .map(Target::to_string)
        };
        let own = host("managed").as_str().to_uppercase();
        assert_eq!(to(&format!("{own}:7443")).unwrap(), "127.0.0.1:17443");
        assert_eq!(to(&format!("{own}:22")).unwrap_err().reason(), "refused");
        let other = format!("{}:7443", host("other"));
        assert_eq!(to(&other).unwrap(), other);
        assert_eq!(to("10.0.0.1:80").unwrap(), "10.0.0.1:80");
    }
}
