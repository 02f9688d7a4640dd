use cluster_proxy_identity::ca::{CertificateAuthority, Issued, Leaf};
use tempfile::TempDir;

use crate::connection::Connection;
use crate::endpoint::Address;

use super::*;

/// A directory with the PEM files that kubeconfigs name.
struct Files {
    directory: TempDir,
    ca: String,
    client: Issued,
}

impl Files {
    fn new() -> Self {
        let authority = CertificateAuthority::generate().unwrap();
        let client = authority.issue(&Leaf::proxy_client()).unwrap();
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
            ca: authority.cert_pem().to_owned(),
            client,
        };
        files.write("ca.crt", &files.ca);
        files.write("tls.crt", &files.client.cert_pem);
        files.write("tls.key", &files.client.key_pem);
        files.write("token", "from-file\n");
        files.write("empty", "");
        files
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn load(&self, kubeconfig: &str) -> Result<Connection, ConnectionError> {
        self.load_context(kubeconfig, None)
    }

    fn load_context(
        &self,
        kubeconfig: &str,
        context: Option<&str>,
    ) -> Result<Connection, ConnectionError> {
        self.write("kubeconfig", kubeconfig);
        let path = self.directory.path().join("kubeconfig");
        Connection::from_kubeconfig(FlagFile::new("--hub-kubeconfig", path), context)
    }

    /// The whole line of an error, with the directory cut out of it.
    fn error(&self, kubeconfig: &str) -> String {
        let error = self.load(kubeconfig).expect_err(kubeconfig);
        error
            .to_string()
            .replace(&format!("{}/", self.directory.path().display()), "")
    }
}

/// A kubeconfig with this cluster and this user.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
         contexts: [{{name: one, context: {{cluster: hub, user: me}}}}]\n\
         clusters: [{{name: hub, cluster: {cluster}}}]\n\
         users: [{{name: me, user: {user}}}]\n"
    )
}

const CLUSTER: &str = "{server: 'https://hub.example:6443', certificate-authority: ca.crt}";

#[test]
fn files_are_found_beside_the_kubeconfig() {
    let files = Files::new();
    let user = "{client-certificate: tls.crt, client-key: tls.key, tokenFile: token}";
    let connection = files.load(&kubeconfig(CLUSTER, user)).unwrap();
    let endpoint = connection.endpoint();
    let address = Address::Tcp {
        host: "hub.example".to_owned(),
        port: 6443,
    };
    assert_eq!(endpoint.address(), &address);
    assert_eq!(endpoint.authority(), "hub.example:6443");
    assert_eq!(endpoint.path_prefix(), "");
    assert_eq!(endpoint.server_name().to_str(), "hub.example");
    assert!(endpoint.has_client_certificate());
    assert!(
        endpoint
            .tls(true, &[])
            .client_auth_cert_resolver
            .has_certs()
    );
    assert!(
        !endpoint
            .tls(false, &[])
            .client_auth_cert_resolver
            .has_certs()
    );
    assert_eq!(endpoint.tls(false, &[b"h2"]).alpn_protocols, [b"h2"]);
    assert_eq!(connection.token().current().unwrap().expose(), "from-file");
    assert_eq!(connection.namespace(), "default");
}

#[test]
fn inline_data_wins_over_files() {
    let files = Files::new();
    let cluster = format!(
        "{{server: 'https://hub:6443', certificate-authority: missing, \
         certificate-authority-data: {}}}",
        STANDARD.encode(&files.ca)
    );
    let user = format!(
        "{{client-certificate-data: {}, client-key-data: {}, token: inline, tokenFile: missing}}",
        STANDARD.encode(&files.client.cert_pem),
        STANDARD.encode(&files.client.key_pem)
    );
    let connection = files.load(&kubeconfig(&cluster, &user)).unwrap();
    assert!(connection.endpoint().has_client_certificate());
    assert_eq!(connection.token().current().unwrap().expose(), "inline");
}

