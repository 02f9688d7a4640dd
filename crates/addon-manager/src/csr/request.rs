//! The PKCS #10 request inside a CertificateSigningRequest.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519, OID_X509_COMMON_NAME,
    OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name};

use cluster_proxy_identity::ca::Subject;

/// All that a request asks for: whatever cannot be kept in these fields is a [`RequestProblem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its subject: one common name, every organization and unit as it came, and nothing else.
    pub subject: Subject,
    /// DNS names that it asks for, and no name of another kind.
    pub dns_names: Vec<String>,
    /// The key, as a DER SubjectPublicKeyInfo. The request is signed with it.
    pub public_key: Vec<u8>,
}

impl Request {
    /// Reads one PEM block, with nothing before or after it but white space, and proves that who
    /// made the request has the key.
    ///
    /// # Errors
    /// [`RequestProblem`] for anything that is not exactly a subject of common name, organizations
    /// and units, at most DNS names, and a key of a usual kind and size.
    pub fn parse(pem: &[u8]) -> Result<Self, RequestProblem> {
        let pem = pem.trim_ascii();
        if !pem.starts_with(BEGIN) {
            return Err(RequestProblem::NotPem);
        }
        let (rest, block) =
            x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestProblem::NotPem)?;
        if block.label != LABEL || !rest.trim_ascii().is_empty() {
            return Err(RequestProblem::NotPem);
        }
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|_| RequestProblem::NotARequest)?;
        if !rest.is_empty() {
            return Err(RequestProblem::NotARequest);
        }
        let info = &request.certification_request_info;
        require_usual_key(&info.subject_pki)?;
        request
            .verify_signature()
            .map_err(|_| RequestProblem::Signature)?;
        Ok(Self {
            subject: subject(&info.subject)?,
            dns_names: dns_names(&request)?,
            public_key: info.subject_pki.raw.to_vec(),
        })
    }
}

/// What is wrong with a request, or more than we grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestProblem {
    /// Not one PEM block.
    #[error("spec.request is not one PEM block of type {LABEL}")]
    NotPem,
    /// Not PKCS #10.
    #[error("spec.request holds no certificate request that can be read")]
    NotARequest,
    /// Somebody else's key, or a request changed on its way.
    #[error("the request is not signed with its own key")]
    Signature,
    /// A kind or size that nobody should use.
    #[error("the key is neither ECDSA P-256 or larger, nor RSA of 2048 to 8192 bits, nor Ed25519")]
    Key,
    /// None or several.
    #[error("the subject has {count} common names instead of one")]
    CommonNames {
        /// How many.
        count: usize,
    },
    /// Country, e-mail address, serial number and the like.
    #[error("the subject has an attribute {oid}, which nobody registered")]
    SubjectAttribute {
        /// Which.
        oid: String,
    },
    /// A value in an encoding that readers disagree about.
    #[error("the subject has a value that is neither UTF8String nor PrintableString")]
    SubjectEncoding,
    /// Something beside extensions, a challenge password for one.
    #[error("the request has an attribute {oid}, which OCM never sends")]
    Attribute {
        /// Which.
        oid: String,
    },
    /// Key usages, a CA bit, or anything that is no subject alternative name.
    #[error("the request asks for extension {oid}, which OCM never asks for")]
    Extension {
        /// Which.
        oid: String,
    },
    /// An address, a URI, an e-mail address and the like.
    #[error("the request asks for an alternative name that is no DNS name")]
    AlternativeName,
    /// One thing said twice could be read in two ways.
    #[error("the request asks for extensions or alternative names more than once")]
    Twice,
}

fn require_usual_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), RequestProblem> {
    let algorithm = &key.algorithm.algorithm;
    let usual = match key.parsed() {
        Ok(PublicKey::EC(point)) => {
            *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && EC_BITS.contains(&point.key_size())
        }
        Ok(PublicKey::RSA(modulus)) => {
            *algorithm == OID_PKCS1_RSAENCRYPTION && RSA_BITS.contains(&modulus.key_size())
        }
        _ => *algorithm == OID_SIG_ED25519,
    };
    usual.then_some(()).ok_or(RequestProblem::Key)
}

fn subject(name: &X509Name<'_>) -> Result<Subject, RequestProblem> {
    let mut common_names = Vec::new();
    let mut subject = Subject::default();
    for attribute in name.iter_attributes() {
        let value = text(attribute)?;
        let oid = attribute.attr_type();
        if *oid == OID_X509_COMMON_NAME {
            common_names.push(value);
        } else if *oid == OID_X509_ORGANIZATION_NAME {
            subject.organizations.push(value);
        } else if *oid == OID_X509_ORGANIZATIONAL_UNIT {
            subject.organizational_units.push(value);
        } else {
            return Err(RequestProblem::SubjectAttribute { oid: readable(oid) });
        }
    }
    match <[String; 1]>::try_from(common_names) {
        Ok([common_name]) => Ok(Subject {
            common_name,
            ..subject
        }),
        Err(names) => Err(RequestProblem::CommonNames { count: names.len() }),
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Result<String, RequestProblem> {
    let value = attribute.attr_value();
    if !matches!(value.tag(), Tag::Utf8String | Tag::PrintableString) {
        return Err(RequestProblem::SubjectEncoding);
    }
    std::str::from_utf8(value.data)
        .map(str::to_owned)
        .map_err(|_| RequestProblem::SubjectEncoding)
}

fn dns_names(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, RequestProblem> {
    let mut extensions: Option<&[X509Extension<'_>]> = None;
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            return Err(RequestProblem::Attribute {
                oid: readable(&attribute.oid),
            });
        };
        if extensions.replace(&asked.extensions).is_some() {
            return Err(RequestProblem::Twice);
        }
    }
    let mut names = None;
    for extension in extensions.unwrap_or_default() {
        let ParsedExtension::SubjectAlternativeName(asked) = extension.parsed_extension() else {
            return Err(RequestProblem::Extension {
                oid: readable(&extension.oid),
            });
        };
        let asked = asked.general_names.iter().map(|name| match name {
            GeneralName::DNSName(name) => Ok((*name).to_owned()),
            _ => Err(RequestProblem::AlternativeName),
        });
        if names
            .replace(asked.collect::<Result<Vec<_>, _>>()?)
            .is_some()
        {
            return Err(RequestProblem::Twice);
        }
    }
    Ok(names.unwrap_or_default())
}

fn readable(oid: &Oid<'_>) -> String {
    oid.to_id_string()
}

const LABEL: &str = "CERTIFICATE REQUEST";
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";

/// Below 2048 bits can be broken, above 8192 a signature costs seconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// P-256 to P-521.
const EC_BITS: std::ops::RangeInclusive<usize> = 256..=528;
