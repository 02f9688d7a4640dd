use std::path::Path;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::ca::{CertificateAuthority, Issued, Leaf};
use crate::peer::PeerIdentity;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("identity-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn files(cert: &Path, key: &Path) -> ServerTlsFiles {
    ServerTlsFiles {
        cert: FlagFile::new("--server-cert", cert),
        key: FlagFile::new("--server-key", key),
        client_ca: None,
        client_auth: ClientAuth::Off,
        alpn: Vec::new(),
    }
}

fn server_leaf(ca: &CertificateAuthority) -> Issued {
    ca.issue(&Leaf::server(vec!["localhost".to_owned()]))
        .unwrap()
}

/// One handshake over an in-memory pipe: the server's view of the client, or why not.
async fn handshake(server: &ServerTls, client: &ClientTls) -> Result<PeerIdentity, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(server.config());
    let serving = async move {
        let mut tls = acceptor.accept(far).await.map_err(|e| e.to_string())?;
        tls.write_all(b"x").await.map_err(|e| e.to_string())?;
        tls.shutdown().await.map_err(|e| e.to_string())?;
        Ok::<_, String>(PeerIdentity::of(tls.get_ref().1.peer_certificates()))
    };
    let connector = TlsConnector::from(client.config());
    let asking = async move {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = connector
            .connect(name, near)
            .await
            .map_err(|e| e.to_string())?;
        let mut byte = [0];
        tls.read_exact(&mut byte).await.map_err(|e| e.to_string())?;
        Ok::<_, String>(())
    };
    let (served, asked) = tokio::join!(serving, asking);
    asked.and(served)
}

#[test]
fn errors_name_flag_file_and_cause() {
    let folder = Folder::new("errors");
    let ca = CertificateAuthority::generate().unwrap();
    let (one, two) = (server_leaf(&ca), server_leaf(&ca));
    let cert = folder.write("cert.pem", &one.cert_pem);
    let key = folder.write("key.pem", &one.key_pem);
    let other_key = folder.write("other.pem", &two.key_pem);
    let text = folder.write("text.pem", "hello");
    let absent = folder.0.join("absent.pem");
    let message =
        |cert: &Path, key: &Path| ServerTls::load(files(cert, key)).unwrap_err().to_string();

    assert!(ServerTls::load(files(&cert, &key)).is_ok());
    assert_eq!(
        message(&absent, &key),
        format!("--server-cert {}: no such file", absent.display())
    );
    assert_eq!(
        message(&text, &key),
        format!("--server-cert {}: no PEM certificate in it", text.display())
    );
    assert_eq!(
        message(&cert, &text),
        format!("--server-key {}: no PEM private key in it", text.display())
    );
    assert_eq!(
        message(&cert, &other_key),
        format!(
            "--server-key {}: the key does not belong to the certificate",
            other_key.display()
        )
    );
}

#[test]
fn another_profile_counts_from_the_next_handshake_on() {
    let folder = Folder::new("profile");
    let ca = CertificateAuthority::generate().unwrap();
    let leaf = server_leaf(&ca);
    let cert = folder.write("cert.pem", &leaf.cert_pem);
    let key = folder.write("key.pem", &leaf.key_pem);
    let server = ServerTls::load(files(&cert, &key)).unwrap();
    let tls12_suites = || {
        let config = server.config();
        let suites = &config.crypto_provider().cipher_suites;
        suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .count()
    };
    let all = tls12_suites();
    let one = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    let (profile, _) = TlsProfile::parse("", &one).unwrap();
    assert!(server.set_profile(profile.clone()).unwrap());
    assert_eq!(tls12_suites(), 1);
    assert!(!server.set_profile(profile).unwrap(), "nothing is new");
    // Changed files keep to it.
    let other = server_leaf(&ca);
    folder.write("cert.pem", &other.cert_pem);
    folder.write("key.pem", &other.key_pem);
    assert!(server.reload().unwrap());
    assert_eq!(tls12_suites(), 1);
    // With files that cannot be read, nothing changes, and later it can.
    folder.write("key.pem", &leaf.key_pem);
    server.set_profile(TlsProfile::default()).unwrap_err();
    assert_eq!(tls12_suites(), 1);
    folder.write("key.pem", &other.key_pem);
    assert!(server.set_profile(TlsProfile::default()).unwrap());
    assert_eq!(tls12_suites(), all);
}

#[tokio::test]
async fn client_certificates_count_as_asked() {
    let ca = CertificateAuthority::generate().unwrap();
    let stranger = CertificateAuthority::generate().unwrap();
    let leaf = server_leaf(&ca);
    let server = |auth| {
        let client_ca = Some(ca.cert_pem().as_bytes());
        let (cert, key) = (leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes());
        ServerTls::from_pem(cert, key, client_ca, auth, Vec::new()).unwrap()
    };
    let client = |issued: Option<&Issued>| {
        let cert = issued.map(|i| (i.cert_pem.as_bytes(), i.key_pem.as_bytes()));
        ClientTls::from_pem(ca.cert_pem().as_bytes(), cert, Vec::new()).unwrap()
    };
    let known = ca.issue(&Leaf::user_server_client()).unwrap();
    let unknown = stranger.issue(&Leaf::user_server_client()).unwrap();
    let serving = ca.issue(&Leaf::server(vec!["x".to_owned()])).unwrap();

    let optional = server(ClientAuth::Optional);
    assert_eq!(
        handshake(&optional, &client(None)).await,
        Ok(PeerIdentity::Anonymous)
    );
    assert_eq!(
        handshake(&optional, &client(Some(&known))).await,
        Ok(PeerIdentity::UserServer)
    );
    assert!(handshake(&optional, &client(Some(&unknown))).await.is_err());
    let required = server(ClientAuth::Required);
    assert!(handshake(&required, &client(None)).await.is_err());
    assert_eq!(
        handshake(&required, &client(Some(&known))).await,
        Ok(PeerIdentity::UserServer)
    );
    assert!(
        handshake(&required, &client(Some(&serving))).await.is_err(),
        "a server's certificate"
    );
}

#[tokio::test]
async fn hard_case_26_a_changed_file_is_used_and_a_bad_one_is_not() {
    let folder = Folder::new("reload");
    let (old, new) = (
        CertificateAuthority::generate().unwrap(),
        CertificateAuthority::generate().unwrap(),
    );
    let leaf = server_leaf(&old);
    let cert = folder.write("cert.pem", &leaf.cert_pem);
    let key = folder.write("key.pem", &leaf.key_pem);
    let server = ServerTls::load(files(&cert, &key)).unwrap();
    let trusting = |ca: &CertificateAuthority| {
        ClientTls::from_pem(ca.cert_pem().as_bytes(), None, Vec::new()).unwrap()
    };
    assert!(handshake(&server, &trusting(&old)).await.is_ok());
    assert!(!server.reload().unwrap());

    folder.write("key.pem", "half writ");
    assert!(server.reload().is_err());
    assert!(
        handshake(&server, &trusting(&old)).await.is_ok(),
        "the last good pair stays"
    );

    let leaf = server_leaf(&new);
    folder.write("cert.pem", &leaf.cert_pem);
    assert!(
        server.reload().is_err(),
        "a new certificate with the old key"
    );
    folder.write("key.pem", &leaf.key_pem);
    assert!(server.reload().unwrap());
    assert!(handshake(&server, &trusting(&new)).await.is_ok());
    assert!(handshake(&server, &trusting(&old)).await.is_err());
}
