//! The connection of a pod to its own cluster, from what Kubernetes puts into every pod.
//!
//! See <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>.

use std::path::{Path, PathBuf};

use cluster_proxy_identity::tls::FlagFile;

use crate::connection::{Server, Source};
use crate::error::ConnectionError;
use crate::tls::{PemSource, Trust};
use crate::token_source::TokenSource;

/// Where Kubernetes mounts the service account of a pod.
pub const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads the environment and [`SERVICE_ACCOUNT_DIR`].
pub(crate) fn load() -> Result<Source, ConnectionError> {
    let (host, port) = address(|name| std::env::var(name).ok())?;
    load_from(&host, &port, Path::new(SERVICE_ACCOUNT_DIR))
}

/// Host and port of the kube-apiserver, from variables that every pod has.
fn address(variable: impl Fn(&str) -> Option<String>) -> Result<(String, String), ConnectionError> {
    let required = |name: &'static str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .ok_or(ConnectionError::NotInCluster { missing: name })
    };
    Ok((required(HOST_VARIABLE)?, required(PORT_VARIABLE)?))
}

/// The connection to that address with the files of that directory.
fn load_from(host: &str, port: &str, directory: &Path) -> Result<Source, ConnectionError> {
    let file = |name: &str| FlagFile::new(FLAG, directory.join(name));
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let server = Server::parse(&format!("https://{bracketed}:{port}"), None).map_err(|cause| {
        ConnectionError::InCluster {
            directory: PathBuf::from(directory),
            cause: format!("{HOST_VARIABLE} {host:?}, {PORT_VARIABLE} {port:?}: {cause}"),
        }
    })?;
    Ok(Source {
        server,
        proxy: None,
        trust: Trust::Roots(PemSource::File(file("ca.crt"))),
        identity: None,
        token: TokenSource::file(file("token"))?,
        namespace: std::fs::read_to_string(directory.join("namespace"))
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|namespace| !namespace.is_empty()),
        owner: file("ca.crt"),
    })
}

const HOST_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
const PORT_VARIABLE: &str = "KUBERNETES_SERVICE_PORT";

/// Stands where errors name a flag: these files come by themselves.
const FLAG: &str = "service account";

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::CertificateAuthority;

    use super::*;
    use crate::endpoint::Address;

    fn pod() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::generate().unwrap();
        for (name, content) in [
            ("ca.crt", ca.cert_pem()),
            ("token", "from-pod\n"),
            ("namespace", "addon\n"),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[test]
    fn files_of_a_pod_give_a_connection() {
        let pod = pod();
        let source = load_from("10.96.0.1", "443", pod.path()).unwrap();
        let address = Address::Tcp {
            host: "10.96.0.1".to_owned(),
            port: 443,
        };
        assert_eq!(source.server.address, address);
        assert_eq!(source.server.server_name.to_str(), "10.96.0.1");
        assert_eq!(source.token.current().unwrap().expose(), "from-pod");
        assert_eq!(source.namespace.as_deref(), Some("addon"));

        let source = load_from("fd00::1", "6443", pod.path()).unwrap();
        let address = Address::Tcp {
            host: "fd00::1".to_owned(),
            port: 6443,
        };
        assert_eq!(source.server.address, address);
    }

    #[test]
    fn what_is_missing_is_named() {
        let pod = pod();
        let error = load_from("10.96.0.1", "https", pod.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("KUBERNETES_SERVICE_PORT \"https\""),
            "{error}"
        );

        std::fs::remove_file(pod.path().join("token")).unwrap();
        let error = load_from("10.96.0.1", "443", pod.path())
            .unwrap_err()
            .to_string();
        let path = pod.path().join("token");
        assert_eq!(
            error,
            format!("service account {}: no such file", path.display())
        );
    }

    #[test]
    fn outside_a_pod_the_error_says_what_to_do() {
        let pod = |name: &str| match name {
            HOST_VARIABLE => Some("10.96.0.1".to_owned()),
            PORT_VARIABLE => Some("443".to_owned()),
            _ => None,
        };
        assert_eq!(
            address(pod).unwrap(),
            ("10.96.0.1".to_owned(), "443".to_owned())
        );
        for elsewhere in [None, Some(String::new())] {
            let error = address(|_| elsewhere.clone()).unwrap_err().to_string();
            assert_eq!(
                error,
                "not in a pod (KUBERNETES_SERVICE_HOST is not set): a kubeconfig is needed to \
                 reach the kube-apiserver"
            );
        }
    }
}
