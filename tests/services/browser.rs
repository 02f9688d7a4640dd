//! A page behind a Service, in Chromium.

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::installation::CLUSTER;
use serde_json::{Value, json};

use crate::setting::{Setting, output_of, service_path};

/// Script and style by relative URL, a WebSocket, and a cookie that comes back to its Service alone.
pub(crate) fn page(setting: &Setting) -> Result<()> {
    let modules = std::env::var_os("CLUSTER_PROXY_PLAYWRIGHT")
        .context("CLUSTER_PROXY_PLAYWRIGHT is not set: make test SUITE=services sets it")?;
    let site = service_path("http:site:web", "/");
    let mut node = setting.program("node", 60);
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/browser.mjs"))
        .env(
            "CERTIFICATE",
            setting.installation.certificate("hub/user-server.crt"),
        )
        .env("CHROMIUM", "/usr/bin/chromium")
        .env("MODULES", modules)
        .env("PAGE", setting.url(&site))
        .env(
            "OTHER_PAGE",
            setting.url(&service_path("http:other:80", "/headers")),
        )
        .env("TOKEN", &setting.token);
    let printed = output_of(node)?;
    let report: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;

    ensure!(report["finished"] == true, "{report}");
    ensure!(report["complaints"] == json!([]), "{report}");
    ensure!(report["protocol"] == "h2", "{report}");
    ensure!(report["color"] == "rgb(1, 2, 3)", "{report}");
    let seen = &report["seen"];
    ensure!(seen["cookies"] == "cookies: session=of-this-site", "{seen}");
    ensure!(seen["echo"] == "hello" && seen["long"] == 100_000, "{seen}");
    ensure!(seen["code"] == 1000 && seen["wasClean"] == true, "{seen}");
    // The token stays with the user-server; the cookie is there, and not for scripts.
    let headers = &seen["headers"];
    ensure!(
        headers["Cookie"] == json!(["session=of-this-site"]) && headers["Authorization"].is_null(),
        "{headers}"
    );
    ensure!(seen["document"] == "", "{seen}");

    let cookies = report["cookies"].as_array().context("no cookies")?;
    let prefix = format!("/{CLUSTER}{}", service_path("http:site:web", "/"));
    ensure!(
        cookies.len() == 1 && cookies[0]["path"] == prefix && cookies[0]["httpOnly"] == true,
        "{cookies:?}, not of {prefix}"
    );
    // The same pod by another Service, at the same origin.
    let other = &report["other"];
    ensure!(
        other["Accept"].is_array() && other["Cookie"].is_null(),
        "{other}"
    );
    Ok(())
}
