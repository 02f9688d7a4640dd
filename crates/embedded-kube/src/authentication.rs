//! Who a request is from: a client certificate, a service account's token, a static token, or
//! nobody. In Kubernetes' order: the certificate comes before the token, and a token that is no
//! good is refused even where anonymous requests are served.

pub(crate) mod tokens;

use std::collections::BTreeMap;

use cluster_proxy_identity::{Token, User};
use cluster_proxy_kube_api::names::{AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::failure::Failure;
use crate::store::Transaction;
use tokens::{Authenticated, TokenRefused, TokenSigner};

/// Authenticates requests and reviewed tokens of one cluster.
pub(crate) struct Authenticator {
    pub(crate) signer: TokenSigner,
    admin_token: Option<Token>,
}

impl Authenticator {
    pub(crate) fn new(signer: TokenSigner, admin_token: Option<Token>) -> Self {
        Self {
            signer,
            admin_token,
        }
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 for a bearer token that is not valid here.
    pub(crate) fn request(
        &self,
        store: &Transaction<'_>,
        certificate: Option<&CertificateDer<'_>>,
        headers: &HeaderMap,
    ) -> Result<User, Failure> {
        if let Some(user) = certificate.and_then(certificate_user) {
            return Ok(user);
        }
        let Some(token) = bearer(headers) else {
            return Ok(anonymous());
        };
        let audiences = [self.signer.issuer().to_owned()];
        self.token(store, token, &audiences)
            .map(|authenticated| authenticated.user)
            .map_err(|_| Failure::unauthorized())
    }

    /// The user that a token is of, for at least one of the audiences.
    ///
    /// # Errors
    /// [`TokenRefused`] says why.
    pub(crate) fn token(
        &self,
        store: &Transaction<'_>,
        token: &str,
        audiences: &[String],
    ) -> Result<Authenticated, TokenRefused> {
        if let Some(admin) = &self.admin_token
            && same(admin.expose(), token)
        {
            return Ok(Authenticated {
                user: administrator(),
                audiences: audiences.to_vec(),
            });
        }
        self.signer.verify(store, token, audiences)
    }
}

/// The common name is the user, each organization a group (`CommonNameUserConversion`). The chain
/// was verified by TLS.
fn certificate_user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let groups = subject
        .iter_organization()
        .filter_map(|it| it.as_str().ok());
    Some(User {
        name: name.to_owned(),
        groups: groups
            .chain([AUTHENTICATED_GROUP])
            .map(str::to_owned)
            .collect(),
        extra: BTreeMap::from([(
            CREDENTIAL_ID.to_owned(),
            vec![format!("X509SHA256={:x}", Sha256::digest(certificate))],
        )]),
        ..User::default()
    })
}

/// The token of an `Authorization` header, as Kubernetes reads it: another scheme, or `Bearer`
/// with nothing after it, is as good as no header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let mut parts = value.split(' ');
    let (scheme, token) = (parts.next()?, parts.next()?);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn anonymous() -> User {
    User {
        name: ANONYMOUS.to_owned(),
        groups: vec![UNAUTHENTICATED_GROUP.to_owned()],
        ..User::default()
    }
}

fn administrator() -> User {
    use cluster_proxy_kube_api::names::MASTERS_GROUP;
    User {
        name: ADMINISTRATOR.to_owned(),
        groups: vec![MASTERS_GROUP.to_owned(), AUTHENTICATED_GROUP.to_owned()],
        ..User::default()
    }
}

/// Compares without telling by its duration where the two differ.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

/// The key of extra that names the credential a user came with.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Who sends a request without credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// The user of the admin certificate and of the static token, as kubeadm names it.
pub(crate) const ADMINISTRATOR: &str = "kubernetes-admin";

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
    use http::HeaderValue;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::store::Store;

    fn authenticator() -> Authenticator {
        let signer = TokenSigner::generate("https://issuer".to_owned()).unwrap();
        Authenticator::new(signer, Some(Token::parse("s3cret").unwrap()))
    }

    fn request(
        authorization: Option<&'static str>,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<String, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        Store::new()
            .read(|view| authenticator().request(view, certificate, &headers))
            .map(|user| user.name)
    }

    #[test]
    fn only_a_bad_bearer_token_is_refused() {
        for (header, user) in [
            (None, "system:anonymous"),
            (Some("Basic eDp5"), "system:anonymous"),
            (Some("Bearer"), "system:anonymous"),
            (Some("Bearer  s3cret"), "system:anonymous"),
            (Some("bearer s3cret"), "kubernetes-admin"),
        ] {
            assert_eq!(request(header, None).unwrap(), user, "{header:?}");
        }
        for header in ["Bearer other", "Bearer s3cre", "Bearer s3cret2"] {
            assert_eq!(
                request(Some(header), None).unwrap_err(),
                Failure::unauthorized()
            );
        }
    }

    #[test]
    fn a_certificate_comes_before_a_token() {
        let ca = CertificateAuthority::generate().unwrap();
        let leaf = Leaf::client("jane", vec!["staff".to_owned()]);
        let pem = ca.issue(&leaf).unwrap().cert_pem;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(request(Some("Bearer wrong"), Some(&der)).unwrap(), "jane");
        let user = certificate_user(&der).unwrap();
        assert_eq!(user.groups, ["staff", "system:authenticated"]);
        let id = &user.extra[CREDENTIAL_ID][0];
        assert_eq!(id.len(), "X509SHA256=".len() + 64, "{id}");
    }
}
