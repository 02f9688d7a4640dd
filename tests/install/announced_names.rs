//! An agent with a certificate of its own cluster that wants what is another cluster's: names that
//! it may not announce, and a tunnel when its cluster is no longer the hub's.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{TUNNEL_HOST_SUFFIX, TunnelHost};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::curl;
use cluster_proxy_tunnel::dialer::{DialerConfig, DialerMetrics, ProxyServerDialer};
use cluster_proxy_tunnel::{DialError, Target};
use serde_json::Value;

use crate::certificate_requests::{ca, no_certificate_for, proxy_agent_of};
use crate::other_cluster::{FREE, OTHER, join, leave};
use crate::{AGENT_NAMESPACE, Setting};

/// From the deletion of a cluster until its agents are out.
const OUT_WITHIN: Duration = Duration::from_secs(10);

/// Where the agent of these tests has its metrics, in the managed cluster's network.
const METRICS: &str = "127.0.0.1:18093";

/// Connections asked for under each name. An agent under it would get some of them.
const TRIES: usize = 8;

/// The port at which tunnels are asked for, opened for these tests.
const TUNNEL_PORT: u16 = 30090;

const TUNNEL_SERVICE: &str = "test-proxy-entrypoint";

/// The agent of `other` announces all names of `managed`, which is connected, and of `free`, which
/// is not; with its own it is found.
pub(crate) fn not_its_own(setting: &Setting) -> Result<()> {
    join(setting, OTHER)?;
    join(setting, FREE)?;
    open_tunnel_port(setting)?;
    let before = dropped(setting)?;
    let foreign: Vec<_> = ["managed", FREE]
        .into_iter()
        .map(names)
        .collect::<Result<_>>()?;
    let foreign = foreign.concat();
    let announced = [&foreign[..], &["kubernetes.default.svc".to_owned()]].concat();
    let mut attacker = Attacker::start(setting, &announced)?;
    Setting::eventually("what it announced was counted", || {
        let more = dropped(setting)? - before;
        let own = announced.len() + OTHERS_ANNOUNCED.len();
        let lanes = usize::try_from(more)? / own;
        ensure!((1..=16).contains(&lanes), "{more} for {own} a lane");
        Ok(())
    });
    let dialer = dialer(setting)?;
    for name in names(OTHER)? {
        // Nobody listens there, and the name of a Service is none on a node: what counts is that
        // the agent was asked; once more beside when DNS takes its time.
        let before = attacker.asked(setting)?;
        let _ = dialer.dial(&name)?;
        let asked = attacker.asked(setting)?;
        ensure!(
            (1..=2).contains(&(asked - before)),
            "{name}: {before}, then {asked} requests"
        );
    }
    let before = attacker.asked(setting)?;
    for name in &foreign {
        let is_connected = name.starts_with("managed") || *name == names("managed")?[0];
        for _ in 0..TRIES {
            let reached = dialer.dial(name)?;
            let found = match &reached {
                Ok(()) => true,
                Err(DialError::NoAgent { .. }) => false,
                Err(error) => anyhow::bail!("{name}: {error}"),
            };
            ensure!(found == is_connected, "{name}: {reached:?}");
        }
    }
    let asked = attacker.asked(setting)?;
    ensure!(
        asked == before,
        "{} requests of others reached the agent",
        asked - before
    );
    let told = "announced names that are not its own";
    let log = server_log(setting)?;
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains(told) && line.contains(&format!("agent=\"{ATTACKER}\"")))
        .collect();
    ensure!(told.len() == 1, "told {} times: {told:#?}", told.len());
    for name in &announced {
        ensure!(
            told[0].contains(&format!("host={name}")),
            "not {name}: {}",
            told[0]
        );
    }
    ensure!(told[0].contains("cluster=other"), "{}", told[0]);
    attacker.agent.terminate()?;
    Ok(())
}

