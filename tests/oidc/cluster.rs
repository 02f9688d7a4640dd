//! A managed cluster, embedded, and the real service-proxy before it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::{Answer, curl};
use cluster_proxy_tests::program;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::issuer::{CLIENT_ID, Issuer};

pub(crate) struct Cluster {
    pub(crate) kube: EmbeddedKube,
    pub(crate) service_proxy: Running,
    host: TunnelHost,
    port: u16,
    health_port: u16,
    folder: TempDir,
    drain: Drain,
    _runtime: Runtime,
}

impl Cluster {
    /// A cluster whose service-proxy takes the tokens of `issuer`; the CA is not there yet.
    pub(crate) fn start(folder: TempDir, issuer: &Issuer) -> Result<Self> {
        let runtime = Runtime::new()?;
        let drain = Drain::new();
        let kube = runtime.block_on(EmbeddedKube::start(Config::new("managed"), &drain))?;
        let token = account(&kube)?;
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("kubeconfig"), token)?;

        let ca = CertificateAuthority::generate()?;
        let cluster: ClusterName = "managed".parse()?;
        let issued = ca.issue(&Leaf::service_proxy(&cluster))?;
        std::fs::write(file("ca.crt"), ca.cert_pem())?;
        std::fs::write(file("tls.crt"), &issued.cert_pem)?;
        std::fs::write(file("tls.key"), &*issued.key_pem)?;
        let (port, health_port) = (free_port()?, free_port()?);
        let mut command = Command::new(program());
        command
            .arg("service-proxy")
            .arg(flag("cert", &file("tls.crt")))
            .arg(flag("key", &file("tls.key")))
            .arg(flag("kubeconfig", &file("kubeconfig")))
            .arg(format!("--bind-address=127.0.0.1:{port}"))
            .arg(format!(
                "--health-probe-bind-address=127.0.0.1:{health_port}"
            ))
            .arg("--token-review-cache-ttl=1s")
            .arg(format!("--oidc-issuer-url={}", issuer.url()))
            .arg(format!("--oidc-client-id={CLIENT_ID}"))
            .arg("--oidc-groups-claim=groups")
            .arg("--oidc-groups-prefix=team:")
            .arg("--oidc-required-claim=email=alice@example.com")
            .arg(format!("--oidc-ca-configmap={CA_CONFIG_MAP}"))
            .env("POD_NAMESPACE", NAMESPACE);
        let service_proxy = Running::start("service-proxy", command)?;
        let cluster = Self {
            kube,
            service_proxy,
            host: TunnelHost::of(&cluster),
            port,
            health_port,
            folder,
            drain,
            _runtime: runtime,
        };
        cluster_proxy_testkit::eventually_blocking(
            Duration::from_secs(20),
            "the service-proxy is ready, without the provider",
            || cluster.health("/readyz").map(|answer| answer.code == 200),
        );
        Ok(cluster)
    }

    /// Puts the CA of the provider into its ConfigMap.
    pub(crate) fn publish_ca(&self, pem: &str) -> Result<()> {
        self.kube.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CA_CONFIG_MAP, "namespace": NAMESPACE},
            "data": {"ca.crt": pem},
        }))?;
        Ok(())
    }

    pub(crate) fn take_ca_away(&self) -> Result<()> {
        Ok(self
            .kube
            .delete("v1", "ConfigMap", NAMESPACE, CA_CONFIG_MAP)?)
    }

    /// Who the kube-apiserver says somebody with this token is.
    pub(crate) fn who(&self, token: &str) -> Result<Answer> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
        });
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        self.ask(path, token, &["--data", &review.to_string()])
    }

    /// A request to the kube-apiserver, as the user-server would hand it on.
    pub(crate) fn ask(&self, path: &str, token: &str, more: &[&str]) -> Result<Answer> {
        let (host, port) = (self.host.as_str(), self.port);
        let ca = self.folder.path().join("ca.crt");
        let mut command = Command::new("curl");
        command
            .arg("--cacert")
            .arg(ca)
            .arg("--resolve")
            .arg(format!("{host}:{port}:127.0.0.1"));
        for header in [
            "Cluster-Proxy-Proto: https",
            "Cluster-Proxy-Namespace: default",
            "Cluster-Proxy-Service: kubernetes",
            "Cluster-Proxy-Port: 443",
            "Content-Type: application/json",
            &format!("Authorization: Bearer {token}"),
        ] {
            command.args(["--header", header]);
        }
        let url = format!("https://{host}:{port}{path}");
        curl(command, &[more, &[&url]].concat())
    }

    /// A page of the operations listener.
    pub(crate) fn health(&self, path: &str) -> Result<Answer> {
        let url = format!("http://127.0.0.1:{}{path}", self.health_port);
        curl(Command::new("curl"), &[&url])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drain.end();
    }
}

/// The service-proxy's account with the rights that the manager gives it, and a role that only a
/// group of the provider has. The kubeconfig of the account.
fn account(kube: &EmbeddedKube) -> Result<String> {
    let rbac = "rbac.authorization.k8s.io";
    let bind = |name: &str, role: &str, subject: Value| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": name}, "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        })
    };
    let account =
        json!({"kind": "ServiceAccount", "name": "service-proxy", "namespace": NAMESPACE});
    let group = json!({"apiGroup": rbac, "kind": "Group", "name": "team:dev"});
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "service-proxy", "namespace": NAMESPACE},
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole",
            "metadata": {"name": "service-proxy"},
            "rules": [
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]},
            ],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role",
            "metadata": {"name": "service-proxy", "namespace": NAMESPACE},
            "rules": [{
                "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CA_CONFIG_MAP],
                "verbs": ["get", "list", "watch"],
            }],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "service-proxy", "namespace": NAMESPACE}, "subjects": [account],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "service-proxy"},
        }),
        bind("service-proxy", "service-proxy", account),
        bind("developers", "view", group),
    ] {
        kube.apply(&object).with_context(|| object.to_string())?;
    }
    let hour = Duration::from_secs(3600);
    let token = kube.issue_token(NAMESPACE, "service-proxy", &[], hour)?;
    Ok(kube.kubeconfig_for_token(&token))
}

fn flag(name: &str, file: &PathBuf) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(format!("--{name}="));
    flag.push(file);
    flag
}

const NAMESPACE: &str = "open-cluster-management-agent-addon";
const CA_CONFIG_MAP: &str = "oidc-ca";
