use cluster_proxy_identity::{PeerIdentity, ProvenAgent, TunnelHost};
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use kube::api::PostParams;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::fleet_testing::{Fleet, SHORT};
use crate::testing::soon;

/// The hub as the registration agent of `cluster` sees it.
fn agent(fleet: &Fleet, cluster: &str) -> kube::Client {
    let group = format!("system:open-cluster-management:{cluster}");
    let hub = &fleet.hub;
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "registration"},
            "rules": [{
                "apiGroups": ["certificates.k8s.io"],
                "resources": ["certificatesigningrequests"],
                "verbs": ["create", "get"],
            }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("registration-{cluster}")},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "registration",
            },
            "subjects": [{
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group,
            }],
        }),
    ] {
        hub.apply(object);
    }
    let user = format!("{group}:agent1");
    let issued = hub.kube.client_certificate(&user, vec![group]).unwrap();
    let cluster_proxy_embedded_kube::LocalAddress::Tcp(address) = hub.kube.local_address() else {
        panic!("it listens on TCP");
    };
    let parts = ConnectionParts {
        address: Address::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        },
        server_name: "localhost".to_owned(),
        ca: hub.kube.ca_pem().as_bytes().to_vec(),
        client_certificate: Some((issued.cert_pem.into_bytes(), issued.key_pem.into_bytes())),
        token: TokenSource::none(),
    };
    Connection::from_parts(parts).unwrap().client()
}

/// What OCM asks for `cluster`, made by `client`.
async fn asked(fleet: &Fleet, client: &kube::Client, cluster: &str, signer: Signer) -> String {
    let ca = fleet.context.ca.current().unwrap();
    let registrations = Registrations::new(&cluster.parse().unwrap(), ca.cert_pem());
    let subject = &registrations.of(signer).subject;
    let name = "cluster-proxy.addon.open-cluster-management.io";
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let kinds = [
        DnType::OrganizationName,
        DnType::CustomDnType(vec![2, 5, 4, 10]),
    ];
    for (kind, organization) in kinds.into_iter().zip(&subject.organizations) {
        params.distinguished_name.push(kind, organization.as_str());
    }
    for unit in &subject.organizational_units {
        let kind = DnType::OrganizationalUnitName;
        params.distinguished_name.push(kind, unit.as_str());
    }
    let common_name = subject.common_name.as_str();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let request = params.serialize_request(&KeyPair::generate().unwrap());
    let request = ByteString(request.unwrap().pem().unwrap().into_bytes());
    let csr: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("addon-{cluster}-cluster-proxy-"),
            "labels": {
                "open-cluster-management.io/cluster-name": cluster,
                "open-cluster-management.io/addon-name": "cluster-proxy",
            },
        },
        "spec": {
            "request": request,
            "signerName": signer.name(),
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    }))
    .unwrap();
    let created = Api::all(client.clone())
        .create(&PostParams::default(), &csr)
        .await
        .unwrap();
    created.name_any()
}

/// What the agent of `managed` asks for its proxy-agent: the name of the request.
pub(crate) async fn asked_by_an_agent(fleet: &Fleet) -> String {
    let agent = agent(fleet, "managed");
    asked(fleet, &agent, "managed", Signer::ProxyAgent).await
}

fn csr(fleet: &Fleet, name: &str) -> Value {
    let kube = &fleet.hub.kube;
    kube.get(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "",
        name,
    )
    .unwrap()
}

fn is_approved(csr: &Value) -> bool {
    csr["status"]["conditions"][0]["type"] == "Approved"
}

fn certificate(csr: &Value) -> Option<Vec<u8>> {
    let text = csr["status"]["certificate"].as_str()?;
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    Some(engine.decode(text).unwrap())
}