#[test]
fn contexts_are_chosen_by_name() {
    let files = Files::new();
    let text = "current-context: one\n\
        contexts:\n\
        - {name: one, context: {cluster: a, user: me}}\n\
        - {name: two, context: {cluster: b, namespace: work}}\n\
        clusters:\n\
        - {name: a, cluster: {server: 'https://a', certificate-authority: ca.crt}}\n\
        - {name: b, cluster: {server: 'https://b', certificate-authority: ca.crt}}\n\
        users: [{name: me, user: {token: t}}]\n";
    let one = files.load(text).unwrap();
    assert_eq!(one.endpoint().authority(), "a:443");
    let two = files.load_context(text, Some("two")).unwrap();
    assert_eq!(two.endpoint().authority(), "b:443");
    assert_eq!(two.namespace(), "work");
    assert!(two.token().current().is_none());
    let error = files.load_context(text, Some("three")).unwrap_err();
    assert!(
        error.to_string().ends_with("it has no context \"three\""),
        "{error}"
    );
}

#[test]
fn server_may_have_a_prefix_an_ipv6_address_or_another_name() {
    let files = Files::new();
    let load = |server: &str| {
        let cluster = format!(
            "{{server: '{server}', certificate-authority: ca.crt, \
            tls-server-name: kubernetes}}"
        );
        files.load(&kubeconfig(&cluster, "{}")).unwrap()
    };
    let prefixed = load("https://rancher.example/k8s/clusters/c-1/");
    assert_eq!(prefixed.endpoint().path_prefix(), "/k8s/clusters/c-1");
    assert_eq!(prefixed.endpoint().server_name().to_str(), "kubernetes");
    let six = load("https://[fd00::1]:6443");
    let address = Address::Tcp {
        host: "fd00::1".to_owned(),
        port: 6443,
    };
    assert_eq!(six.endpoint().address(), &address);
    assert_eq!(six.endpoint().authority(), "[fd00::1]:6443");
    let unix = load("unix:///run/kube.sock");
    assert_eq!(
        unix.endpoint().address(),
        &Address::Unix("/run/kube.sock".into())
    );
    assert_eq!(unix.endpoint().authority(), "kubernetes");
}

#[test]
fn insecure_is_possible_only_by_the_kubeconfig_itself() {
    let files = Files::new();
    let cluster = "{server: 'https://hub', insecure-skip-tls-verify: true}";
    files.load(&kubeconfig(cluster, "{}")).unwrap();
    let both = "{server: 'https://hub', insecure-skip-tls-verify: true, \
        certificate-authority: ca.crt}";
    assert_eq!(
        files.error(&kubeconfig(both, "{}")),
        "--hub-kubeconfig kubeconfig: insecure-skip-tls-verify and a certificate-authority \
         exclude each other"
    );
}

