//! Why a connection cannot be made from what a flag names.

use std::path::PathBuf;

use cluster_proxy_http_proxy::VariableError;
use cluster_proxy_identity::TokenError;
use cluster_proxy_identity::tls::FlagFile;
use cluster_proxy_runtime::error::StartError;

/// A kubeconfig, or a file it names, that gives no connection. One line each, with flag, file and
/// cause, and no byte of a credential.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A file that cannot be read.
    #[error("{file}: {}", describe(source))]
    Unreadable {
        /// The flag, and the file it names itself or through a kubeconfig.
        file: FlagFile,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file with the wrong content.
    #[error("{file}: {cause}")]
    Unusable {
        /// The flag and the kubeconfig.
        file: FlagFile,
        /// What is wrong.
        cause: String,
    },
    /// A token file whose content is not a token.
    #[error("{file}: {source}")]
    Token {
        /// The flag, and the token file.
        file: FlagFile,
        /// What is wrong with the content.
        source: TokenError,
    },
    /// A variable of the environment that names no HTTP proxy.
    #[error(transparent)]
    Proxy(#[from] VariableError),
    /// No kubeconfig was given, and this is not a pod.
    #[error(
        "not in a pod ({missing} is not set): a kubeconfig is needed to reach the kube-apiserver"
    )]
    NotInCluster {
        /// The variable that every pod has.
        missing: &'static str,
    },
    /// The files of the pod's service account do not give a connection.
    #[error("service account files in {}: {cause}", directory.display())]
    InCluster {
        /// Where they were looked for.
        directory: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A connection whose parts do not fit together.
    #[error("{cause}")]
    Parts {
        /// What is wrong.
        cause: String,
    },
}

impl From<ConnectionError> for StartError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Proxy(error) => error.into(),
            error => Self::failed(error),
        }
    }
}

/// The usual reasons in the words of this project, the rest in the system's.
pub(crate) fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}
