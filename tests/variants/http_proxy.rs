//! The hub behind an HTTP proxy (Squid) that wants TLS of a CA of its own and a password.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::fence::HubFence;
use cluster_proxy_testkit::process::Running;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use crate::deployment_config::{configure, encoded};
use crate::setting::{AGENT_NAMESPACE, Setting, container, eventually};

/// The lab's bridge: between both clusters, as a proxy is.
const ADDRESS: &str = "10.77.0.1";
const PORT: u16 = 3129;
const USER: &str = "edge";
const PASSWORD: &str = "p@ss:word";

/// The agent's way to the entrypoint leads through the proxy, since no other is open; then, with
/// PortForward, that to the hub's kube-apiserver.
pub(crate) fn in_between(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    let squid = Squid::start(setting)?;
    let _fence = HubFence::new(&setting.lab)?;
    use_proxy(setting, &squid)?;
    setting.goes_through("managed", "managed");
    let hub = setting.lab.hub.node_ip();
    squid.has_carried(&format!("{hub}:30091"))?;

    setting.install(&[])?;
    setting.agent_pod(AGENT_NAMESPACE, "an agent at its own loopback", |pod| {
        let argument = "--enable-port-forward-proxy=true";
        crate::setting::has_argument(container(pod, "addon-agent")?, argument)
    });
    setting.goes_through("managed", "managed");
    squid.has_carried(&format!("{hub}:6443"))?;
    silent_about_the_password(setting)?;
    crate::deployment_config::taken_back(setting)
}

fn use_proxy(setting: &Setting, squid: &Squid) -> Result<()> {
    let url = format!("https://{USER}:p%40ss%3Aword@{ADDRESS}:{PORT}");
    configure(
        setting,
        &json!({
            "agentInstallNamespace": AGENT_NAMESPACE,
            "proxyConfig": {"httpsProxy": url, "caBundle": encoded(&squid.ca)},
        }),
    )?;
    setting.agent_pod(AGENT_NAMESPACE, "an agent with a proxy", |pod| {
        let environment = container(pod, "proxy-agent")?["env"].as_array();
        let environment = environment.context("no env")?;
        let expected = json!({"name": "HTTPS_PROXY", "value": url});
        ensure!(environment.contains(&expected), "{environment:?}");
        Ok(())
    });
    Ok(())
}

fn silent_about_the_password(setting: &Setting) -> Result<()> {
    let log = setting.agent(&[
        "logs",
        "deployment/cluster-proxy-proxy-agent",
        "--all-containers",
    ])?;
    ensure!(!log.is_empty(), "no log");
    for secret in [PASSWORD, "p%40ss%3Aword"] {
        ensure!(!log.contains(secret), "the password is in the log");
    }
    Ok(())
}

/// Squid, at the lab's bridge only; ended when dropped.
struct Squid {
    _running: Running,
    access_log: PathBuf,
    ca: String,
}

impl Squid {
    fn start(setting: &Setting) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("squid-")
            .tempdir_in(setting.folder.path())?
            .keep();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
        let (ca, certificate, key) = certificates()?;
        write("tls.crt", &certificate)?;
        write("tls.key", &key)?;
        write("passwords", &format!("{USER}:{}\n", hashed(PASSWORD)?))?;
        let at = folder.display();
        let hub = setting.lab.hub.node_ip();
        write(
            "squid.conf",
            &format!(
                "https_port {ADDRESS}:{PORT} tls-cert={at}/tls.crt tls-key={at}/tls.key\n\
                 auth_param basic program /usr/lib/squid/basic_ncsa_auth {at}/passwords\n\
                 acl known proxy_auth REQUIRED\n\
                 acl hub dst {hub}\n\
                 http_access deny !hub\n\
                 http_access allow known\n\
                 http_access deny all\n\
                 access_log stdio:{at}/access.log squid\n\
                 cache_log {at}/cache.log\n\
                 pid_filename none\n\
                 coredump_dir none\n\
                 cache deny all\n\
                 shutdown_lifetime 0 seconds\n"
            ),
        )?;
        open_to_squid(setting.folder.path(), &folder)?;
        let mut command = Command::new("squid");
        command.args(["-N", "-f"]).arg(folder.join("squid.conf"));
        let running = Running::start("squid", command)?;
        let squid = Self {
            _running: running,
            access_log: folder.join("access.log"),
            ca,
        };
        eventually("squid listens", || {
            std::net::TcpStream::connect((ADDRESS, PORT)).with_context(|| {
                std::fs::read_to_string(folder.join("cache.log")).unwrap_or_default()
            })
        });
        Ok(squid)
    }

    /// Whether the user's connections to `target` went through it. It logs them when they end, or
    /// break off: agents make new ones all the time only when they are refused.
    fn has_carried(&self, target: &str) -> Result<()> {
        // A running tunnel is in no log yet.
        let connections = Command::new("ss")
            .args(["-Htn", "state", "established", "dst", target])
            .output()?;
        let open = String::from_utf8_lossy(&connections.stdout).lines().count();
        let log = std::fs::read_to_string(&self.access_log).unwrap_or_default();
        let logged = log
            .lines()
            .any(|line| line.contains(&format!("CONNECT {target} {USER}")));
        ensure!(open > 0 || logged, "nothing went to {target}; log:\n{log}");
        Ok(())
    }
}

/// Squid reads and writes as a user of its own.
fn open_to_squid(outer: &Path, folder: &Path) -> Result<()> {
    let mut chown = Command::new("chown");
    let status = chown.args(["-R", "proxy:proxy"]).arg(folder).status()?;
    ensure!(status.success(), "chown: {status}");
    let status = Command::new("chmod").arg("a+x").arg(outer).status()?;
    ensure!(status.success(), "chmod: {status}");
    Ok(())
}

/// A CA, and a certificate and key for [`ADDRESS`].
fn certificates() -> Result<(String, String, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![ADDRESS.to_owned()])?;
    let certificate = params.signed_by(&key, &ca)?;
    Ok((ca.pem(), certificate.pem(), key.serialize_pem()))
}

/// As htpasswd writes it.
fn hashed(password: &str) -> Result<String> {
    let output = Command::new("openssl")
        .args(["passwd", "-apr1", password])
        .output()?;
    ensure!(output.status.success(), "openssl passwd: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
