//! Who is at the other end of a frontend connection.

use std::fmt;
use std::net::SocketAddr;

use cluster_proxy_identity::PeerIdentity;
use tokio::net::UnixStream;

/// What a user of the tunnel proves, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrontendClient {
    /// A certificate, verified in the handshake.
    Certificate {
        identity: PeerIdentity,
        peer: SocketAddr,
    },
    /// That the file system lets it connect. It is nobody's agent.
    UnixSocket {
        /// The process and its user, as the kernel has them.
        process: Option<i32>,
        user: Option<u32>,
    },
}

impl FrontendClient {
    pub(crate) fn of_unix(socket: &UnixStream) -> Self {
        let credentials = socket.peer_cred().ok();
        Self::UnixSocket {
            process: credentials.and_then(|credentials| credentials.pid()),
            user: credentials.map(|credentials| credentials.uid()),
        }
    }

    /// An agent's certificate opens no tunnels, nor does none.
    pub(crate) fn may_open_tunnels(&self) -> bool {
        match self {
            Self::Certificate { identity, .. } => {
                !identity.may_be_an_agent() && *identity != PeerIdentity::Anonymous
            }
            Self::UnixSocket { .. } => true,
        }
    }

    /// The client as logs name it. A certificate's common name may hold anything.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Certificate { identity, .. } => match identity {
                PeerIdentity::Anonymous => "anonymous".to_owned(),
                PeerIdentity::UserServer => "user-server".to_owned(),
                PeerIdentity::Agent(agent) => format!("agent of {}", agent.cluster),
                PeerIdentity::Client { common_name } => {
                    common_name.escape_debug().take(256).collect()
                }
            },
            Self::UnixSocket { .. } => "unix socket".to_owned(),
        }
    }
}

/// Where it comes from.
impl fmt::Display for FrontendClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { peer, .. } => peer.fmt(f),
            Self::UnixSocket { process, user } => {
                let (process, user) = (process.unwrap_or(0), user.unwrap_or(u32::MAX));
                write!(f, "process {process} of user {user}")
            }
        }
    }
}
