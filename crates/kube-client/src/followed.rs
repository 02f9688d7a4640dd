//! A kubeconfig that is read again as it changes.

use std::sync::Arc;

use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::tls::FlagFile;

use crate::connection::Connection;
use crate::error::ConnectionError;
use crate::refreshed::Refreshed;

/// The connection that a kubeconfig file describes now. Who follows a kubeconfig asks anew for
/// each piece of work, since a cluster that is registered again gets another kubeconfig under the
/// same path. Clones share everything.
#[derive(Debug, Clone)]
pub struct FollowedKubeconfig {
    file: FlagFile,
    proxies: Proxies,
    current: Arc<Refreshed<Version>>,
}

/// One version of the file.
#[derive(Debug)]
struct Version {
    text: Text,
    connection: Connection,
}

/// The kubeconfig as read: it may hold credentials, so it is never shown.
#[derive(PartialEq, Eq)]
struct Text(Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl FollowedKubeconfig {
    /// Reads the file, in its current context.
    ///
    /// # Errors
    /// As [`Connection::from_kubeconfig`].
    pub fn load(file: FlagFile) -> Result<Self, ConnectionError> {
        Self::load_through(file, Proxies::from_environment()?)
    }

    /// The same with `proxies` instead of the environment's.
    ///
    /// # Errors
    /// As [`Connection::from_kubeconfig`].
    pub fn load_through(file: FlagFile, proxies: Proxies) -> Result<Self, ConnectionError> {
        let text = read(&file)?;
        let connection = Connection::from_kubeconfig_through(file.clone(), None, &proxies)?;
        Ok(Self {
            file,
            proxies,
            current: Arc::new(Refreshed::new(Version { text, connection })),
        })
    }

    /// The newest connection that could be read. A file that has become unreadable or damaged
    /// changes nothing: it is logged once, and the last good connection stays.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let version = self.current.get(&self.file, |old| {
            let text = read(&self.file)?;
            if text == old.text {
                return Ok::<_, ConnectionError>(None);
            }
            let file = self.file.clone();
            let connection = Connection::from_kubeconfig_through(file, None, &self.proxies)?;
            Ok(Some(Version { text, connection }))
        });
        version.connection.clone()
    }
}

fn read(file: &FlagFile) -> Result<Text, ConnectionError> {
    std::fs::read(&file.path)
        .map(Text)
        .map_err(|source| ConnectionError::Unreadable {
            file: file.clone(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::CertificateAuthority;

    use super::*;
    use crate::refreshed::REFRESH_INTERVAL;

    fn kubeconfig(ca: &str, token: &str, port: u16) -> String {
        format!(
            "current-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', \
             certificate-authority: {ca}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn another_kubeconfig_is_used_and_a_damaged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.crt");
        std::fs::write(&ca, CertificateAuthority::generate().unwrap().cert_pem()).unwrap();
        let ca = ca.display().to_string();
        let path = directory.path().join("kubeconfig");
        let file = FlagFile::new("--hub-kubeconfig", &path);
        assert!(FollowedKubeconfig::load(file.clone()).is_err());

        std::fs::write(&path, kubeconfig(&ca, "first", 1)).unwrap();
        let followed = FollowedKubeconfig::load(file).unwrap();
        let authority = || followed.connection().endpoint().authority().to_owned();
        assert_eq!(authority(), "127.0.0.1:1");
        std::fs::write(&path, kubeconfig(&ca, "second", 2)).unwrap();
        tokio::time::advance(REFRESH_INTERVAL).await;
        assert_eq!(authority(), "127.0.0.1:2");
        std::fs::write(&path, "current-context: nowhere").unwrap();
        tokio::time::advance(REFRESH_INTERVAL).await;
        assert_eq!(authority(), "127.0.0.1:2");
        assert!(!format!("{followed:?}").contains("second"));
    }
}
