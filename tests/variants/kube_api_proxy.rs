//! `enableKubeApiProxy`: users of the tunnel reach a managed cluster's kube-apiserver by the
//! cluster's name.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tunnel::dialer::{Connection, Dialer as _};
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::{DialError, DialerConfig, DialerMetrics, ProxyServerDialer, Target};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::setting::{AGENT_NAMESPACE, Setting, base64_field, container, eventually, get};

/// The name of the Secret with what opens tunnels.
const CLIENT_SECRET: &str = "proxy-client";

/// A kube-apiserver answers at once or not at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Both names lead there. In the agent's pod the first is short, and an alias: it is found by the
/// pod's search domains, and again by what they lead to.
pub(crate) fn on(setting: &Setting) -> Result<()> {
    setting.install_at_address(&["enableKubeApiProxy=true"])?;
    setting.agent_pod(
        AGENT_NAMESPACE,
        "an agent with the cluster's names",
        |pod| {
            let identifiers = identifiers(pod)?;
            let expected = format!("&host=managed&host=managed.{AGENT_NAMESPACE}");
            ensure!(identifiers.ends_with(&expected), "{identifiers}");
            Ok(())
        },
    );
    let service = ["service", "managed", "-n", AGENT_NAMESPACE];
    let service = get(&setting.lab.managed, &service)?;
    ensure!(service["spec"]["type"] == "ExternalName", "{service}");
    let leads_to = &service["spec"]["externalName"];
    ensure!(
        leads_to == "kubernetes.default.svc.cluster.local",
        "{leads_to}"
    );
    let tunnel = Tunnel::open(setting)?;
    for host in ["managed", &format!("managed.{AGENT_NAMESPACE}")] {
        eventually(&format!("the kube-apiserver at {host}"), || {
            let answer = tunnel.version(host)?;
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            ensure!(answer.contains("\"gitVersion\""), "{answer}");
            Ok(())
        });
    }
    Ok(())
}

/// Neither name leads anywhere, and their Service is gone; hub users come in as before.
pub(crate) fn off(setting: &Setting) -> Result<()> {
    setting.install_at_address(&["enableKubeApiProxy=false"])?;
    setting.agent_pod(
        AGENT_NAMESPACE,
        "an agent without the cluster's names",
        |pod| {
            let identifiers = identifiers(pod)?;
            ensure!(!identifiers.contains("host=managed"), "{identifiers}");
            Ok(())
        },
    );
    eventually("the cluster's Service is gone", || {
        let found = setting.agent(&["get", "service", "managed", "--ignore-not-found"])?;
        ensure!(found.trim().is_empty(), "{found}");
        Ok(())
    });
    let tunnel = Tunnel::open(setting)?;
    for host in ["managed", &format!("managed.{AGENT_NAMESPACE}")] {
        eventually(&format!("nobody at {host}"), || match tunnel.dial(host) {
            Ok(_) => bail!("{host} is reached"),
            Err(DialError::NoAgent { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        });
    }
    setting.goes_through("managed", "managed");
    Ok(())
}

/// What the agent announces.
fn identifiers(pod: &serde_json::Value) -> Result<String> {
    let arguments = container(pod, "proxy-agent")?["args"].as_array();
    let mut arguments = arguments.into_iter().flatten().filter_map(|it| it.as_str());
    let found = arguments.find_map(|it| it.strip_prefix("--agent-identifiers="));
    Ok(found.context("no identifiers")?.to_owned())
}

/// The hub's end of the tunnel, by the certificate that the addon hands to its users.
struct Tunnel {
    dialer: ProxyServerDialer,
    kube_apiserver: ClientTls,
    runtime: tokio::runtime::Runtime,
    /// A way in from this machine, which is outside of the hub's network.
    _port_forward: Running,
}

impl Tunnel {
    fn open(setting: &Setting) -> Result<Self> {
        let service = "service/proxy-entrypoint";
        let mut command = setting.lab.hub.kubectl_command(&[
            "port-forward",
            "-n",
            crate::setting::ADDON_NAMESPACE,
            service,
            ":8090",
        ]);
        command.stdin(Stdio::null());
        let port_forward = Running::start("port-forward", command)?;
        let line = port_forward.wait_for_line("Forwarding from 127.0.0.1:", LIMIT)?;
        let port = line.split("127.0.0.1:").nth(1).context("no port")?;
        let port = port.split(' ').next().context("no port")?.parse()?;
        let secret =
            |field| setting.hub(&["get", "secret", CLIENT_SECRET, "-o", &base64_field(field)]);
        let (ca, cert, key) = (secret("ca.crt")?, secret("tls.crt")?, secret("tls.key")?);
        let alpn = vec![HTTP2_ALPN.to_vec()];
        let pair = Some((cert.as_bytes(), key.as_bytes()));
        let tls = ClientTls::from_pem(ca.as_bytes(), pair, alpn)?;
        let server = Target::new("localhost", port)?;
        let dialer =
            ProxyServerDialer::new(DialerConfig::new(server, tls), DialerMetrics::default())?;
        let root_ca = setting.agent(&[
            "get",
            "configmap",
            "kube-root-ca.crt",
            "-o",
            "jsonpath={.data.ca\\.crt}",
        ])?;
        Ok(Self {
            dialer,
            kube_apiserver: ClientTls::from_pem(root_ca.as_bytes(), None, Vec::new())?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            _port_forward: port_forward,
        })
    }

    /// A connection to port 443 of `host`, as the managed cluster's agent finds it.
    fn dial(&self, host: &str) -> Result<Box<dyn Connection>, DialError> {
        let target = Target::new(host, 443).expect("a host");
        self.runtime.block_on(self.dialer.dial(&target))
    }

    /// The answer to `GET /version`, which every kube-apiserver gives to anybody, from one that
    /// proves to be the managed cluster's.
    fn version(&self, host: &str) -> Result<String> {
        let connection = self.dial(host)?;
        let name = ServerName::try_from("kubernetes.default.svc")?;
        let connector = tokio_rustls::TlsConnector::from(self.kube_apiserver.config());
        let request = b"GET /version HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n";
        self.runtime.block_on(async {
            tokio::time::timeout(LIMIT, async {
                let mut tls = connector.connect(name, connection).await?;
                tls.write_all(request).await?;
                let mut answer = String::new();
                tls.read_to_string(&mut answer).await?;
                Ok(answer)
            })
            .await?
        })
    }
}
