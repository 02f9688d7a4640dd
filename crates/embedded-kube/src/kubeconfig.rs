//! Kubeconfig files, with everything inline.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cluster_proxy_identity::ca::Issued;

/// How the user of a kubeconfig proves itself.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Issued),
    Token(&'a str),
}

/// A kubeconfig whose only context is named like the cluster.
pub(crate) fn kubeconfig(
    name: &str,
    user: &str,
    server: &str,
    ca_pem: &str,
    credentials: &Credentials<'_>,
) -> String {
    let encode = |pem: &str| BASE64_STANDARD.encode(pem);
    let credentials = match credentials {
        Credentials::Certificate(issued) => format!(
            "    client-certificate-data: {}\n    client-key-data: {}",
            encode(&issued.cert_pem),
            encode(&issued.key_pem)
        ),
        Credentials::Token(token) => format!("    token: {}", quoted(token)),
    };
    let (name, user, server) = (quoted(name), quoted(user), quoted(server));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
{credentials}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {user}
current-context: {name}
",
        ca = encode(ca_pem)
    )
}

/// A JSON string is a YAML string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_kubeconfig_is_yaml() {
        let text = kubeconfig(
            "managed: 1",
            "admin",
            "https://127.0.0.1:6443",
            "PEM",
            &Credentials::Token("abc"),
        );
        let parsed: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(parsed["current-context"], "managed: 1");
        assert_eq!(parsed["users"][0]["user"]["token"], "abc");
        let cluster = &parsed["clusters"][0]["cluster"];
        assert_eq!(cluster["certificate-authority-data"], "UEVN");
    }
}
