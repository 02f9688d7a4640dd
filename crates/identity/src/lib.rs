//! Who is who: names that cross a trust boundary and can only be parsed, identities proven by
//! a certificate as against announced in a header, the CA, and TLS configurations that reload
//! without dropping a connection.
//!
//! No Kubernetes and no HTTP server here; every other room may depend on this one.

mod announced;
pub mod ca;
pub mod certificate;
mod cluster;
mod peer;
mod target;
pub mod tls;
mod token;
mod user;

pub use announced::{AnnouncedIdentifiers, AnnouncedIdentifiersError};
pub use cluster::{
    ClusterName, ClusterNameError, SERVICE_PROXY_PORT, TUNNEL_HOST_SUFFIX, TunnelHost,
    TunnelHostError,
};
pub use peer::{PeerIdentity, ProvenAgent, USER_SERVER_COMMON_NAME};
pub use target::{Scheme, ServicePort, ServiceTarget, ServiceTargetError};
pub use token::{Token, TokenError};
pub use user::{RemoteUserError, User, strip_remote_headers};