#[tokio::test]
async fn what_is_signed_says_what_was_registered() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let agent = agent(&fleet, "managed");
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));

    let name = asked(&fleet, &agent, "managed", Signer::ProxyAgent).await;
    let pem = soon("the agent's certificate", || {
        certificate(&csr(&fleet, &name))
    })
    .await;
    let cluster: ClusterName = "managed".parse().unwrap();
    let proven = ProvenAgent {
        cluster: cluster.clone(),
    };
    assert_eq!(PeerIdentity::of_pem(&pem), PeerIdentity::Agent(proven));
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let (_, leaf) = X509Certificate::from_der(&block.contents).unwrap();
    assert!(leaf.subject_alternative_name().unwrap().is_none());
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let validity = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(validity / 86400, 180);
    assert_eq!(leaf.subject().iter_organizational_unit().count(), 1);
    assert!(
        fleet
            .addon("managed")
            .annotations()
            .contains_key(CERTIFICATE_ANNOTATION)
    );

    let name = asked(&fleet, &agent, "managed", Signer::ServiceProxy).await;
    let pem = soon("the server's certificate", || {
        certificate(&csr(&fleet, &name))
    })
    .await;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let (_, leaf) = X509Certificate::from_der(&block.contents).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    let host = TunnelHost::of(&cluster);
    assert_eq!(
        names.general_names,
        [x509_parser::extensions::GeneralName::DNSName(host.as_str())]
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);

    let name = asked(&fleet, &agent, "managed", Signer::KubeClient).await;
    soon("the approval", || {
        is_approved(&csr(&fleet, &name)).then_some(())
    })
    .await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(certificate(&csr(&fleet, &name)), None);
    running.abort();
}

#[tokio::test]
async fn a_cluster_gets_its_certificate_once_it_is_accepted() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    fleet.accept("managed", false);
    let agent = agent(&fleet, "managed");
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    let name = asked(&fleet, &agent, "managed", Signer::ProxyAgent).await;
    tokio::time::sleep(SHORT).await;
    assert!(csr(&fleet, &name)["status"].get("conditions").is_none());
    fleet.accept("managed", true);
    soon("the certificate", || certificate(&csr(&fleet, &name))).await;
    running.abort();
}

#[tokio::test]
async fn another_clusters_agent_gets_nothing() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    fleet.join("other").await;
    let other = agent(&fleet, "other");
    let requests = Api::<CertificateSigningRequest>::all(fleet.context.client.clone());
    for signer in Signer::ALL {
        let name = asked(&fleet, &other, "managed", signer).await;
        let read = Arc::new(requests.get(&name).await.unwrap());
        let user = read.spec.username.as_deref();
        assert_eq!(user, Some("system:open-cluster-management:other:agent1"));
        reconcile(read, Arc::clone(&fleet.context)).await.unwrap();
        assert!(csr(&fleet, &name)["status"].get("conditions").is_none());

        // What an administrator approves by mistake is not signed all the same.
        let read = requests.get(&name).await.unwrap();
        approve(&requests, &read).await.unwrap();
        let read = Arc::new(requests.get(&name).await.unwrap());
        reconcile(read, Arc::clone(&fleet.context)).await.unwrap();
        let after = csr(&fleet, &name);
        assert!(is_approved(&after) && certificate(&after).is_none());
    }
}

#[tokio::test]
async fn an_outdated_view_changes_nothing() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let agent = agent(&fleet, "managed");
    let requests = Api::<CertificateSigningRequest>::all(fleet.context.client.clone());
    let name = asked(&fleet, &agent, "managed", Signer::ProxyAgent).await;
    let before = Arc::new(requests.get(&name).await.unwrap());
    let context = || Arc::clone(&fleet.context);
    reconcile(Arc::clone(&before), context()).await.unwrap();
    // The same again, as another manager would that has not seen the approval yet.
    let action = reconcile(before, context()).await.unwrap();
    assert_eq!(action, Action::requeue(AFTER_CONFLICT));
    let approved = Arc::new(requests.get(&name).await.unwrap());
    assert_eq!(
        approved
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap()
            .len(),
        1
    );
    reconcile(Arc::clone(&approved), context()).await.unwrap();
    let signed = certificate(&csr(&fleet, &name)).unwrap();
    reconcile(approved, context()).await.unwrap();
    let read = Arc::new(requests.get(&name).await.unwrap());
    reconcile(read, context()).await.unwrap();
    assert_eq!(certificate(&csr(&fleet, &name)).unwrap(), signed);
}
