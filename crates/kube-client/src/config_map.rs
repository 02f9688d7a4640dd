//! One ConfigMap, watched.

use std::fmt;
use std::pin::pin;

use cluster_proxy_runtime::error::with_sources;
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};

use crate::connection::Connection;

/// Which ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a watch says of a ConfigMap.
#[derive(Debug)]
pub enum ConfigMapState {
    /// It is there.
    Found(Box<ConfigMap>),
    /// There is none.
    Missing,
    /// Nobody can tell: what was known before may still hold.
    Unknown {
        /// Why.
        why: String,
    },
}

impl ConfigMapName {
    /// Watches for ever, as `connection`'s user, who needs to list and watch this one
    /// ConfigMap, and tells every change.
    pub async fn follow(&self, connection: &Connection, mut tell: impl FnMut(ConfigMapState)) {
        let api: Api<ConfigMap> = Api::namespaced(connection.watch_client(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = pin!(watcher(api, only).default_backoff());
        let mut listed = false;
        let mut last_error = None;
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed = false,
                Ok(Some(watcher::Event::InitApply(found))) => {
                    listed = true;
                    tell(ConfigMapState::Found(Box::new(found)));
                }
                Ok(Some(watcher::Event::InitDone)) if listed => {}
                Ok(Some(watcher::Event::InitDone | watcher::Event::Delete(_))) => {
                    tell(ConfigMapState::Missing);
                }
                Ok(Some(watcher::Event::Apply(found))) => {
                    tell(ConfigMapState::Found(Box::new(found)))
                }
                Ok(None) => return,
                Err(error) => {
                    let why = in_one_line(&error);
                    // It is tried again, and fails again, until somebody does something.
                    if last_error.as_ref() != Some(&why) {
                        tracing::warn!("{self} cannot be watched: {why}");
                        last_error = Some(why.clone());
                    }
                    tell(ConfigMapState::Unknown { why });
                }
            }
        }
    }
}

/// What the kube-apiserver says, without what kube says around it.
fn in_one_line(error: &watcher::Error) -> String {
    let cause: Option<&kube::Error> = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => Some(cause),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
    };
    match (error, cause) {
        (_, Some(kube::Error::Api(status))) | (watcher::Error::WatchError(status), _) => {
            status.message.clone()
        }
        (error, _) => with_sources(error),
    }
}

impl fmt::Display for ConfigMapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {}/{}", self.namespace, self.name)
    }
}
