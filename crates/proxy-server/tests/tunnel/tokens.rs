//! Agents that prove themselves by a token of their service account, as the embedded Kubernetes
//! API issues and reviews it: in both protocols, and beside what certificates prove.

use std::path::Path;
use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, FlagFile};
use cluster_proxy_proxy_agent::Config as AgentConfig;
use cluster_proxy_proxy_server::{AgentIdentity, AgentTokens};
use serde_json::json;

use crate::harness::{
    AgentAlpn, KONNECTIVITY, LANES, Server, ServerOptions, World, announcing, eventually, greeter,
    greeting, run_agent, service_proxy,
};
use crate::kube_hub::KubeHub;

const NAMESPACE: &str = "tunnel";
const ACCOUNT: &str = "konnectivity-agent";
const AUDIENCE: &str = "system:konnectivity-server";

/// A hub with accounts.
async fn hub() -> KubeHub {
    let hub = KubeHub::new().await;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    });
    hub.kube.apply(&namespace).unwrap();
    for account in [ACCOUNT, "somebody"] {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": NAMESPACE},
        });
        hub.kube.apply(&account).unwrap();
    }
    hub
}

/// It issues and reviews tokens, and has a file for one.
impl KubeHub {
    fn token_file(&self) -> std::path::PathBuf {
        self.folder.path().join("token")
    }

    fn write_token(&self, account: &str, audience: &str) {
        let hour = Duration::from_secs(3600);
        let token = self
            .kube
            .issue_token(NAMESPACE, account, &[audience], hour)
            .unwrap();
        std::fs::write(self.token_file(), token.expose()).unwrap();
    }

    fn options(&self, agent_alpn: AgentAlpn) -> ServerOptions {
        let audience = AUDIENCE.to_owned();
        let tokens = AgentTokens::new(&self.connection, NAMESPACE, ACCOUNT, audience);
        ServerOptions {
            agent_alpn,
            identity: AgentIdentity::Any,
            tokens: Some(tokens),
            agent_certificates: ClientAuth::Optional,
            ..ServerOptions::default()
        }
    }
}

/// An agent without a certificate, which announces `identifiers`.
fn bare(world: &World, server: &Server, identifiers: &str, token: Option<&Path>) -> AgentConfig {
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let address = server.agents.to_string().parse().unwrap();
    let mut config = world.agent_config(address, &leaf, identifiers, nowhere);
    config.tls = ClientTls::from_pem(world.ca.cert_pem().as_bytes(), None, vec![]).unwrap();
    config.token_file = token.map(|path| FlagFile::new("--service-account-token-path", path));
    config
}

fn refused(server: &Server, reason: &str) -> f64 {
    server.metric(&format!(
        "cluster_proxy_server_agent_tokens_refused_total{{reason=\"{reason}\"}}"
    ))
}

#[tokio::test]
async fn only_the_accounts_own_token_for_this_audience_lets_an_agent_in() {
    for protocol in [LANES, KONNECTIVITY] {
        let (world, hub) = (World::new(), hub().await);
        let server = world.server(hub.options(protocol)).await;
        let path = hub.token_file();
        let target = greeter("target").await;

        let config = bare(&world, &server, "host=127.0.0.1", None);
        let without = run_agent(config);
        eventually(|| refused(&server, "missing") >= 1.0).await;
        assert!(!without.readiness.waiting_for().is_empty());
        without.drain.end();

        hub.write_token("somebody", AUDIENCE);
        let config = bare(&world, &server, "ipv4=127.0.0.1", Some(&path));
        let agent = run_agent(config);
        eventually(|| refused(&server, "other_user") >= 1.0).await;
        hub.write_token(ACCOUNT, "https://kubernetes.default.svc");
        eventually(|| refused(&server, "denied") >= 1.0).await;
        std::fs::write(&path, "no.such.token").unwrap();
        let denied = refused(&server, "denied");
        eventually(|| refused(&server, "denied") > denied).await;
        assert_eq!(server.links(), 0.0, "nobody was let in");
        assert!(!agent.readiness.waiting_for().is_empty());

        // The file is read at each connect: the agent needs no restart.
        hub.write_token(ACCOUNT, AUDIENCE);
        let _agent = agent.connected(&server).await;
        let dialled = target.to_string().parse().unwrap();
        let mut stream = world.dialer(&server).connect(&dialled).await.unwrap();
        assert_eq!(greeting(&mut stream, 6).await, "target");
        hub.drain.end();
    }
}

#[tokio::test]
async fn a_review_that_fails_lets_nobody_in_and_is_no_denial() {
    for protocol in [LANES, KONNECTIVITY] {
        let (world, hub) = (World::new(), hub().await);
        let server = world.server(hub.options(protocol)).await;
        hub.write_token(ACCOUNT, AUDIENCE);
        // Nobody answers reviews any more.
        hub.drain.end();
        let path = hub.token_file();
        let agent = run_agent(bare(&world, &server, "host=a", Some(&path)));
        eventually(|| refused(&server, "not_reviewed") >= 1.0).await;
        assert_eq!(refused(&server, "denied"), 0.0);
        assert_eq!(server.links(), 0.0);
        assert!(!agent.readiness.waiting_for().is_empty());
    }
}

#[tokio::test]
async fn a_token_proves_no_cluster() {
    for protocol in [LANES, KONNECTIVITY] {
        let (world, hub) = (World::new(), hub().await);
        let options = ServerOptions {
            identity: AgentIdentity::Cluster,
            ..hub.options(protocol)
        };
        let server = world.server(options).await;
        hub.write_token(ACCOUNT, AUDIENCE);
        let path = hub.token_file();

        // The token alone is not enough.
        let bare_agent = run_agent(bare(&world, &server, &announcing("managed"), Some(&path)));
        eventually(|| server.metric("cluster_proxy_server_agents_refused_total") >= 1.0).await;
        bare_agent.drain.end();

        // Neither is the certificate.
        let leaf = Leaf::proxy_agent(&"other".parse().unwrap());
        let other = greeter("other").await;
        let address = server.agents.to_string().parse().unwrap();
        let both = format!("{}&{}", announcing("managed"), announcing("other"));
        let mut config = world.agent_config(address, &leaf, &both, other);
        let tokenless = run_agent(config.clone());
        eventually(|| refused(&server, "missing") >= 1.0).await;
        tokenless.drain.end();
        assert_eq!(server.links(), 0.0);

        // And with both, it has its own cluster's names alone.
        config.token_file = Some(FlagFile::new("--service-account-token-path", &path));
        let _agent = run_agent(config).connected(&server).await;
        let dialer = world.dialer(&server);
        let error = dialer.connect(&service_proxy("managed")).await.unwrap_err();
        assert_eq!(error.reason(), "no_agent");
        let mut stream = dialer.connect(&service_proxy("other")).await.unwrap();
        assert_eq!(greeting(&mut stream, 5).await, "other");
        hub.drain.end();
    }
}
