//! A namespace of the lab's hub with the accounts of a server, an agent and somebody else.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::lab::{Cluster, Lab};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What agents' tokens are for.
pub(crate) const AUDIENCE: &str = "system:konnectivity-server";

const ACCOUNTS: [&str; 3] = ["server", "agent", "other"];

pub(crate) struct Hub {
    cluster: Cluster,
    pub(crate) namespace: String,
    folder: TempDir,
}

impl Hub {
    pub(crate) fn new() -> Result<Self> {
        let hub = Self {
            cluster: Lab::get()?.hub,
            namespace: format!("testkit-accounts-{}", std::process::id()),
            folder: TempDir::new()?,
        };
        hub.cluster
            .kubectl(&["create", "namespace", &hub.namespace])?;
        for account in ACCOUNTS {
            hub.kubectl(&["create", "serviceaccount", account])?;
        }
        for (account, cluster_wide, rules) in [
            (
                "server",
                true,
                json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"],
                        "verbs": ["create"]}]),
            ),
            (
                "server",
                false,
                json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                        "verbs": ["get", "list", "create", "update", "delete"]}]),
            ),
            (
                "agent",
                false,
                json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                        "verbs": ["list", "watch"]}]),
            ),
        ] {
            hub.bind(account, cluster_wide, &rules)?;
        }
        for account in ACCOUNTS {
            hub.write_kubeconfig(account)?;
        }
        Ok(hub)
    }

    /// Where the kubeconfig of an account is.
    pub(crate) fn kubeconfig(&self, account: &str) -> PathBuf {
        self.folder.path().join(format!("{account}.kubeconfig"))
    }

    /// A new token of an account, in a file.
    pub(crate) fn token(&self, account: &str, audience: &str) -> Result<PathBuf> {
        let audience_flag = format!("--audience={audience}");
        let token = self.kubectl(&["create", "token", account, &audience_flag])?;
        let name = audience.replace([':', '/'], "-");
        let path = self.folder.path().join(format!("{account}-{name}.token"));
        std::fs::write(&path, token.trim())?;
        Ok(path)
    }

    /// Names of the Leases that agents count.
    pub(crate) fn leases(&self) -> Result<Vec<String>> {
        let selector = "--selector=k8s-app=konnectivity-server";
        let listed: Value =
            serde_json::from_str(&self.kubectl(&["get", "leases", selector, "-o", "json"])?)?;
        let items = listed["items"].as_array().context("no list")?;
        Ok(items
            .iter()
            .filter_map(|lease| lease["metadata"]["name"].as_str())
            .map(str::to_owned)
            .collect())
    }

    fn bind(&self, account: &str, cluster_wide: bool, rules: &Value) -> Result<()> {
        let api = "rbac.authorization.k8s.io";
        let (role, binding, name) = if cluster_wide {
            let name = format!("{}-{account}", self.namespace);
            ("ClusterRole", "ClusterRoleBinding", name)
        } else {
            ("Role", "RoleBinding", account.to_owned())
        };
        for object in [
            json!({"apiVersion": format!("{api}/v1"), "kind": role,
                   "metadata": {"name": name, "namespace": self.namespace}, "rules": rules}),
            json!({"apiVersion": format!("{api}/v1"), "kind": binding,
                   "metadata": {"name": name, "namespace": self.namespace},
                   "roleRef": {"apiGroup": api, "kind": role, "name": name},
                   "subjects": [{"kind": "ServiceAccount", "name": account,
                                 "namespace": self.namespace}]}),
        ] {
            self.cluster
                .apply(&without_namespace(object, cluster_wide).to_string())?;
        }
        Ok(())
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    fn write_kubeconfig(&self, account: &str) -> Result<()> {
        let path = r"jsonpath={.data.ca\.crt}";
        let ca = self.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", path])?;
        let ca_file = self.folder.path().join("hub-ca.crt");
        std::fs::write(&ca_file, ca)?;
        let token = self.kubectl(&["create", "token", account])?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "hub",
            "clusters": [{"name": "hub", "cluster": {
                "server": self.cluster.api_url(), "certificate-authority": ca_file,
            }}],
            "users": [{"name": account, "user": {"token": token.trim()}}],
            "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": account}}],
        });
        std::fs::write(self.kubeconfig(account), kubeconfig.to_string())?;
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The lab is thrown away; what is left of a failed run harms no other.
        let name = format!("{}-server", self.namespace);
        for kind in ["clusterrolebinding", "clusterrole"] {
            let _ = self.cluster.kubectl(&["delete", kind, &name]);
        }
        let wait = "--wait=false";
        let _ = self
            .cluster
            .kubectl(&["delete", "namespace", &self.namespace, wait]);
    }
}

fn without_namespace(mut object: Value, cluster_wide: bool) -> Value {
    if cluster_wide && let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    object
}
