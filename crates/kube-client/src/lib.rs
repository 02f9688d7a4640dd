//! The one way to reach a kube-apiserver: where it is, whom to trust, and as whom to come.
//!
//! A [`Connection`] is read from a kubeconfig or from the files of a pod. It makes
//! [`kube::Client`]s that never retry by themselves and never wait without end, and hands its
//! [`ApiEndpoint`] and [`TokenSource`] to those who forward raw HTTP. Files (tokens, certificates,
//! CAs) are read again while the process runs, so that rotation needs no restart.

pub mod calls;
mod client;
mod config_map;
mod connection;
mod endpoint;
mod error;
mod followed;
mod in_cluster;
mod kubeconfig;
pub mod lease;
mod refreshed;
mod tls;
mod token_source;

pub use config_map::{ConfigMapName, ConfigMapState};
pub use connection::{Connection, ConnectionParts};
pub use endpoint::{Address, ApiEndpoint, ApiSocket, CONNECT_TIMEOUT, ConnectError};
pub use error::ConnectionError;
pub use followed::FollowedKubeconfig;
pub use in_cluster::SERVICE_ACCOUNT_DIR;
pub use token_source::TokenSource;
