//! The embedded Kubernetes API as the hub of servers and agents.

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::tls::{FlagFile, install_crypto_provider};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::drain::Drain;
use tempfile::TempDir;

/// A hub, and its administrator's connection to it.
pub(crate) struct KubeHub {
    pub(crate) kube: EmbeddedKube,
    pub(crate) connection: Connection,
    /// Ends it.
    pub(crate) drain: Drain,
    /// Has the kubeconfig, and room for more.
    pub(crate) folder: TempDir,
}

impl KubeHub {
    pub(crate) async fn new() -> Self {
        // Another test of this process may have been first.
        let _ = install_crypto_provider();
        let drain = Drain::new();
        let kube = EmbeddedKube::start(Config::new("hub"), &drain)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kube.admin_kubeconfig()).unwrap();
        let file = FlagFile::new("--kubeconfig", kubeconfig);
        Self {
            kube,
            connection: Connection::from_kubeconfig(file, None).unwrap(),
            drain,
            folder,
        }
    }
}
