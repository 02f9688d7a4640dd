//! Both clusters, the roles, a hub user, and a pod behind two Services.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::installation::{CLUSTER, Installation};
use cluster_proxy_testkit::lab::{Cluster, Lab};
use cluster_proxy_tests::http::{Answer, curl};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const NAMESPACE: &str = "services-suite";
pub(crate) const MAPPED_USER: &str = "cluster:hub:system:serviceaccount:services-suite:operator";

/// A pod with a shell.
pub(crate) const SHELL: &str = "shell";

const IMAGE: &str = "lab.local/services-suite:1";

/// Pods begin, and changes of the list, of endpoints and of the DNS are seen by watches.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Setting {
    pub(crate) installation: Installation,
    pub(crate) lab: Lab,
    /// The hub user's.
    pub(crate) token: String,
    folder: TempDir,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::get()?;
        let folder = TempDir::new().context("a folder for files")?;
        forget(&lab, true)?;
        for cluster in [&lab.hub, &lab.managed] {
            cluster.make_namespace(NAMESPACE)?;
        }
        import_image(&lab.managed, folder.path())?;
        let account = format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: \
             {{name: operator, namespace: {NAMESPACE}}}}}"
        );
        lab.hub.apply(&account)?;
        let objects = include_str!("objects.yaml");
        lab.managed
            .apply(&objects.replace("TOOLS_IMAGE", lab.tools_image()))?;
        let ca = CertificateAuthority::generate()?;
        serving_certificate(&lab.managed, &ca)?;
        let ca_file = folder.path().join("service-ca.crt");
        std::fs::write(&ca_file, ca.cert_pem())?;
        let token = lab
            .hub
            .kubectl(&["-n", NAMESPACE, "create", "token", "operator"])?;

        let mut installation = Installation::start(&lab, &cluster_proxy_tests::program())?;
        lab.hub.apply(include_str!("exposed.yaml"))?;
        let ca_file = ca_file.to_str().context("an odd path")?;
        installation.restart_service_proxy(&["--additional-service-ca", ca_file])?;
        lab.managed.wait_until_ready(NAMESPACE, &["pod", "--all"])?;
        let setting = Self {
            installation,
            lab,
            token: token.trim().to_owned(),
            folder,
        };
        for service in ["site", "other"] {
            eventually_blocking(BEGIN_LIMIT, service, || {
                let answer = setting.get(&service_path(&format!("http:{service}:80"), "/"))?;
                ensure!(answer.code == 200, "{answer:?}");
                Ok(())
            });
        }
        Ok(setting)
    }

    /// The user-server's URL of a path in the managed cluster.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{CLUSTER}{path}", self.installation.url())
    }

    /// As the hub user, in the hub's network.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        let mut command = self.lab.hub.command("curl");
        command.arg("--cacert").arg(self.installation.ca());
        let header = format!("Authorization: Bearer {}", self.token);
        curl(command, &["-H", &header, &self.url(path)])
    }

    /// A path in a folder that goes with the suite.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in the hub's network that is ended when it has not come to an end by then.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>, seconds: u32) -> Command {
        let mut command = self.lab.hub.command("timeout");
        command
            .args(["--kill-after=2", &seconds.to_string()])
            .arg(program)
            .env("NO_PROXY", "*")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The next run waits for what is left.
        let _ = forget(&self.lab, false);
    }
}

/// What a program printed, when it succeeds.
pub(crate) fn output_of(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}: {printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed.into_owned())
}

/// The path of a URL into a Service, without the cluster.
pub(crate) fn service_path(service: &str, path: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/services/{service}/proxy-service{path}")
}

/// The servers and clients that `lab build services` makes.
pub(crate) fn services_program() -> Result<PathBuf> {
    let program = std::env::var_os("LAB_SERVICES").map(PathBuf::from);
    let program = program.context("LAB_SERVICES is not set: make test SUITE=services sets it")?;
    ensure!(
        program.is_file(),
        "{} is not built: lab/lab build services",
        program.display()
    );
    Ok(program)
}

/// An image of that program and the page.
fn import_image(cluster: &Cluster, folder: &Path) -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = folder.join("root");
    let page = root.join("page");
    std::fs::create_dir_all(&page)?;
    std::fs::copy(services_program()?, root.join("services"))?;
    for entry in std::fs::read_dir(here.join("services/page"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), page.join(entry.file_name()))?;
    }
    let tar = folder.join("image.tar");
    let mut image = Command::new(here.join("../lab/lab"));
    image
        .args(["image", "--name", IMAGE, "--entrypoint"])
        .arg(r#"["/services", "serve", "/page", "/tls/tls.crt", "/tls/tls.key"]"#)
        .arg("--rootfs")
        .arg(&root)
        .arg("--out")
        .arg(&tar)
        .stdin(Stdio::null());
    output_of(image)?;
    cluster.import_image(&tar)
}

/// As the cluster's administrator would make it: a CA of the Services' own.
fn serving_certificate(cluster: &Cluster, ca: &CertificateAuthority) -> Result<()> {
    let name = format!("site.{NAMESPACE}.svc");
    let issued = ca.issue(&Leaf::server(vec![name]))?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": "site", "namespace": NAMESPACE },
        "stringData": { "tls.crt": issued.cert_pem, "tls.key": issued.key_pem.as_str() },
    });
    cluster.apply(&secret.to_string())?;
    Ok(())
}

fn forget(lab: &Lab, wait: bool) -> Result<()> {
    let wait = format!("--wait={wait}");
    for cluster in [&lab.managed, &lab.hub] {
        let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"];
        cluster.kubectl(&[&delete[..], &[&wait]].concat())?;
    }
    // Other suites begin without a list.
    lab.hub.kubectl(&[
        "delete",
        "configmap",
        "cluster-proxy-exposed-services",
        "-n",
        "open-cluster-management-addon",
        "--ignore-not-found",
    ])?;
    Ok(())
}
