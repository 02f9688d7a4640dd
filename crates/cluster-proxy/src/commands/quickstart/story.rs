//! The request of the user's story, what it must not do, and lines to paste.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use serde_json::{Value, json};

use super::clusters::Clusters;
use super::folder::Folder;
use super::plan::Plan;
use super::roles::{Roles, USER_TOKEN_FILE};
use super::voice::Voice;

/// File of the user's kubeconfig.
const USER_KUBECONFIG: &str = "user.kubeconfig";

/// File of the CA that users verify the user-server with.
pub(super) const CA_FILE: &str = "ca.crt";

pub(super) struct Story<'a> {
    pub(super) clusters: &'a Clusters,
    pub(super) roles: &'a Roles,
    pub(super) folder: &'a Folder,
}

impl Story<'_> {
    /// Asks for the pods with the hub user's token, and checks that the rest is refused.
    /// Gives the name of one of the pods.
    pub(super) async fn ask(&self, voice: &Voice) -> Result<String> {
        let plan = &self.clusters.plan;
        let token = std::fs::read_to_string(self.folder.path().join(USER_TOKEN_FILE))?;
        let user_server = &self.roles.user_server;

        let path = plan.pods_path();
        let answer = user_server.get(&path, Some(&token)).await?;
        let found = format!("GET {path}: {}, {:.0?}", answer.status, answer.took);
        ensure!(
            answer.status == StatusCode::OK,
            "{found}: {}",
            answer.message()
        );
        voice.done(found);
        let pods = answer.body["items"]
            .as_array()
            .context("an answer without items")?;
        let first = pods
            .first()
            .and_then(|pod| pod["metadata"]["name"].as_str())
            .with_context(|| format!("there is no pod in {}", plan.pods_namespace))?;
        for pod in pods {
            voice.detail(describe(pod));
        }

        let path = plan.forbidden_path();
        let answer = user_server.get(&path, Some(&token)).await?;
        let found = format!("GET {path}: {}", answer.status);
        ensure!(
            answer.status == StatusCode::FORBIDDEN
                && answer.message().contains(&plan.managed_user_name()),
            "{found} instead of 403 for {}: {}",
            plan.managed_user_name(),
            answer.message()
        );
        voice.done(found);
        voice.detail(answer.message());

        let answer = user_server.get(&plan.pods_path(), None).await?;
        let found = format!("the same without a token: {}", answer.status);
        ensure!(
            answer.status == StatusCode::UNAUTHORIZED,
            "{found} instead of 401"
        );
        voice.done(found);
        self.write_kubeconfig()?;
        Ok(first.to_owned())
    }

    /// Lines to paste while it runs.
    pub(super) fn tell(&self, pod: &str, voice: &Voice) {
        let folder = self.folder.path().display();
        let url = format!(
            "https://{}{}",
            self.roles.user_server.address,
            self.clusters.plan.pods_path()
        );
        voice.line("\nIt runs. In another terminal:\n");
        voice.line(format_args!(
            "  curl --cacert {folder}/{CA_FILE} -H \"Authorization: Bearer $(cat \
             {folder}/{USER_TOKEN_FILE})\" {url}"
        ));
        if on_path("kubectl") {
            let kubectl = format!("kubectl --kubeconfig {folder}/{USER_KUBECONFIG}");
            voice.line("");
            for verb in [
                "get pods",
                "get pods -o yaml",
                "get pods -w",
                "auth can-i list pods",
            ] {
                voice.line(format_args!("  {kubectl} {verb}"));
            }
            voice.line(format_args!("  {kubectl} logs -f {pod}"));
        } else {
            voice.line(format_args!(
                "\n  (kubectl is not installed here; {folder}/{USER_KUBECONFIG} is for it)"
            ));
        }
        voice.line("\nCtrl-C ends it and leaves nothing behind.");
    }

    fn write_kubeconfig(&self) -> Result<()> {
        let server = format!(
            "https://{}/{}",
            self.roles.user_server.address, self.clusters.plan.cluster
        );
        let namespace = &self.clusters.plan.pods_namespace;
        let ca = self.folder.path().join(CA_FILE);
        let token = self.folder.path().join(USER_TOKEN_FILE);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                { "name": "c", "cluster": { "server": server, "certificate-authority": ca } },
            ],
            "users": [{ "name": Plan::USER, "user": { "tokenFile": token } }],
            "contexts": [{
                "name": "c",
                "context": { "cluster": "c", "user": Plan::USER, "namespace": namespace },
            }],
            "current-context": "c",
        });
        self.folder.write(USER_KUBECONFIG, kubeconfig.to_string())?;
        Ok(())
    }
}

fn describe(pod: &Value) -> String {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    format!("pod {} ({})", text("/metadata/name"), text("/status/phase"))
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder: std::path::PathBuf| {
            let candidate: &Path = &folder.join(program);
            candidate.is_file()
        })
    })
}
