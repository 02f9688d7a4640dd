//! Both clusters, the roles, a hub user who may do everything on the managed cluster, and pods.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::installation::Installation;
use cluster_proxy_testkit::lab::Lab;
use tempfile::TempDir;

use crate::idle::Idle;
use crate::kubectl::{Client, NEW, OLD, Transport, Way};

pub(crate) const NAMESPACE: &str = "kubectl-suite";
pub(crate) const MAPPED_USER: &str = "cluster:hub:system:serviceaccount:kubectl-suite:operator";

/// Writes a numbered line every half second.
pub(crate) const WORKER: &str = "worker";
/// Answers each line of its standard input.
pub(crate) const LISTENER: &str = "listener";
/// Serves files of 1 MB and 5 GiB at port 8080.
pub(crate) const WEB: &str = "web";
/// Has written [`LOG_LINES`] times [`LOG_LINE`], which is less than makes a kubelet rotate its log.
pub(crate) const TALKER: &str = "talker";
pub(crate) const LOG_LINE: &str = concat!(
    "a line of a log that is long enough to fill the buffers on its way soon, and short enough ",
    "to be whole in one piece of the files of the container runtime, which has 16 KiB for each; ",
);
pub(crate) const LOG_LINES: usize = 40_000;

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: kubectl-suite
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: cluster-admin
subjects:
- kind: User
  name: cluster:hub:system:serviceaccount:kubectl-suite:operator
  apiGroup: rbac.authorization.k8s.io
";

pub(crate) struct Setting {
    /// Ended before the roles are.
    pub(crate) idle: Idle,
    pub(crate) installation: Installation,
    pub(crate) lab: Lab,
    pub(crate) token: String,
    pub(crate) kubeconfig: PathBuf,
    clients: [Client; 2],
    folder: TempDir,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::get()?;
        let clients = [
            Client::from_environment(OLD, "LAB_KUBECTL_OLD")?,
            Client::from_environment(NEW, "LAB_KUBECTL_NEW")?,
        ];
        forget(&lab, true)?;
        for cluster in [&lab.hub, &lab.managed] {
            cluster.make_namespace(NAMESPACE)?;
        }
        lab.hub.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: \
             {{name: operator, namespace: {NAMESPACE}}}}}"
        ))?;
        lab.managed.apply(RIGHTS)?;
        lab.managed.apply(&pods(lab.tools_image()))?;
        let token = lab.hub.kubectl(&[
            "-n",
            NAMESPACE,
            "create",
            "token",
            "operator",
            "--duration=2h",
        ])?;
        let token = token.trim().to_owned();
        let installation = Installation::start(&lab, &cluster_proxy_tests::program())?;
        let kubeconfig = installation.user_kubeconfig("operator", &token)?;
        lab.managed.wait_until_ready(NAMESPACE, &["pod", "--all"])?;
        let mut setting = Self {
            idle: Idle::default(),
            installation,
            lab,
            token,
            kubeconfig,
            clients,
            folder: TempDir::new().context("a folder for files")?,
        };
        setting.idle = Idle::begin(&setting)?;
        Ok(setting)
    }

    /// Each kubectl over each transport.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way<'_>> {
        self.clients.iter().flat_map(move |client| {
            [Transport::WebSocket, Transport::Spdy].map(|transport| Way {
                setting: self,
                client,
                transport,
            })
        })
    }

    /// Each kubectl once, for what needs no stream of its own.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Way<'_>> {
        self.ways()
            .filter(|way| matches!(way.transport, Transport::WebSocket))
    }

    /// A path in a folder that goes with the suite.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The next run waits for what is left.
        let _ = forget(&self.lab, false);
    }
}

fn forget(lab: &Lab, wait: bool) -> Result<()> {
    let wait = format!("--wait={wait}");
    for cluster in [&lab.managed, &lab.hub] {
        cluster.kubectl(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            &wait,
        ])?;
    }
    lab.managed.kubectl(&[
        "delete",
        "clusterrolebinding",
        "kubectl-suite",
        "--ignore-not-found",
    ])?;
    Ok(())
}

fn pods(image: &str) -> String {
    let talk = format!("yes \"{LOG_LINE}\" | head -n {LOG_LINES}; sleep 86400");
    [
        (
            WORKER,
            "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.5; done",
        ),
        (LISTENER, "while read -r word; do echo heard $word; done"),
        (
            WEB,
            "mkdir /www && head -c 1000000 /dev/urandom >/www/file && truncate -s 5G /www/large && \
             exec httpd -f -p 8080 -h /www",
        ),
        (TALKER, &talk),
    ]
    .map(|(name, script)| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {NAMESPACE}
  labels: {{app: {name}, suite: kubectl}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    stdin: {stdin}
    command: [sh, -c, '{script}']
",
            stdin = name == LISTENER,
        )
    })
    .join("---")
}
