//! What OCM's agents keep in the managed cluster to come to the hub with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::Setting;

/// The kubeconfig in a Secret of the managed cluster, with the files beside it that it names,
/// written to `folder`: its path.
pub(crate) fn from_secret(
    setting: &Setting,
    namespace: &str,
    secret: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let arguments = ["get", "secret", secret, "-n", namespace, "-o", "json"];
    let secret: Value = serde_json::from_str(&setting.lab.managed.kubectl(&arguments)?)?;
    let data = secret["data"].as_object().context("an empty Secret")?;
    for (name, content) in data {
        let content = content.as_str().context("no text")?;
        fs::write(folder.join(name), STANDARD.decode(content)?)?;
    }
    // The files are where the agent has the Secret mounted.
    let path = folder.join("kubeconfig");
    let text = fs::read_to_string(&path).context("the Secret has no kubeconfig")?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    let user = &mut config["users"][0]["user"];
    for field in ["client-certificate", "client-key"] {
        let file = user[field]
            .as_str()
            .and_then(|it| Path::new(it).file_name());
        let file = file.with_context(|| format!("the kubeconfig names no {field}"))?;
        user[field] = folder.join(file).display().to_string().into();
    }
    fs::write(&path, config.to_string())?;
    Ok(path)
}