/// The certificate outlives the cluster: it must be worth nothing.
pub(crate) fn detached(setting: &Setting) -> Result<()> {
    join(setting, OTHER)?;
    open_tunnel_port(setting)?;
    let mut attacker = Attacker::start(setting, &[])?;
    let refused = refused(setting)?;
    let hub = &setting.lab.hub;
    let began = Instant::now();
    hub.kubectl(&["delete", "managedcluster", OTHER, "--wait=false"])?;
    let told = "cluster other is not among those accepted by the hub";
    attacker.agent.wait_for_line(told, OUT_WITHIN)?;
    ensure!(began.elapsed() < OUT_WITHIN, "{:?}", began.elapsed());
    let dialer = dialer(setting)?;
    let name = &names(OTHER)?[0];
    let reached = dialer.dial(name)?;
    ensure!(
        matches!(reached, Err(DialError::NoAgent { .. })),
        "{reached:?}"
    );
    // It comes again and again, and stays out.
    Setting::eventually("refused more than once", || {
        let more = self::refused(setting)? - refused;
        ensure!(more >= 2, "{more}");
        Ok(())
    });
    let lanes = attacker.metric(setting, "cluster_proxy_agent_lanes")?;
    ensure!(lanes == 0, "{lanes} lanes");
    let log = server_log(setting)?;
    for told in ["agent cut off: ", "agent refused: "] {
        let told = format!("{told}cluster other is not among those accepted by the hub");
        ensure!(log.contains(&told), "not told: {told}");
    }
    attacker.agent.terminate()?;
    no_certificate_for(setting, OTHER)?;
    setting.hub(&["delete", "service", TUNNEL_SERVICE])?;
    leave(setting)
}

/// What an agent of `cluster` may announce: its tunnel host, its name, and its name with the
/// agent's namespace.
fn names(cluster: &str) -> Result<Vec<String>> {
    let host = TunnelHost::of(&cluster.parse()?).to_string();
    Ok(vec![
        host,
        cluster.to_owned(),
        format!("{cluster}.{AGENT_NAMESPACE}"),
    ])
}

/// The agent's id.
const ATTACKER: &str = "test-attacker";

/// Beside the names: what belongs to no cluster.
const OTHERS_ANNOUNCED: [&str; 3] = ["ipv4=10.96.0.1", "cidr=10.0.0.0/8", "default-route=true"];

/// Our own proxy-agent in the managed cluster's network, with a certificate of `other`.
struct Attacker {
    agent: Running,
    _folder: tempfile::TempDir,
}

impl Attacker {
    /// Connected, and announcing `hosts` beside the names of `other`.
    fn start(setting: &Setting, hosts: &[String]) -> Result<Self> {
        let folder = tempfile::TempDir::new()?;
        let (certificate, key) = proxy_agent_of(setting, OTHER)?;
        let file = |name: &str, content: &str| -> Result<String> {
            let path = folder.path().join(name);
            fs::write(&path, content)?;
            Ok(path.display().to_string())
        };
        let mut announced: Vec<_> = names(OTHER)?;
        announced.extend_from_slice(hosts);
        let mut announced: Vec<_> = announced.iter().map(|it| format!("host={it}")).collect();
        if !hosts.is_empty() {
            announced.extend(OTHERS_ANNOUNCED.map(str::to_owned));
        }
        let (health_host, health_port) = METRICS.split_once(':').context("no port")?;
        let mut command = setting.lab.managed.command(program()?);
        command
            .arg("proxy-agent")
            .args(["--agent-cert", &file("tls.crt", &certificate)?])
            .args(["--agent-key", &file("tls.key", &key)?])
            .args(["--ca-cert", &file("ca.crt", &ca(setting)?)?])
            .arg(format!("--proxy-server-host={}", setting.lab.hub.node_ip()))
            .args(["--proxy-server-port=30091", "--agent-id", ATTACKER])
            .args(["--health-server-host", health_host])
            .args(["--health-server-port", health_port])
            .args(["--agent-identifiers", &announced.join("&")])
            .args(["--sync-interval=500ms", "--sync-interval-cap=1s"]);
        let agent = Running::start("attacker", command)?;
        let attacker = Self {
            agent,
            _folder: folder,
        };
        Setting::eventually("the agent is connected", || {
            let lanes = attacker.metric(setting, "cluster_proxy_agent_lanes")?;
            ensure!(lanes > 0, "{lanes} lanes");
            Ok(())
        });
        Ok(attacker)
    }

    /// Targets that it was asked to dial, with success or without.
    fn asked(&self, setting: &Setting) -> Result<u64> {
        self.metric(setting, "cluster_proxy_agent_dials_total")
    }

