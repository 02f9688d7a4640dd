//! A certificate request as OCM's registration agent makes it, before a test changes one thing.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use serde_json::{Value, json};

/// Every request of these tests bears it.
pub(super) const TEST_LABEL: &str = "cluster-proxy-test";

/// The one DNS name that OCM puts into every request of the addon.
pub(super) const OCM_DNS_NAME: &str = "cluster-proxy.addon.open-cluster-management.io";

/// The group of all agents.
pub(super) const ADDON_GROUP: &str = "open-cluster-management:cluster-proxy";

const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// Who is asked to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    KubeClient,
    ProxyAgent,
    ServiceProxy,
}

impl Signer {
    pub(super) const ALL: [Self; 3] = [Self::KubeClient, Self::ProxyAgent, Self::ServiceProxy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KubeClient => "kubernetes.io/kube-apiserver-client",
            Self::ProxyAgent => "open-cluster-management.io/proxy-agent-signer",
            Self::ServiceProxy => "open-cluster-management.io/service-proxy-signer",
        }
    }

    /// In names of objects.
    pub(super) fn short(self) -> &'static str {
        match self {
            Self::KubeClient => "kube-client",
            Self::ProxyAgent => "proxy-agent",
            Self::ServiceProxy => "service-proxy",
        }
    }

    pub(super) fn common_name(self, cluster: &str) -> String {
        let agent = match self {
            Self::KubeClient => "addon-agent",
            other => other.short(),
        };
        format!(
            "system:open-cluster-management:cluster:{cluster}:addon:cluster-proxy:agent:{agent}"
        )
    }

    pub(super) fn organizations(self, cluster: &str) -> Vec<String> {
        let own = format!("system:open-cluster-management:cluster:{cluster}:addon:cluster-proxy");
        let all = ADDON_GROUP.to_owned();
        match self {
            Self::KubeClient => vec![own, all],
            Self::ProxyAgent | Self::ServiceProxy => vec![all],
        }
    }
}

/// What is asked for: at first what is registered, for a cluster and signer.
pub(super) struct Asked {
    pub(super) signer: Signer,
    /// What the label says.
    pub(super) cluster: String,
    pub(super) usages: Vec<&'static str>,
    pub(super) expiration_seconds: Option<u32>,
    pub(super) params: CertificateParams,
    pub(super) key: Key,
}

impl Asked {
    /// `unit` is the organizational unit that is registered with the addon's own signers.
    pub(super) fn of(signer: Signer, cluster: &str, unit: &str) -> Result<Self> {
        let mut params = CertificateParams::new(vec![OCM_DNS_NAME.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        for (index, organization) in signer.organizations(cluster).into_iter().enumerate() {
            let kind = match index {
                0 => DnType::OrganizationName,
                _ => another_organization(),
            };
            name.push(kind, organization);
        }
        if signer != Signer::KubeClient {
            name.push(DnType::OrganizationalUnitName, unit);
        }
        name.push(DnType::CommonName, signer.common_name(cluster));
        Ok(Self {
            signer,
            cluster: cluster.to_owned(),
            usages: vec!["digital signature", "key encipherment", "client auth"],
            expiration_seconds: None,
            params,
            key: Key::Usual(KeyPair::generate()?),
        })
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn with_key(self, key: Key) -> Self {
        self.with(|asked| asked.key = key)
    }

    pub(super) fn named(self, change: impl FnOnce(&mut DistinguishedName)) -> Self {
        self.with(|asked| change(&mut asked.params.distinguished_name))
    }

    /// The object called `name`.
    pub(super) fn manifest(&self, name: &str) -> Result<Value> {
        let request = match &self.key {
            Key::Usual(key) => self.params.serialize_request(key)?,
            Key::Weak(key) => self.params.serialize_request(key)?,
        };
        let mut spec = json!({
            "request": STANDARD.encode(request.pem()?),
            "signerName": self.signer.name(),
            "usages": self.usages,
        });
        if let Some(seconds) = self.expiration_seconds {
            spec["expirationSeconds"] = json!(seconds);
        }
        Ok(json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {
                "name": name,
                "labels": {
                    "open-cluster-management.io/addon-name": "cluster-proxy",
                    "open-cluster-management.io/cluster-name": self.cluster,
                    TEST_LABEL: "",
                },
            },
            "spec": spec,
        }))
    }

    /// The asked key, as a certificate for it must hold it.
    pub(super) fn public_key(&self) -> Vec<u8> {
        match &self.key {
            Key::Usual(key) => key.subject_public_key_info(),
            Key::Weak(key) => key.subject_public_key_info(),
        }
    }
}

/// rcgen keeps one value for each type, and this one is another to it.
pub(super) fn another_organization() -> DnType {
    DnType::CustomDnType(ORGANIZATION.to_vec())
}

pub(super) enum Key {
    Usual(KeyPair),
    Weak(WeakKey),
}

/// RSA of 1024 bits, which none of our libraries would sign with.
pub(super) struct WeakKey {
    pem: String,
    public: Vec<u8>,
}

impl WeakKey {
    pub(super) fn generate() -> Result<Self> {
        let pem = String::from_utf8(openssl(&["genrsa", "1024"], b"")?)?;
        let arguments = ["rsa", "-RSAPublicKey_out", "-outform", "DER"];
        let public = openssl(&arguments, pem.as_bytes())?;
        Ok(Self { pem, public })
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(self.pem.as_bytes())?;
        let key = file.path().display().to_string();
        openssl(&["dgst", "-sha256", "-sign", &key], message)
    }
}

impl PublicKeyData for WeakKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for WeakKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signature(message)
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// What openssl says to `input`.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {output:?}");
    Ok(output.stdout)
}
