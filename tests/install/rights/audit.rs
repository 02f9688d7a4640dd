//! What accounts asked the kube-apiserver for, by its audit log.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::Cluster;
use serde_json::Value;

use super::Account;
use super::granted::Right;

/// All that was asked, of both kinds of answer.
#[derive(Default)]
pub(super) struct Uses {
    used: BTreeSet<Use>,
    refused: BTreeSet<(String, String)>,
}

/// Something that was allowed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    user: String,
    verb: String,
    resource: String,
    /// What the kube-apiserver found it allowed by, if it says.
    binding: Option<String>,
}

impl Uses {
    /// Reads the log of `cluster`, which the lab writes when it is asked to.
    pub(super) fn read(cluster: &Cluster) -> Result<Self> {
        let folder = cluster.kubeconfig().parent().context("no folder")?;
        let folder = folder.join("log");
        let mut uses = Self::default();
        let mut lines = 0_u64;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // The older one, once the lab has begun another.
            if !name.starts_with("audit") {
                continue;
            }
            for line in BufReader::new(File::open(&path)?).lines() {
                // The last line is just being written.
                if let Ok(event) = serde_json::from_str::<Value>(&line?) {
                    lines += 1;
                    uses.take(&event);
                }
            }
        }
        ensure!(
            lines > 0,
            "no audit log in {}: start the lab with CLUSTER_PROXY_LAB_AUDIT=1",
            folder.display()
        );
        Ok(uses)
    }

    fn take(&mut self, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let Some(user) = text("/user/username") else {
            return;
        };
        // Requests of this suite in the name of an account are not the account's.
        if text("/userAgent").is_some_and(|agent| agent.starts_with("kubectl")) {
            return;
        }
        let verb = text("/verb").unwrap_or_default();
        let code = event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64);
        let impersonated = &event["impersonatedUser"];
        if !impersonated.is_null() {
            self.take_impersonation(user, impersonated);
            return;
        }
        let resource = match text("/objectRef/resource") {
            Some(resource) => {
                let group = text("/objectRef/apiGroup").unwrap_or_default();
                let part = text("/objectRef/subresource").map(|it| format!("/{it}"));
                format!("{group}/{resource}{}", part.unwrap_or_default())
            }
            None => {
                let uri = text("/requestURI").unwrap_or_default();
                uri.split('?').next().unwrap_or_default().to_owned()
            }
        };
        if code == Some(FORBIDDEN) {
            let uri = text("/requestURI").unwrap_or_default();
            self.refused
                .insert((user.to_owned(), format!("{verb} {uri}")));
            return;
        }
        let reason = text("/annotations/authorization.k8s.io~1reason").unwrap_or_default();
        let binding = reason.strip_prefix("RBAC: allowed by ");
        let binding = binding.and_then(|it| it.split(" of ").next());
        let mut add = |verb: &str, resource: &str, binding: Option<&str>| {
            self.used.insert(Use {
                user: user.to_owned(),
                verb: verb.to_owned(),
                resource: resource.to_owned(),
                binding: binding.map(str::to_owned),
            });
        };
        add(verb, &resource, binding);
        // An object that is made by applying it has to be one that may be created.
        if verb == "patch" && code == Some(CREATED) {
            add("create", &resource, binding);
        }
        // The kube-apiserver's admission asks for these.
        match resource.as_str() {
            "certificates.k8s.io/certificatesigningrequests/approval" => {
                add("approve", SIGNERS, None);
            }
            "certificates.k8s.io/certificatesigningrequests/status" => add("sign", SIGNERS, None),
            _ => {}
        }
    }

    /// The request itself was allowed to whom the account passed as.
    fn take_impersonation(&mut self, user: &str, impersonated: &Value) {
        let mut add = |resource: &str| {
            self.used.insert(Use {
                user: user.to_owned(),
                verb: "impersonate".to_owned(),
                resource: resource.to_owned(),
                binding: None,
            });
        };
        if impersonated["username"].is_string() {
            add("/users");
        }
        if impersonated["groups"].is_array() {
            add("/groups");
        }
        if impersonated["uid"].is_string() {
            add("authentication.k8s.io/uids");
        }
        let extra = impersonated["extra"].as_object();
        for key in extra.into_iter().flatten().map(|(key, _)| key) {
            add(&format!("authentication.k8s.io/userextras/{key}"));
        }
    }

    /// Whether `account` has used `right`, which is among the `granted`. What a right of everybody's
    /// allowed as well, the kube-apiserver may have found allowed by that.
    pub(super) fn contains(&self, account: &Account, right: &Right, granted: &[Right]) -> bool {
        let is_of_all = |binding: &String| granted.iter().all(|it| it.binding != *binding);
        self.used.iter().any(|it| {
            let is_same = it.verb == right.verb && it.resource == right.resource;
            let by = it.binding.as_ref();
            let is_by = by.is_none_or(|by| *by == right.binding || is_of_all(by));
            it.user == account.user && is_same && is_by
        })
    }

    /// Requests of `account` that it had no right to make.
    pub(super) fn refused(&self, account: &Account) -> impl Iterator<Item = &str> {
        let refused = self.refused.iter();
        refused
            .filter(|(user, _)| user == account.user)
            .map(|(_, request)| request.as_str())
    }
}

const FORBIDDEN: u64 = 403;
const CREATED: u64 = 201;
const SIGNERS: &str = "certificates.k8s.io/signers";
