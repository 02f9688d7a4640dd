//! The CA of the OpenID provider from a ConfigMap, watched.

use cluster_proxy_authentication::{OidcTrust, OidcTrustReceiver};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_kube_client::{ConfigMapName, ConfigMapState, Connection};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;

/// A ConfigMap with a CA bundle, and where its changes are told.
#[derive(Debug)]
pub(crate) struct OidcCaConfigMap {
    map: ConfigMapName,
    sender: watch::Sender<OidcTrust>,
    /// What is told now.
    told: Option<Bundle>,
}

/// The bundle, or why there is none.
type Bundle = Result<Vec<u8>, String>;

impl OidcCaConfigMap {
    /// The CA in ConfigMap `name`. The receiver has none until [`keep_fresh`](Self::keep_fresh)
    /// has read it.
    pub(crate) fn new(map: ConfigMapName) -> (Self, OidcTrustReceiver) {
        let (sender, receiver) = watch::channel(OidcTrust::Unavailable {
            why: format!("{map} has not been read yet"),
        });
        let this = Self {
            map,
            sender,
            told: None,
        };
        (this, receiver)
    }

    /// Watches for ever, as `connection`'s user, who needs to get, list and watch this one
    /// ConfigMap. A bundle that is gone or invalid is not used any longer: who takes it away means
    /// it. A watch that fails says nothing about the bundle, which stays.
    pub(crate) async fn keep_fresh(mut self, connection: Connection) {
        let map = self.map.clone();
        map.follow(&connection, |state| match state {
            ConfigMapState::Found(found) => self.tell(bundle_of(*found)),
            ConfigMapState::Missing => self.tell(Err("there is no such ConfigMap".to_owned())),
            ConfigMapState::Unknown { .. } => {}
        })
        .await;
    }

    fn tell(&mut self, bundle: Bundle) {
        // The same again must not throw away the keys that were fetched with it.
        if self.told.as_ref() == Some(&bundle) {
            return;
        }
        let tls = bundle.as_ref().map_err(Clone::clone).and_then(|pem| {
            ClientTls::from_pem(pem, None, Vec::new()).map_err(|error| error.to_string())
        });
        self.sender.send_replace(match tls {
            Ok(tls) => {
                tracing::info!("{} is the CA of the OIDC issuer from now on", self.map);
                OidcTrust::Roots(tls)
            }
            Err(cause) => {
                let why = format!("{}: {cause}", self.map);
                tracing::warn!(%why, "ID tokens cannot be verified");
                OidcTrust::Unavailable { why }
            }
        });
        self.told = Some(bundle);
    }
}

fn bundle_of(found: ConfigMap) -> Bundle {
    let text = found.data.and_then(|mut data| data.remove(KEY));
    let bytes = || found.binary_data.and_then(|mut data| data.remove(KEY));
    text.map(String::into_bytes)
        .or_else(|| bytes().map(|bytes| bytes.0))
        .ok_or_else(|| format!("no {KEY} in it"))
}

/// Where the bundle stands.
const KEY: &str = "ca.crt";

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::CertificateAuthority;
    use k8s_openapi::ByteString;

    use super::*;

    fn unavailable(trust: &OidcTrust) -> Option<&str> {
        match trust {
            OidcTrust::Roots(_) => None,
            OidcTrust::Unavailable { why } => Some(why),
        }
    }

    fn holding(pem: &str) -> ConfigMap {
        ConfigMap {
            data: Some([(KEY.to_owned(), pem.to_owned())].into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_bundle_that_is_gone_or_invalid_is_not_used_any_longer() {
        let pem = CertificateAuthority::generate().expect("a CA");
        let pem = pem.cert_pem();
        let (mut map, mut trust) = OidcCaConfigMap::new(ConfigMapName {
            namespace: "ns".to_owned(),
            name: "ca".to_owned(),
        });
        assert!(unavailable(&trust.borrow()).is_some());
        map.tell(bundle_of(holding(pem)));
        assert_eq!(unavailable(&trust.borrow_and_update()), None);
        map.tell(bundle_of(holding(pem)));
        assert!(!trust.has_changed().expect("a sender"), "nothing is new");
        for bad in [holding(""), holding("nonsense"), ConfigMap::default()] {
            map.tell(bundle_of(bad));
            let trust = trust.borrow_and_update();
            let why = unavailable(&trust).expect("nothing to trust");
            assert!(why.starts_with("ConfigMap ns/ca: "), "{why}");
        }
        let binary = ConfigMap {
            binary_data: Some([(KEY.to_owned(), ByteString(pem.into()))].into()),
            ..ConfigMap::default()
        };
        map.tell(bundle_of(binary));
        assert_eq!(unavailable(&trust.borrow_and_update()), None);
    }
}
