//! A hub in the process, for tests.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube, LocalAddress};
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use cluster_proxy_runtime::drain::Drain;
use serde_json::{Value, json};

use crate::certificate_authority::CaHandle;
use crate::config::ManagerConfig;
use crate::context::Context;
use crate::events::Events;
use crate::metrics::Metrics;

/// A hub in the process, with the namespaces of the addon.
pub(crate) struct Hub {
    pub(crate) kube: EmbeddedKube,
    pub(crate) drain: Drain,
    pub(crate) connection: Connection,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        // Another test of this process may have been first.
        drop(install_crypto_provider());
        let drain = Drain::new();
        let kube = EmbeddedKube::start(Config::new("hub"), &drain)
            .await
            .unwrap();
        let LocalAddress::Tcp(address) = kube.local_address().clone() else {
            panic!("it listens on TCP by default");
        };
        let admin = kube.admin_certificate();
        let connection = Connection::from_parts(ConnectionParts {
            address: Address::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
            },
            server_name: "localhost".to_owned(),
            ca: kube.ca_pem().as_bytes().to_vec(),
            client_certificate: Some((
                admin.cert_pem.clone().into_bytes(),
                admin.key_pem.clone().into_bytes(),
            )),
            token: TokenSource::none(),
        })
        .unwrap();
        let hub = Self {
            kube,
            drain,
            connection,
        };
        hub.apply(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        }));
        hub
    }

    /// Applies an object, also one that was read before and then changed.
    pub(crate) fn apply(&self, mut object: Value) -> Value {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            metadata.remove("resourceVersion");
        }
        self.kube.apply(&object).unwrap()
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Value> {
        self.kube.get("v1", "Secret", NAMESPACE, name)
    }

    pub(crate) fn config(identity: &str) -> ManagerConfig {
        ManagerConfig {
            signer_secret_namespace: NAMESPACE.to_owned(),
            ..ManagerConfig::new(NAMESPACE, identity)
        }
    }

    /// A leading manager's context.
    pub(crate) fn context(&self, identity: &str) -> Arc<Context> {
        let config = Self::config(identity);
        let client = self.connection.client();
        Arc::new(Context {
            events: Events::new(client.clone(), &config),
            client,
            watch_client: self.connection.watch_client(),
            config,
            ca: CaHandle::new(),
            metrics: Metrics::default(),
            drain: self.drain.child(),
        })
    }
}

/// What `look` finds, as soon as it finds something.
///
/// # Panics
/// When that takes longer than [`LIMIT`].
pub(crate) async fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, found).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {} s", LIMIT.as_secs()))
}

/// The namespace of the manager, the proxy-server and the CA.
pub(crate) const NAMESPACE: &str = "open-cluster-management-addon";

/// Generous: the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
