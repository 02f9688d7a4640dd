//! The list of exposed Services from its ConfigMap, watched.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cluster_proxy_kube_client::{ConfigMapName, ConfigMapState, Connection};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::exposed_services::ExposedServices;
use crate::metrics::Metrics;

/// Where the list is kept.
#[derive(Debug, Clone)]
pub struct ExposedServicesConfigMap {
    /// The hub, as somebody who may list and watch this one ConfigMap.
    pub hub: Connection,
    /// Which one.
    pub map: ConfigMapName,
}

/// The newest list that could be read.
#[derive(Debug, Clone)]
pub(crate) struct WatchedExposedServices {
    /// Where an administrator finds it.
    place: Arc<str>,
    current: Arc<ArcSwap<Current>>,
}

#[derive(Debug)]
pub(crate) enum Current {
    /// Nobody knows yet what is in it.
    Unread {
        /// Why.
        why: String,
    },
    /// The list.
    Read {
        list: Arc<ExposedServices>,
        /// Why a newer version is not it.
        problem: Option<String>,
    },
}

impl WatchedExposedServices {
    /// A list that exposes nothing.
    pub(crate) fn none() -> Self {
        Self::new(
            "the user-server's --exposed-services-configmap, which names none".into(),
            Current::Read {
                list: Arc::default(),
                problem: None,
            },
        )
    }

    /// The list in a ConfigMap, which [`keep_fresh`](Self::keep_fresh) reads.
    pub(crate) fn of(map: &ConfigMapName) -> Self {
        Self::new(
            format!("{map} of the hub").into(),
            Current::Unread {
                why: "it has not been read yet".to_owned(),
            },
        )
    }

    fn new(place: Arc<str>, current: Current) -> Self {
        Self {
            place,
            current: Arc::new(ArcSwap::from_pointee(current)),
        }
    }

    /// Where an administrator finds the list.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The list as it is now.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Watches the ConfigMap for ever.
    pub(crate) async fn keep_fresh(self, source: ExposedServicesConfigMap, metrics: Metrics) {
        let ExposedServicesConfigMap { hub, map } = source;
        map.follow(&hub, |state| {
            self.tell(state, &metrics);
        })
        .await;
    }

    fn tell(&self, state: ConfigMapState, metrics: &Metrics) {
        let list = match state {
            ConfigMapState::Found(found) => parse(*found),
            ConfigMapState::Missing => Ok(ExposedServices::default()),
            ConfigMapState::Unknown { why } => {
                if matches!(*self.current.load_full(), Current::Unread { .. }) {
                    self.current.store(Arc::new(Current::Unread { why }));
                }
                return;
            }
        };
        match list {
            Ok(list) => {
                tracing::info!(entries = list.len(), "exposed Services: {}", self.place);
                metrics.exposed_services_valid(true);
                self.current.store(Arc::new(Current::Read {
                    list: Arc::new(list),
                    problem: None,
                }));
            }
            Err(problem) => {
                tracing::warn!(%problem, "exposed Services: {} is not valid; the last good list stays", self.place);
                metrics.exposed_services_valid(false);
                let list = match &*self.current.load_full() {
                    Current::Read { list, .. } => Arc::clone(list),
                    Current::Unread { .. } => Arc::default(),
                };
                self.current.store(Arc::new(Current::Read {
                    list,
                    problem: Some(problem),
                }));
            }
        }
    }
}

fn parse(found: ConfigMap) -> Result<ExposedServices, String> {
    ExposedServices::parse(&found.data.unwrap_or_default()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(text: &str) -> ConfigMapState {
        ConfigMapState::Found(Box::new(ConfigMap {
            data: Some([("services".to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        }))
    }

    fn read(services: &WatchedExposedServices) -> Option<(usize, bool)> {
        match &*services.current() {
            Current::Unread { .. } => None,
            Current::Read { list, problem } => Some((list.len(), problem.is_some())),
        }
    }

    #[test]
    fn the_last_good_list_stays_until_the_config_map_goes() {
        let metrics = Metrics::default();
        let services = WatchedExposedServices::of(&ConfigMapName {
            namespace: "ns".to_owned(),
            name: "list".to_owned(),
        });
        let unknown = || ConfigMapState::Unknown {
            why: "forbidden".to_owned(),
        };
        assert_eq!(read(&services), None, "nobody knows");
        services.tell(unknown(), &metrics);
        assert_eq!(read(&services), None, "still nobody knows");
        services.tell(holding("- {namespace: a, service: b}"), &metrics);
        assert_eq!(read(&services), Some((1, false)));
        services.tell(unknown(), &metrics);
        assert_eq!(read(&services), Some((1, false)));
        services.tell(holding("- {namespace: a}"), &metrics);
        assert_eq!(read(&services), Some((1, true)));
        services.tell(ConfigMapState::Missing, &metrics);
        assert_eq!(read(&services), Some((0, false)));
        services.tell(holding("nonsense"), &metrics);
        assert_eq!(read(&services), Some((0, true)));
    }
}
