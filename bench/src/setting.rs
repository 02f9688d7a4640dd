//! Two clusters, cluster-proxy between them, and a question that both sides answer alike.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::installation::{CLUSTER, Installation};
use cluster_proxy_testkit::lab::{Cluster, Lab};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::process_usage::{cpu_seconds, resident};

use crate::load::{Question, as_f64};

const NAMESPACE: &str = "cluster-proxy-bench";

/// The pod that is asked for, and who may get it, from either side.
const OBJECTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: bench, namespace: cluster-proxy-bench}
---
apiVersion: v1
kind: Pod
metadata: {name: bench, namespace: cluster-proxy-bench}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: bench, image: 'lab.local/tools:1', imagePullPolicy: Never, command: [sleep, '86400']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: bench, namespace: cluster-proxy-bench}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: bench, namespace: cluster-proxy-bench}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: bench}
subjects:
- {kind: ServiceAccount, name: bench, namespace: cluster-proxy-bench}
- kind: User
  name: cluster:hub:system:serviceaccount:cluster-proxy-bench:bench
  apiGroup: rbac.authorization.k8s.io
";

/// Whom the load is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Direct,
    Proxied,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxied => "proxied",
        }
    }
}

pub(crate) struct Setting {
    direct: Question,
    proxied: Question,
    lab: Lab,
    apiserver: u32,
    installation: Installation,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::get()?;
        lab.hub.make_namespace(NAMESPACE)?;
        lab.managed.make_namespace(NAMESPACE)?;
        lab.hub.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: bench, namespace: {NAMESPACE}}}}}"
        ))?;
        lab.managed.apply(OBJECTS)?;
        lab.managed.wait_until_ready(NAMESPACE, &["pod/bench"])?;
        let installation = Installation::start_at(&lab, &program()?, "warn")?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/bench");
        let token = |cluster: &Cluster| -> Result<String> {
            let arguments = ["create", "token", "bench", "-n", NAMESPACE, "--duration=8h"];
            Ok(cluster.kubectl(&arguments)?.trim().to_owned())
        };
        let direct = Question {
            address: format!("{}:6443", lab.managed.node_ip()),
            server_name: lab.managed.node_ip().to_string(),
            ca: root_ca(&lab.managed)?.into_bytes(),
            path: path.clone(),
            token: token(&lab.managed)?,
        };
        let proxied = Question {
            address: format!("{}:9092", lab.hub.node_ip()),
            server_name: lab.hub.node_ip().to_string(),
            ca: std::fs::read(installation.ca())?,
            path: format!("/{CLUSTER}{path}"),
            token: token(&lab.hub)?,
        };
        let apiserver = apiserver_pid(&lab.managed)?;
        Ok(Self {
            direct,
            proxied,
            lab,
            apiserver,
            installation,
        })
    }

    pub(crate) fn question(&self, side: Side) -> &Question {
        match side {
            Side::Direct => &self.direct,
            Side::Proxied => &self.proxied,
        }
    }

    /// What is watched, by the proxied side: as `proxied` in [`Self::question`], the bench's pods.
    pub(crate) fn watch_path(&self) -> String {
        format!("/{CLUSTER}/api/v1/namespaces/{NAMESPACE}/pods?watch=true")
    }

    /// Resident memory of each role, in KiB.
    pub(crate) fn memory(&self) -> Result<[(&'static str, f64); 4]> {
        let installation = &self.installation;
        let of = |role: &Running| -> Result<f64> {
            Ok(as_f64(usize::try_from(resident(role.id())? / 1024)?))
        };
        Ok([
            ("user-server", of(&installation.user_server)?),
            ("proxy-server", of(&installation.proxy_server)?),
            ("proxy-agent", of(&installation.proxy_agent)?),
            ("service-proxy", of(&installation.service_proxy)?),
        ])
    }

    /// CPU so far of everything that answers, and connections dialled so far.
    pub(crate) async fn observe(&self, side: Side) -> Result<Observed> {
        let mut observed = Observed {
            apiserver: cpu_seconds(self.apiserver)?,
            ..Observed::default()
        };
        if side == Side::Proxied {
            for role in [
                &self.installation.user_server,
                &self.installation.proxy_server,
                &self.installation.proxy_agent,
                &self.installation.service_proxy,
            ] {
                observed.roles += cpu_seconds(role.id())?;
            }
            observed.dialled = dialled(&self.lab.hub)? + dialled(&self.lab.managed)?;
        }
        Ok(observed)
    }
}

/// What programs have used, at one moment or between two.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Observed {
    /// CPU seconds of the managed cluster's kube-apiserver.
    pub(crate) apiserver: f64,
    /// CPU seconds of the four roles.
    pub(crate) roles: f64,
    /// Connections that user-server and service-proxy dialled.
    pub(crate) dialled: u64,
}

impl Observed {
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            apiserver: self.apiserver - before.apiserver,
            roles: self.roles - before.roles,
            dialled: self.dialled - before.dialled,
        }
    }
}

fn root_ca(cluster: &Cluster) -> Result<String> {
    cluster.kubectl(&[
        "get",
        "configmap",
        "kube-root-ca.crt",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.data.ca\\.crt}",
    ])
}

/// The user-server's and the service-proxy's metrics are at port 8000 of their networks.
fn dialled(cluster: &Cluster) -> Result<u64> {
    let output = cluster
        .command("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "5"])
        .arg("http://127.0.0.1:8000/metrics")
        .output()?;
    ensure!(
        output.status.success(),
        "metrics: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let counts: Vec<u64> = text
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains("connections_dialled_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    ensure!(
        !counts.is_empty(),
        "no count of connections dialled in {}",
        cluster.name()
    );
    Ok(counts.iter().sum())
}

/// The process that listens on 6443 in that cluster's network.
fn apiserver_pid(cluster: &Cluster) -> Result<u32> {
    let output = cluster
        .command("ss")
        .args(["-Hltnp", "sport = :6443"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let (_, rest) = text
        .split_once("pid=")
        .with_context(|| format!("ss: {text}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// The release build beside this program.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("cluster-proxy");
    ensure!(
        program.is_file(),
        "{}: build it first (make bench does)",
        program.display()
    );
    Ok(program)
}
