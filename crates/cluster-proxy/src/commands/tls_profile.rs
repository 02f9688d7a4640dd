//! TLS versions and cipher suites from the ConfigMap `ocm-tls-profile`, watched.

use cluster_proxy_identity::tls::{ServerTls, TlsProfile, TlsSettings};
use cluster_proxy_kube_api::names::TLS_PROFILE_CONFIG_MAP;
use cluster_proxy_kube_client::{ConfigMapName, ConfigMapState, Connection};

/// Lets `tls` take what the ConfigMap in `namespace` says, for ever; without the ConfigMap TLS 1.2
/// and 1.3 with every good cipher suite. While nobody can tell, or what it says cannot be used, it
/// stays as it was.
pub(crate) async fn follow(tls: ServerTls, connection: Connection, namespace: String) {
    let map = ConfigMapName {
        namespace,
        name: TLS_PROFILE_CONFIG_MAP.to_owned(),
    };
    let told = map.clone();
    map.follow(&connection, |state| tell(&tls, &told, state))
        .await;
}

fn tell(tls: &ServerTls, map: &ConfigMapName, state: ConfigMapState) {
    let profile = match state {
        ConfigMapState::Found(found) => {
            match TlsSettings::from_config_map(&found.data.unwrap_or_default()).profile() {
                Ok((profile, unknown)) => {
                    if !unknown.is_empty() {
                        tracing::warn!(
                            "{map}: these cipher suites are not known here and skipped: {}",
                            unknown.join(",")
                        );
                    }
                    profile
                }
                Err(error) => {
                    tracing::warn!("{map} cannot be used, the last good one stays: {error}");
                    return;
                }
            }
        }
        ConfigMapState::Missing => TlsProfile::default(),
        ConfigMapState::Unknown { .. } => return,
    };
    match tls.set_profile(profile) {
        Ok(true) => tracing::info!("new connections are taken as {map} says"),
        Ok(false) => {}
        Err(error) => tracing::warn!("{map} is not used yet: {error}"),
    }
}
