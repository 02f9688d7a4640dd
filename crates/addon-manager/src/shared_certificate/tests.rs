use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_identity::certificate::CertificateFacts;
use serde_json::{Value, json};

use super::*;
use crate::fleet_testing::Fleet;
use crate::testing::{NAMESPACE, soon};

fn keep_ca(fleet: &Fleet, ca: &CertificateAuthority) {
    fleet.hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cluster-proxy-signer", "namespace": NAMESPACE},
        "data": {
            "ca.crt": STANDARD.encode(ca.cert_pem()), "ca.key": STANDARD.encode(ca.key_pem()),
        },
    }));
}

fn facts(secret: &Value, field: &str) -> CertificateFacts {
    let text = secret["data"][field].as_str().unwrap();
    CertificateFacts::of_pem(&STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn the_certificate_follows_the_ca() {
    let fleet = Fleet::start().await;
    let mut context = Context::clone(&fleet.context);
    context.config.duty = Duty::SharedCertificate {
        namespace: NAMESPACE.to_owned(),
    };
    let running = tokio::spawn(run(Arc::new(context)));
    let secret = || fleet.hub.secret("cluster-proxy-service-proxy-server-cert");
    let ca = CertificateAuthority::generate().unwrap();
    keep_ca(&fleet, &ca);
    let made = soon("the certificate", secret).await;
    assert_eq!(made["type"], "kubernetes.io/tls");
    let certificate = facts(&made, "tls.crt");
    let sans = [
        "*",
        "*.open-cluster-management.proxy",
        "127.0.0.1",
        "localhost",
    ];
    assert!(certificate.sans.iter().eq(sans), "{certificate:?}");
    assert!(certificate.server && !certificate.client);
    let signer = CertificateFacts::of_pem(ca.cert_pem().as_bytes()).unwrap();
    assert!(certificate.is_signed_by(&signer));
    let days = certificate
        .not_after
        .duration_since(SystemTime::now())
        .unwrap()
        .as_secs()
        / 86_400;
    assert!((179..=180).contains(&days), "{days}");
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "ManagedProxyConfiguration");

    let other = CertificateAuthority::generate().unwrap();
    keep_ca(&fleet, &other);
    let signer = CertificateFacts::of_pem(other.cert_pem().as_bytes()).unwrap();
    soon("the other CA's", || {
        facts(&secret()?, "tls.crt")
            .is_signed_by(&signer)
            .then_some(())
    })
    .await;
    let kube = &fleet.hub.kube;
    kube.delete(
        "v1",
        "Secret",
        NAMESPACE,
        "cluster-proxy-service-proxy-server-cert",
    )
    .unwrap();
    soon("the certificate again", secret).await;

    // A CA that cannot be used changes nothing, and a person is told.
    fleet.keep_events();
    let before = secret().unwrap();
    fleet.hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cluster-proxy-signer", "namespace": NAMESPACE},
        "data": {"ca.crt": "aGFsZg==", "ca.key": ""},
    }));
    fleet.event("default", "CertificateAuthorityUnusable").await;
    assert_eq!(secret().unwrap(), before);
    running.abort();
}
