use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use cluster_proxy_kube_api::names::cluster_agent_user;

use super::*;

const CA: &str = "the CA";
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

fn managed() -> ClusterName {
    "managed".parse().unwrap()
}

/// What OCM's registration agent of cluster `managed` sends, before somebody changes it.
struct Asked {
    cluster: &'static str,
    signer: Signer,
    user: String,
    groups: Vec<String>,
    usages: Vec<&'static str>,
    params: CertificateParams,
    key: KeyPair,
}

impl Asked {
    fn of(signer: Signer) -> Self {
        Self::about(signer, &managed())
    }

    fn about(signer: Signer, subject: &ClusterName) -> Self {
        let registrations = Registrations::new(subject, CA);
        let subject = &registrations.of(signer).subject;
        let mut params = CertificateParams::new(vec![DNS_NAME.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        for (index, organization) in subject.organizations.iter().enumerate() {
            // rcgen keeps one value for each type.
            let kind = match index {
                0 => DnType::OrganizationName,
                _ => DnType::CustomDnType(ORGANIZATION.to_vec()),
            };
            name.push(kind, organization.as_str());
        }
        for unit in &subject.organizational_units {
            name.push(DnType::OrganizationalUnitName, unit.as_str());
        }
        name.push(DnType::CommonName, subject.common_name.as_str());
        Self {
            cluster: "managed",
            signer,
            user: "system:open-cluster-management:managed:agent1".to_owned(),
            groups: [
                "system:open-cluster-management:managed",
                "system:open-cluster-management:managed-clusters",
                "system:authenticated",
            ]
            .map(str::to_owned)
            .to_vec(),
            usages: vec!["digital signature", "key encipherment", "client auth"],
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn asking(self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.with(|asked| change(&mut asked.params))
    }

    fn named(self, change: impl FnOnce(&mut DistinguishedName)) -> Self {
        self.asking(|params| change(&mut params.distinguished_name))
    }

    fn csr(&self) -> CertificateSigningRequest {
        let request = self.params.serialize_request(&self.key).unwrap();
        self.csr_of(request.pem().unwrap().into_bytes())
    }

    fn csr_of(&self, request: Vec<u8>) -> CertificateSigningRequest {
        let labels = [
            (ADDON_NAME_LABEL, ADDON_NAME),
            (CLUSTER_NAME_LABEL, self.cluster),
        ];
        CertificateSigningRequest {
            metadata: ObjectMeta {
                labels: Some(
                    labels
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                groups: Some(self.groups.clone()),
                request: ByteString(request),
                signer_name: self.signer.name().to_owned(),
                usages: Some(self.usages.iter().map(|&it| it.to_owned()).collect()),
                username: Some(self.user.clone()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        }
    }

    fn judge(&self) -> Result<Request, Refusal> {
        judged(&self.csr(), Standing::Member)
    }
}

fn judged(csr: &CertificateSigningRequest, standing: Standing) -> Result<Request, Refusal> {
    let claim = Claim::of(csr).expect("one of the addon's");
    let registrations = Registrations::new(&claim.cluster, CA);
    judge(csr, &claim, standing, &registrations)
}

#[test]
fn what_ocm_sends_is_approved() {
    for signer in Signer::ALL {
        let asked = Asked::of(signer);
        let request = asked.judge().unwrap();
        let key = rcgen::PublicKeyData::subject_public_key_info(&asked.key);
        assert_eq!(request.public_key, key, "{signer:?}");
        let without_names = Asked::of(signer).asking(|params| params.subject_alt_names.clear());
        without_names.judge().unwrap();
    }
}

#[test]
fn what_go_encodes_is_approved() {
    let csr = Asked::of(Signer::KubeClient).csr_of(include_bytes!("ocm-addon-agent.csr").to_vec());
    judged(&csr, Standing::Member).unwrap();
}

#[test]
fn requests_of_others_are_not_looked_at() {
    let csr = Asked::of(Signer::ProxyAgent).csr();
    let changed = |change: &dyn Fn(&mut CertificateSigningRequest)| {
        let mut csr = csr.clone();
        change(&mut csr);
        Claim::of(&csr)
    };
    assert!(changed(&|_| {}).is_some());
    assert_eq!(changed(&|csr| csr.metadata.labels = None), None);
    for (label, value) in [
        (ADDON_NAME_LABEL, "other"),
        (CLUSTER_NAME_LABEL, ""),
        (CLUSTER_NAME_LABEL, "../managed"),
    ] {
        let claim = changed(&|csr| {
            csr.labels_mut().insert(label.to_owned(), value.to_owned());
        });
        assert_eq!(claim, None, "{label}={value}");
    }
    for signer in [
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "example.com/signer",
        "",
    ] {
        let claim = changed(&|csr| csr.spec.signer_name = signer.to_owned());
        assert_eq!(claim, None, "{signer}");
    }
}

#[test]
fn only_members_get_anything() {
    let csr = Asked::of(Signer::ProxyAgent).csr();
    for (standing, refusal) in [
        (Standing::Unknown, Refusal::UnknownCluster),
        (Standing::NotAccepted, Refusal::NotAccepted),
        (Standing::Leaving, Refusal::Leaving),
        (Standing::WithoutAddon, Refusal::WithoutAddon),
    ] {
        assert!(refusal.may_pass());
        assert_eq!(judged(&csr, standing), Err(refusal));
    }
}

#[test]
fn only_the_clusters_own_agent_may_ask() {
    let own = "system:open-cluster-management:managed";
    let addon = cluster_agent_user("managed", "addon-agent");
    for user in [
        // Another cluster, one whose name begins alike, nobody, the bootstrap account.
        "system:open-cluster-management:other:agent1",
        "system:open-cluster-management:managed1:agent1",
        "system:open-cluster-management:manage:agent1",
        "system:open-cluster-management:managed",
        "system:open-cluster-management:managed:",
        "system:open-cluster-management:managed:a:b",
        "xsystem:open-cluster-management:managed:agent1",
        "system:serviceaccount:open-cluster-management:agent-registration-bootstrap",
        "kubernetes-admin",
        "",
        // The identities that the request itself would renew.
        &addon,
        "system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:proxy-agent",
    ] {
        let asked = Asked::of(Signer::ProxyAgent).with(|it| it.user = user.to_owned());
        assert_eq!(asked.judge(), Err(Refusal::Requester(user.to_owned())));
    }
    let asked = Asked::of(Signer::ProxyAgent).with(|it| it.groups.retain(|group| group != own));
    assert!(matches!(asked.judge(), Err(Refusal::Requester(_))));
}

#[test]
fn an_addon_of_a_cluster_named_cluster_is_no_agent() {
    let cluster: ClusterName = "cluster".parse().unwrap();
    let asked = Asked::about(Signer::ProxyAgent, &cluster).with(|it| {
        it.cluster = "cluster";
        it.user = cluster_agent_user("managed", "addon-agent");
        it.groups = vec!["system:open-cluster-management:cluster".to_owned()];
    });
    assert!(matches!(asked.judge(), Err(Refusal::Requester(_))));
}

#[test]
fn another_clusters_subject_is_never_given() {
    for signer in Signer::ALL {
        let asked = Asked::about(signer, &"other".parse().unwrap());
        assert_eq!(asked.judge(), Err(Refusal::CommonName), "{signer:?}");
    }
}

#[test]
fn each_signer_has_its_own_subject() {
    for (asked, signer) in [
        (Signer::ProxyAgent, Signer::ServiceProxy),
        (Signer::ServiceProxy, Signer::ProxyAgent),
        (Signer::KubeClient, Signer::ProxyAgent),
        (Signer::ProxyAgent, Signer::KubeClient),
    ] {
        let asked = Asked::of(asked).with(|it| it.signer = signer);
        assert_eq!(asked.judge(), Err(Refusal::CommonName));
    }
}

#[test]
fn a_subject_has_nothing_more_and_nothing_less() {
    let agent = || Asked::of(Signer::ProxyAgent);
    let value = |text: &str| DnValue::Utf8String(text.to_owned());
    let masters = agent().named(|name| {
        name.push(
            DnType::CustomDnType(ORGANIZATION.to_vec()),
            value("system:masters"),
        );
    });
    assert_eq!(masters.judge(), Err(Refusal::Organizations));
    let repeated = agent().named(|name| {
        let again = value("open-cluster-management:cluster-proxy");
        name.push(DnType::CustomDnType(ORGANIZATION.to_vec()), again);
    });
    assert_eq!(repeated.judge(), Err(Refusal::Organizations));
    let without = agent().named(|name| {
        name.remove(DnType::OrganizationName);
    });
    assert_eq!(without.judge(), Err(Refusal::Organizations));
    let half = Asked::of(Signer::KubeClient).named(|name| {
        name.remove(DnType::OrganizationName);
    });
    assert_eq!(half.judge(), Err(Refusal::Organizations));
    let old_ca = agent().named(|name| name.push(DnType::OrganizationalUnitName, "signer-00"));
    assert_eq!(old_ca.judge(), Err(Refusal::OrganizationalUnits));
    let no_ca = agent().named(|name| {
        name.remove(DnType::OrganizationalUnitName);
    });
    assert_eq!(no_ca.judge(), Err(Refusal::OrganizationalUnits));
    let user_server = agent().named(|name| {
        let name_of_user_server = cluster_proxy_identity::USER_SERVER_COMMON_NAME;
        name.push(DnType::CommonName, name_of_user_server);
    });
    assert_eq!(user_server.judge(), Err(Refusal::CommonName));
    let two_names = agent().named(|name| {
        let second = value("open-cluster-management:cluster-proxy:user-server");
        name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), second);
    });
    let problem = RequestProblem::CommonNames { count: 2 };
    assert_eq!(two_names.judge(), Err(problem.into()));
    let nameless = agent().named(|name| {
        name.remove(DnType::CommonName);
    });
    let problem = RequestProblem::CommonNames { count: 0 };
    assert_eq!(nameless.judge(), Err(problem.into()));
    for kind in [
        DnType::CountryName,
        DnType::LocalityName,
        DnType::CustomDnType(vec![2, 5, 4, 5]),
        DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 1]),
    ] {
        let asked = agent().named(|name| name.push(kind, "x"));
        let problem = asked.judge().unwrap_err();
        let is_attribute = matches!(
            problem,
            Refusal::Request(RequestProblem::SubjectAttribute { .. })
        );
        assert!(is_attribute, "{problem}");
    }
    let bmp = agent().named(|name| {
        let text = rcgen::string::BmpString::try_from("x").unwrap();
        name.push(DnType::OrganizationName, DnValue::BmpString(text));
    });
    assert_eq!(bmp.judge(), Err(RequestProblem::SubjectEncoding.into()));
}

#[test]
fn no_other_name_is_given() {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let host = cluster_proxy_identity::TunnelHost::of(&managed());
    let other = cluster_proxy_identity::TunnelHost::of(&"other".parse().unwrap());
    for names in [
        vec![dns("kubernetes.default.svc")],
        vec![dns(host.as_str())],
        vec![dns(other.as_str())],
        vec![dns("*")],
        vec![dns(DNS_NAME), dns(DNS_NAME)],
        vec![dns(DNS_NAME), dns("x")],
        vec![dns("Cluster-Proxy.addon.open-cluster-management.io")],
    ] {
        let asked = Asked::of(Signer::ServiceProxy).asking(|it| it.subject_alt_names = names);
        assert_eq!(asked.judge(), Err(Refusal::AlternativeNames));
    }
    for name in [
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::URI("spiffe://x/y".try_into().unwrap()),
        SanType::Rfc822Name("a@example.com".try_into().unwrap()),
    ] {
        let asked = Asked::of(Signer::ServiceProxy).asking(|it| it.subject_alt_names.push(name));
        assert_eq!(asked.judge(), Err(RequestProblem::AlternativeName.into()));
    }
}

#[test]
fn no_extension_is_taken_up() {
    let agent = || Asked::of(Signer::ProxyAgent);
    let hostile = [
        agent().asking(|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        agent().asking(|it| it.is_ca = IsCa::ExplicitNoCa),
        agent().asking(|it| it.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        agent().asking(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        agent().asking(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        agent().asking(|it| {
            let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99], vec![5, 0]);
            it.custom_extensions = vec![extension];
        }),
    ];
    for asked in hostile {
        let refusal = asked.judge().unwrap_err();
        let is_extension = matches!(refusal, Refusal::Request(RequestProblem::Extension { .. }));
        assert!(is_extension, "{refusal}");
    }
}

#[test]
fn only_a_clients_usages_are_given() {
    for usages in [
        vec![],
        vec!["digital signature", "key encipherment"],
        vec!["client auth", "server auth"],
        vec!["client auth", "cert sign"],
        vec!["any"],
        vec!["Client Auth"],
    ] {
        let asked = Asked::of(Signer::KubeClient).with(|it| it.usages = usages);
        assert!(matches!(asked.judge(), Err(Refusal::Usages(_))));
    }
    let asked = Asked::of(Signer::KubeClient).with(|it| it.usages.retain(|it| *it != USAGES[2]));
    asked.judge().unwrap();
}

#[test]
fn a_request_is_signed_with_its_own_usual_key() {
    let asked = Asked::of(Signer::ProxyAgent);
    let request = asked.params.serialize_request(&asked.key).unwrap();
    let mut der = request.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let csr = asked.csr_of(pem(&der));
    let refused = judged(&csr, Standing::Member);
    assert_eq!(refused, Err(RequestProblem::Signature.into()));

    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
    let asked = Asked::of(Signer::ProxyAgent).with(|it| it.key = rsa(RsaKeySize::_2048));
    asked.judge().unwrap();
    let weak = include_bytes!("rsa-1024.csr").to_vec();
    let refused = judged(&asked.csr_of(weak), Standing::Member);
    assert_eq!(refused, Err(RequestProblem::Key.into()));
}

#[test]
fn broken_requests_are_refused() {
    let asked = Asked::of(Signer::ProxyAgent);
    let der = asked
        .params
        .serialize_request(&asked.key)
        .unwrap()
        .der()
        .to_vec();
    let whole = pem(&der);
    let twice = [whole.clone(), whole.clone()].concat();
    let before = [b"hello\n".to_vec(), whole.clone()].concat();
    let certificate = String::from_utf8(whole)
        .unwrap()
        .replace("CERTIFICATE REQUEST", "CERTIFICATE");
    for request in [
        Vec::new(),
        b"hello".to_vec(),
        der.clone(),
        twice,
        before,
        certificate.into_bytes(),
    ] {
        let refused = judged(&asked.csr_of(request), Standing::Member);
        assert_eq!(refused, Err(RequestProblem::NotPem.into()));
    }
    for end in [0, 1, 20, der.len() / 2, der.len() - 1] {
        let refused = judged(&asked.csr_of(pem(&der[..end])), Standing::Member);
        assert!(matches!(refused, Err(Refusal::Request(_))), "{end}");
    }
    let longer = [der, vec![0]].concat();
    let refused = judged(&asked.csr_of(pem(&longer)), Standing::Member);
    assert_eq!(refused, Err(RequestProblem::NotARequest.into()));
}

#[test]
fn no_change_on_the_way_changes_what_is_given() {
    let asked = Asked::of(Signer::ProxyAgent);
    let request = asked.params.serialize_request(&asked.key).unwrap();
    let given = asked.judge().unwrap();
    let der = request.der();
    for index in 0..der.len() {
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut der = der.to_vec();
            der[index] ^= change;
            if let Ok(request) = judged(&asked.csr_of(pem(&der)), Standing::Member) {
                assert_eq!(request, given, "byte {index}");
            }
        }
    }
}

#[test]
fn a_challenge_password_is_refused() {
    let csr = Asked::of(Signer::ProxyAgent).csr_of(include_bytes!("challenge.csr").to_vec());
    let refused = judged(&csr, Standing::Member);
    let is_attribute = matches!(
        refused,
        Err(Refusal::Request(RequestProblem::Attribute { .. }))
    );
    assert!(is_attribute, "{refused:?}");
}

fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap());
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE REQUEST-----\n");
    pem.into_bytes()
}
