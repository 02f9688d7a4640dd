use serde_json::json;

use super::*;
use crate::testing::{Hub, NAMESPACE};

fn wanted(sans: &[&str]) -> Wanted {
    let sans = sans.iter().map(|san| (*san).to_owned()).collect();
    Wanted::new("proxy-server", "proxy-server", Leaf::server(sans))
}

#[tokio::test]
async fn is_renewed_when_it_should_say_something_else() {
    let hub = Hub::start().await;
    let context = hub.context("a");
    let ca = CertificateAuthority::generate().unwrap();
    let ensure = async |ca: &CertificateAuthority, wanted: &Wanted| {
        ensure(&context, NAMESPACE, ca, wanted, ObjectMeta::default()).await
    };
    let first = ensure(&ca, &wanted(&["localhost", "::1"])).await.unwrap();
    assert!(first.renewed);
    let kept = hub.secret("proxy-server").unwrap();
    assert_eq!(kept["type"], "kubernetes.io/tls");

    let second = ensure(&ca, &wanted(&["::1", "localhost"])).await;
    let second = second.unwrap();
    // The common name is the first name, so another order is another certificate.
    assert!(second.renewed);
    let kept = hub.secret("proxy-server").unwrap();
    let third = ensure(&ca, &wanted(&["::1", "localhost"])).await.unwrap();
    assert!(!third.renewed);
    assert_eq!(third.expires, second.expires);
    assert_eq!(hub.secret("proxy-server").unwrap(), kept);

    let more = ensure(&ca, &wanted(&["::1", "localhost", "lb.example.com"])).await;
    assert!(more.unwrap().renewed);
    let other_ca = CertificateAuthority::generate().unwrap();
    let other = ensure(&other_ca, &wanted(&["::1", "localhost", "lb.example.com"])).await;
    assert!(other.unwrap().renewed);

    let refused = ensure(&ca, &wanted(&["näme"])).await.unwrap_err();
    assert!(
        matches!(refused, CertificateFailure::Issue { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_secret_of_another_kind_or_keeper_is_respected() {
    let hub = Hub::start().await;
    let context = hub.context("a");
    let ca = CertificateAuthority::generate().unwrap();
    hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "proxy-server", "namespace": NAMESPACE},
    }));
    let wanted = wanted(&["localhost"]);
    let metadata = ObjectMeta::default;
    let signed = ensure(&context, NAMESPACE, &ca, &wanted, metadata()).await;
    assert!(signed.unwrap().renewed);
    let kept = hub.secret("proxy-server").unwrap();
    assert_eq!(kept["type"], "Opaque");
    assert!(kept["data"]["tls.crt"].is_string());

    let mut theirs = kept;
    theirs["metadata"]["annotations"] = json!({CERT_MANAGER_ANNOTATION: "user"});
    theirs["data"]["tls.crt"] = json!("dGhlaXJz");
    hub.apply(theirs);
    let theirs = hub.secret("proxy-server").unwrap();
    let failure = ensure(&context, NAMESPACE, &ca, &wanted, metadata()).await;
    let failure = failure.unwrap_err();
    assert!(failure.to_string().contains("cert-manager"), "{failure}");
    assert_eq!(hub.secret("proxy-server").unwrap(), theirs);
}

#[test]
fn the_certificate_that_upstreams_service_proxies_share_can_be_issued() {
    let ca = CertificateAuthority::generate().unwrap();
    let wanted = shared_service_proxy();
    let issued = ca.issue(&wanted.leaf).unwrap();
    let facts = CertificateFacts::of_pem(issued.cert_pem.as_bytes()).unwrap();
    assert!(facts.says(&wanted.leaf));
    assert!(facts.sans.contains("*.open-cluster-management.proxy"));
}

#[test]
fn is_renewed_in_good_time() {
    let ca = CertificateAuthority::generate().unwrap();
    let wanted = wanted(&["localhost"]);
    let issued = ca.issue(&wanted.leaf).unwrap();
    let secret = |issued: &Issued| Secret {
        data: Some(data(issued, &ca)),
        ..Secret::default()
    };
    let reason = |secret: &Secret, after: Duration| match judge(
        Some(secret),
        &wanted,
        &ca,
        SystemTime::now() + after,
    ) {
        Verdict::Serves(_) => None,
        Verdict::Issue(reason) => Some(reason),
    };
    let day = Duration::from_hours(24);
    let kept = secret(&issued);
    assert_eq!(reason(&kept, Duration::ZERO), None);
    assert_eq!(reason(&kept, 119 * day), None);
    assert_eq!(reason(&kept, 121 * day), Some(Reason::Due));
    assert_eq!(reason(&kept, 200 * day), Some(Reason::Due));
    let mut mixed = ca.issue(&wanted.leaf).unwrap();
    mixed.key_pem = issued.key_pem;
    assert_eq!(
        reason(&secret(&mixed), Duration::ZERO),
        Some(Reason::Damaged)
    );
    assert_eq!(
        reason(&Secret::default(), Duration::ZERO),
        Some(Reason::Damaged)
    );
}
