//! Requests of which one thing is wrong, and what the manager says about each.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CustomExtension, DnType, IsCa, KeyUsagePurpose, SanType, string::Ia5String,
};

use super::request::{
    ADDON_GROUP, Asked, Key, OCM_DNS_NAME, Signer, WeakKey, another_organization,
};
use super::requester::Requester;
use crate::other_cluster::{NOT_ACCEPTED, OTHER, WITHOUT_ADDON};

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) who: Requester,
    pub(super) asked: Asked,
    /// In the manager's log, about this request.
    pub(super) told: &'static str,
}

/// All of them, for one signer.
pub(super) fn cases(signer: Signer, unit: &str) -> Result<Vec<Case>> {
    let asked = || Asked::of(signer, MANAGED, unit);
    let by_agent = |name, told, asked| Case {
        name,
        who: Requester::Agent,
        asked,
        told,
    };
    let mut cases = Vec::new();
    subjects(&mut cases, signer, unit, &by_agent)?;
    let names: [(&str, &str, Vec<SanType>); 7] = [
        (
            "another-dns-name",
            NAMES,
            vec![dns("kubernetes.default.svc")?],
        ),
        (
            "one-more-dns-name",
            NAMES,
            vec![dns(OCM_DNS_NAME)?, dns("localhost")?],
        ),
        ("tunnel-host", NAMES, vec![dns(&tunnel_host(OTHER)?)?]),
        ("wildcard", NAMES, vec![dns("*")?]),
        (
            "ip-address",
            NO_DNS_NAME,
            vec![
                dns(OCM_DNS_NAME)?,
                SanType::IpAddress([127, 0, 0, 1].into()),
            ],
        ),
        (
            "uri",
            NO_DNS_NAME,
            vec![
                dns(OCM_DNS_NAME)?,
                SanType::URI(text("spiffe://hub/user-server")?),
            ],
        ),
        (
            "email",
            NO_DNS_NAME,
            vec![
                dns(OCM_DNS_NAME)?,
                SanType::Rfc822Name(text("admin@example.com")?),
            ],
        ),
    ];
    for (name, told, names) in names {
        let changed = asked()?.with(|it| it.params.subject_alt_names = names);
        cases.push(by_agent(name, told, changed));
    }
    let usages: [(&str, Vec<&'static str>); 4] = [
        (
            "server-auth",
            vec![
                "digital signature",
                "key encipherment",
                "client auth",
                "server auth",
            ],
        ),
        (
            "server-auth-alone",
            vec!["digital signature", "key encipherment", "server auth"],
        ),
        ("any-usage", vec!["client auth", "any"]),
        ("cert-sign", vec!["client auth", "cert sign"]),
    ];
    for (name, usages) in usages {
        cases.push(by_agent(
            name,
            "asks for usages",
            asked()?.with(|it| it.usages = usages),
        ));
    }
    let ca = asked()?.with(|it| it.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    cases.push(by_agent("ca", EXTENSION, ca));
    let key_usage = asked()?.with(|it| it.params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    cases.push(by_agent("key-usage", EXTENSION, key_usage));
    // Netscape's certificate type, which says CA as well.
    let old = CustomExtension::from_oid_content(&[2, 16, 840, 1, 113_730, 1, 1], vec![3, 2, 0, 7]);
    let old = asked()?.with(|it| it.params.custom_extensions = vec![old]);
    cases.push(by_agent("another-extension", EXTENSION, old));
    let weak = asked()?.with_key(Key::Weak(WeakKey::generate()?));
    cases.push(by_agent("rsa-1024", "the key is neither", weak));
    requesters(&mut cases, signer, unit)?;
    Ok(cases)
}

fn subjects(
    cases: &mut Vec<Case>,
    signer: Signer,
    unit: &str,
    by_agent: &impl Fn(&'static str, &'static str, Asked) -> Case,
) -> Result<()> {
    let asked = || Asked::of(signer, MANAGED, unit);
    let mut common_name = |case: &'static str, name: String| -> Result<()> {
        let changed = asked()?.named(|it| it.push(DnType::CommonName, name));
        cases.push(by_agent(case, "the common name is not", changed));
        Ok(())
    };
    common_name("another-clusters-name", signer.common_name(OTHER))?;
    let user_server = "open-cluster-management:cluster-proxy:user-server";
    common_name("user-server", user_server.to_owned())?;
    common_name(
        "klusterlet",
        "system:open-cluster-management:managed:agent".to_owned(),
    )?;
    for another in Signer::ALL.into_iter().filter(|it| *it != signer) {
        let name = match another {
            Signer::KubeClient => "subject-of-kube-client",
            Signer::ProxyAgent => "subject-of-proxy-agent",
            Signer::ServiceProxy => "subject-of-service-proxy",
        };
        let mut changed = Asked::of(another, MANAGED, unit)?;
        changed.signer = signer;
        cases.push(by_agent(name, "the common name is not", changed));
    }
    // system:masters is what the kube-apiserver itself refuses.
    let third = asked()?.named(|it| {
        it.remove(DnType::OrganizationName);
        it.push(another_organization(), ADDON_GROUP);
        it.push(
            DnType::OrganizationName,
            "system:open-cluster-management:other",
        );
    });
    cases.push(by_agent(
        "another-organization",
        "the organizations are not",
        third,
    ));
    let fewer = asked()?.named(|it| {
        it.remove(DnType::OrganizationName);
    });
    cases.push(by_agent(
        "organization-missing",
        "the organizations are not",
        fewer,
    ));
    let another = asked()?.named(|it| it.push(DnType::OrganizationalUnitName, "signer-00"));
    cases.push(by_agent(
        "another-unit",
        "the organizational units are not",
        another,
    ));
    if signer != Signer::KubeClient {
        let none = asked()?.named(|it| {
            it.remove(DnType::OrganizationalUnitName);
        });
        cases.push(by_agent(
            "unit-missing",
            "the organizational units are not",
            none,
        ));
    }
    let country = asked()?.named(|it| it.push(DnType::CountryName, "DE"));
    cases.push(by_agent("country", "the subject has an attribute", country));
    Ok(())
}

/// Nothing is wrong with these but who asks, or for which cluster.
fn requesters(cases: &mut Vec<Case>, signer: Signer, unit: &str) -> Result<()> {
    let of = |cluster: &str| Asked::of(signer, cluster, unit);
    let agent_of = |cluster: &str| Requester::agent_of(cluster);
    let for_other = of(MANAGED)?.with(|it| OTHER.clone_into(&mut it.cluster));
    let whole = of(OTHER)?;
    let mut push = |name, who, asked, told| {
        cases.push(Case {
            name,
            who,
            asked,
            told,
        });
    };
    push(
        "label-of-another-cluster",
        Requester::Agent,
        for_other,
        NOT_OWN,
    );
    push("all-of-another-cluster", Requester::Agent, whole, NOT_OWN);
    push(
        "by-another-clusters-agent",
        agent_of(OTHER),
        of(MANAGED)?,
        NOT_OWN,
    );
    let addon = |cluster| Requester::addon_agent_of(cluster);
    push(
        "renewal-by-the-addon",
        addon(MANAGED),
        of(MANAGED)?,
        NOT_OWN,
    );
    push(
        "renewal-by-another-addon",
        addon(OTHER),
        of(MANAGED)?,
        NOT_OWN,
    );
    push("bootstrap", Requester::Bootstrap, of(MANAGED)?, NOT_OWN);
    push(
        "administrator",
        Requester::Administrator,
        of(MANAGED)?,
        NOT_OWN,
    );
    let without_group = Requester::without_group(MANAGED);
    push("name-without-group", without_group, of(MANAGED)?, NOT_OWN);
    push(
        "not-accepted",
        agent_of(NOT_ACCEPTED),
        of(NOT_ACCEPTED)?,
        "is not accepted",
    );
    push(
        "without-addon",
        agent_of(WITHOUT_ADDON),
        of(WITHOUT_ADDON)?,
        "has no addon",
    );
    push(
        "unknown-cluster",
        agent_of("nobody"),
        of("nobody")?,
        "no such managed cluster",
    );
    Ok(())
}

fn dns(name: &str) -> Result<SanType> {
    Ok(SanType::DnsName(text(name)?))
}

fn text(text: &str) -> Result<Ia5String> {
    Ok(text.try_into()?)
}

fn tunnel_host(cluster: &str) -> Result<String> {
    Ok(cluster_proxy_identity::TunnelHost::of(&cluster.parse()?).to_string())
}

const MANAGED: &str = "managed";
const NAMES: &str = "asks for other alternative names";
const NO_DNS_NAME: &str = "alternative name that is no DNS name";
const EXTENSION: &str = "asks for extension";
const NOT_OWN: &str = "is not the managed cluster's own registration agent";