    fn metric(&self, setting: &Setting, name: &str) -> Result<u64> {
        let url = format!("http://{METRICS}/metrics");
        let answer = curl(
            setting.lab.managed.command("curl"),
            &["--noproxy", "*", &url],
        )?;
        sum(&answer.body, name)
    }
}

/// The program that was built beside this test, since the image's is in the image.
fn program() -> Result<std::path::PathBuf> {
    let program = cluster_proxy_tests::program();
    ensure!(
        Path::new(&program).is_file(),
        "{} is not built",
        program.display()
    );
    Ok(program)
}

/// Opens the proxy-server's port for users of the tunnel on the hub's node.
fn open_tunnel_port(setting: &Setting) -> Result<()> {
    let service = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": TUNNEL_SERVICE, "namespace": crate::ADDON_NAMESPACE},
        "spec": {
            "type": "NodePort",
            "selector": {"proxy.open-cluster-management.io/component-name": "proxy-server"},
            "ports": [{"port": 8090, "nodePort": TUNNEL_PORT}],
        },
    });
    setting.lab.hub.apply(&service.to_string()).map(drop)
}

/// Who may open tunnels, with the Secret for such clients.
struct Client {
    runtime: tokio::runtime::Runtime,
    dialer: ProxyServerDialer,
}

fn dialer(setting: &Setting) -> Result<Client> {
    let secret = ["get", "secret", "proxy-client", "-o", "json"];
    let secret: Value = serde_json::from_str(&setting.hub(&secret)?)?;
    let field = |name: &str| -> Result<Vec<u8>> {
        let text = secret["data"][name].as_str().context("no such key")?;
        Ok(STANDARD.decode(text)?)
    };
    let (certificate, key) = (field("tls.crt")?, field("tls.key")?);
    let pair = Some((certificate.as_slice(), key.as_slice()));
    let tls = ClientTls::from_pem(ca(setting)?.as_bytes(), pair, Vec::new())?;
    let server = Target::new(&setting.lab.hub.node_ip().to_string(), TUNNEL_PORT)?;
    let config = DialerConfig::new(server, tls);
    Ok(Client {
        runtime: tokio::runtime::Runtime::new()?,
        dialer: ProxyServerDialer::new(config, DialerMetrics::default())?,
    })
}

impl Client {
    /// Opens a tunnel to `name` and gives it up again. The outer error is a broken test.
    fn dial(&self, name: &str) -> Result<Result<(), DialError>> {
        let target = if name.ends_with(TUNNEL_HOST_SUFFIX) {
            Target::new(name, 7443)?
        } else {
            Target::new(name, 443)?
        };
        let dialled = self.runtime.block_on(self.dialer.connect(&target));
        Ok(dialled.map(drop))
    }
}

fn dropped(setting: &Setting) -> Result<u64> {
    server_metric(setting, "cluster_proxy_server_announcements_dropped_total")
}

fn refused(setting: &Setting) -> Result<u64> {
    server_metric(setting, "cluster_proxy_server_agents_refused_total")
}

fn server_metric(setting: &Setting, name: &str) -> Result<u64> {
    let pods = [
        "get",
        "pods",
        "-l",
        PROXY_SERVER,
        "-o",
        "jsonpath={.items[*].status.podIP}",
    ];
    let mut total = 0;
    for ip in setting.hub(&pods)?.split_whitespace() {
        let url = format!("http://{ip}:8092/metrics");
        let answer = curl(setting.lab.hub.command("curl"), &["--noproxy", "*", &url])?;
        total += sum(&answer.body, name)?;
    }
    Ok(total)
}

fn server_log(setting: &Setting) -> Result<String> {
    setting.hub(&["logs", "-l", PROXY_SERVER, "--tail=-1"])
}

const PROXY_SERVER: &str = "proxy.open-cluster-management.io/component-name=proxy-server";

/// The sum of a metric's values over its labels: what was never counted is not there.
fn sum(text: &str, name: &str) -> Result<u64> {
    ensure!(text.contains("# TYPE "), "no metrics: {text}");
    let mut total = 0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        if rest.starts_with([' ', '{']) {
            let value = rest.rsplit(' ').next().unwrap_or_default();
            total += value.parse::<u64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(total)
}
