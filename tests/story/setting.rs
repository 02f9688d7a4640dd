//! The story's setting: both clusters, the roles, the hub user and their rights.

use std::cell::RefCell;
use std::process::Command;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::installation::{CLUSTER, Installation};
use cluster_proxy_testkit::lab::Lab;
use cluster_proxy_tests::http::{Answer, curl};

pub(crate) const HUB_NAMESPACE: &str = "open-cluster-management-hub";
pub(crate) const NAMESPACE: &str = "open-cluster-management-agent";
pub(crate) const POD: &str = "klusterlet-agent";
pub(crate) const MAPPED_USER: &str =
    "cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa";

/// Rights that kubectl's verbs need beyond the story's `get` and `list`.
const MORE_RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: test-sa-more
  namespace: open-cluster-management-agent
rules:
- apiGroups: ['']
  resources: [pods, pods/log]
  verbs: [get, list, watch]
- apiGroups: ['']
  resources: [pods/exec]
  verbs: [get, create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: test-sa-more
  namespace: open-cluster-management-agent
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: test-sa-more
subjects:
- kind: User
  name: cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa
  apiGroup: rbac.authorization.k8s.io
";

/// The Role and RoleBinding of the user's story, as they stand there.
const STORY_RIGHTS: &str = include_str!("../test-sa.yaml");

pub(crate) struct Setting {
    pub(crate) lab: Lab,
    /// Steps end and start roles.
    pub(crate) installation: RefCell<Installation>,
    /// The hub user's token.
    pub(crate) token: String,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::get()?;
        lab.hub.make_namespace(HUB_NAMESPACE)?;
        lab.managed.make_namespace(NAMESPACE)?;
        lab.hub.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: \
             {{name: test-sa, namespace: {HUB_NAMESPACE}}}}}"
        ))?;
        lab.managed.apply(STORY_RIGHTS)?;
        lab.managed.apply(MORE_RIGHTS)?;
        lab.managed.apply(&pod(POD, lab.tools_image()))?;
        let token = lab
            .hub
            .kubectl(&["-n", HUB_NAMESPACE, "create", "token", "test-sa"])?;
        let installation = Installation::start(&lab, &cluster_proxy_tests::program())?;
        lab.managed
            .wait_until_ready(NAMESPACE, &[&format!("pod/{POD}")])?;
        let installation = RefCell::new(installation);
        Ok(Self {
            lab,
            installation,
            token: token.trim().to_owned(),
        })
    }

    /// `https://…:9092/<cluster>/<path>`.
    pub(crate) fn url(&self, cluster: &str, path: &str) -> String {
        format!("{}/{cluster}/{path}", self.installation.borrow().url())
    }

    /// A request to the managed cluster's API with a token, in the hub's network.
    pub(crate) fn get(&self, path: &str, token: &str, more: &[&str]) -> Result<Answer> {
        let header = format!("Authorization: Bearer {token}");
        let url = self.url(CLUSTER, path);
        let mut arguments = vec!["-H", header.as_str(), url.as_str()];
        arguments.extend(more);
        self.curl(&arguments)
    }

    /// curl in the hub's network, trusting the CA of the installation.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = self.lab.hub.command("curl");
        command.arg("--cacert").arg(self.installation.borrow().ca());
        curl(command, arguments)
    }

    /// kubectl as the hub user, through the user-server, in the hub's network.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let kubeconfig = self
            .installation
            .borrow()
            .user_kubeconfig("hub-user", &self.token)?;
        let mut command = self.lab.hub.command(self.lab.hub.kubectl_program());
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
        Ok(command)
    }

    /// What kubectl printed, when it succeeds.
    pub(crate) fn kubectl_output(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .kubectl(arguments)?
            .output()
            .context("kubectl cannot be run")?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A pod that writes a numbered line every half second.
pub(crate) fn pod(name: &str, image: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: agent
    image: {image}
    imagePullPolicy: Never
    command: [sh, -c, 'n=0; while true; do n=$((n+1)); echo line $n; sleep 0.5; done']
"
    )
}
