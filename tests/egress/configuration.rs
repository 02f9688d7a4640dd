//! The egress selector's configuration, out of the documentation.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// How a kube-apiserver reaches the proxy-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    GrpcUnix,
    HttpConnectUnix,
    HttpConnectTls,
}

impl Transport {
    /// The line above its block.
    fn title(self) -> &'static str {
        match self {
            Self::GrpcUnix => "gRPC on a Unix socket:",
            Self::HttpConnectUnix => "HTTP CONNECT on a Unix socket:",
            Self::HttpConnectTls => "HTTP CONNECT over mutual TLS:",
        }
    }

    /// The documented file, with its folder replaced by `folder`.
    pub(crate) fn configuration(self, folder: &Path) -> Result<String> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/konnectivity.md");
        let page = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let title = self.title();
        let (_, after) = page
            .split_once(&format!("\n{title}\n\n```yaml\n"))
            .with_context(|| format!("docs/konnectivity.md: no block under {title:?}"))?;
        let (block, _) = after
            .split_once("```\n")
            .context("a block without an end")?;
        ensure!(block.contains(DOCUMENTED), "{title} has no {DOCUMENTED}");
        Ok(block.replace(DOCUMENTED, &folder.display().to_string()))
    }
}

/// Where the documentation has the socket and the certificates.
const DOCUMENTED: &str = "/etc/kubernetes/konnectivity";
