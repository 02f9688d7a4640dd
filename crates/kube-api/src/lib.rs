//! Names, headers, answers and object types that cluster-proxy shares with Kubernetes and Open
//! Cluster Management. No client and no runtime in here: everything is plain data.

pub mod addon;
pub mod cluster_profile;
pub mod headers;
pub mod managed_cluster;
pub mod managed_proxy_configuration;
pub mod names;
pub mod status;
pub mod work;
