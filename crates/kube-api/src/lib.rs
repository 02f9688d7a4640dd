//! Names, headers and answers that cluster-proxy shares with Kubernetes and Open Cluster
//! Management. No client and no runtime in here: everything is plain data.

pub mod headers;
pub mod names;
pub mod status;