#[test]
fn bad_kubeconfig_is_one_line_with_flag_file_and_cause() {
    let files = Files::new();
    let other_key = CertificateAuthority::generate()
        .unwrap()
        .issue(&Leaf::proxy_client())
        .unwrap();
    files.write("other.key", &other_key.key_pem);
    files.write("broken.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let with_user = |user: &str| kubeconfig(CLUSTER, user);
    let with_cluster = |cluster: &str| kubeconfig(cluster, "{}");
    let with_server = |server: &str| {
        with_cluster(&format!(
            "{{server: '{server}', certificate-authority: ca.crt}}"
        ))
    };
    for (text, cause) in [
        (String::new(), "it sets no current-context"),
        ("{}".to_owned(), "it sets no current-context"),
        (
            "current-context: ''".to_owned(),
            "it sets no current-context",
        ),
        (
            "current-context: one".to_owned(),
            "it has no context \"one\"",
        ),
        (
            "current-context: one\ncontexts: null".to_owned(),
            "it has no context \"one\"",
        ),
        (
            "current-context: one\ncontexts: [{name: one, context: {cluster: hub}}]".to_owned(),
            "context \"one\" names the cluster \"hub\", which it does not have",
        ),
        (
            with_user("{}").replace("user: me", "user: you"),
            "context \"one\" names the user \"you\", which it does not have",
        ),
        (with_cluster("{}"), "server \"\": there is none"),
        (
            with_server("hub:6443"),
            "server \"hub:6443\": it must begin with https://",
        ),
        (
            with_server("http://hub"),
            "it must begin with https:// (or unix://)",
        ),
        (with_server("https://"), "not a URL"),
        (with_server("https://hub:99999"), "\"99999\" is no port"),
        (with_server("https://hub:0"), "\"0\" is no port"),
        (with_server("https://hub:"), "\"\" is no port"),
        (
            with_server("https://me:pw@hub"),
            "credentials in it are not supported",
        ),
        (
            with_server("https://hub/?a=b"),
            "a query in it is not supported",
        ),
        (with_server("unix://relative"), "must begin with /"),
        (
            with_cluster(
                "{server: 'https://hub', proxy-url: 'socks5://s3cret@p', certificate-authority: ca.crt}",
            ),
            "proxy-url: SOCKS proxies are not supported: name an http:// or https:// proxy",
        ),
        (
            with_cluster("{server: 'https://hub', certificate-authority: empty}"),
            "CA: no PEM certificate in it",
        ),
        (
            with_cluster("{server: 'https://hub', certificate-authority: broken.crt}"),
            "broken.crt",
        ),
        (
            with_cluster("{server: 'https://hub', certificate-authority-data: '***'}"),
            "certificate-authority-data is not base64",
        ),
        (
            with_user("{client-certificate: tls.crt}"),
            "a client-certificate without a client-key",
        ),
        (
            with_user("{client-key: tls.key}"),
            "a client-key without a client-certificate",
        ),
        (
            with_user("{client-certificate: tls.crt, client-key: other.key}"),
            "the key does not belong to the certificate",
        ),
        (
            with_user("{token: 'two words'}"),
            "token: the bearer token has characters",
        ),
        (
            with_user("{exec: {command: aws}}"),
            "exec plugin, which is not supported",
        ),
        (
            with_user("{auth-provider: {name: gcp}}"),
            "auth-provider is not supported",
        ),
        (
            with_user("{username: u, password: p}"),
            "username and password are not supported",
        ),
        (
            with_user("{as: admin}"),
            "impersonation (as, as-uid, as-groups) is not supported",
        ),
    ] {
        let error = files.error(&text);
        assert!(
            error.starts_with("--hub-kubeconfig kubeconfig: "),
            "{error}"
        );
        assert!(error.contains(cause), "{error:?} does not say {cause:?}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn missing_files_are_named_themselves() {
    let files = Files::new();
    let missing = |cluster: &str, user: &str| files.error(&kubeconfig(cluster, user));
    assert_eq!(
        missing(
            "{server: 'https://hub', certificate-authority: gone.crt}",
            "{}"
        ),
        "--hub-kubeconfig gone.crt: no such file"
    );
    assert_eq!(
        missing(
            CLUSTER,
            "{client-certificate: tls.crt, client-key: gone.key}"
        ),
        "--hub-kubeconfig gone.key: no such file"
    );
    assert_eq!(
        missing(CLUSTER, "{tokenFile: gone}"),
        "--hub-kubeconfig gone: no such file"
    );
    assert_eq!(
        missing(CLUSTER, "{tokenFile: empty}"),
        "--hub-kubeconfig empty: the bearer token is empty"
    );
    let gone = files.directory.path().join("gone");
    let error = Connection::from_kubeconfig(FlagFile::new("--kubeconfig", &gone), None);
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("--kubeconfig {}: no such file", gone.display())
    );
}

#[test]
fn no_error_quotes_a_credential() {
    let files = Files::new();
    for text in [
        "users: [{name: me, user: {token: s3cret, exec: [s3cret]}}]",
        "users: s3cret",
        "users: [{name: me, user: s3cret}]",
        "users: [{name: me, user: {token: {s3cret: s3cret}}}]",
        "users:\n- name: me\n  user:\n    token: s3cret\n   client-key-data: s3cret",
        "\"s3cret",
        "- s3cret",
        "s3cret",
        "current-context: &a [s3cret, *b]",
    ] {
        let error = files.error(text);
        assert!(
            error.starts_with("--hub-kubeconfig kubeconfig: not a kubeconfig"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let bad_token = files
        .load(&kubeconfig(CLUSTER, "{token: 's3cret s3cret'}"))
        .unwrap_err();
    assert!(!format!("{bad_token:?} {bad_token}").contains("s3cret"));
    let connection = files.load(&kubeconfig(CLUSTER, "{token: s3cret}")).unwrap();
    assert!(!format!("{connection:?}").contains("s3cret"));
}
