//! Why a proxy gave no connection, with words for who has to mend it.

use std::fmt;
use std::io;
use std::time::Duration;

use cluster_proxy_identity::tls::TlsError;
use http::StatusCode;
use rustls::CertificateError;

use crate::connect_answer::AnswerError;
use crate::via::{is_of_unknown_ca, tls_error};

/// A proxy that gave no connection. `proxy` is its URL without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The CAs that the proxy's certificate may come from cannot be used.
    #[error("nobody can be trusted as the HTTP proxy {proxy}: {cause}")]
    Trust {
        /// Which proxy.
        proxy: String,
        /// Which file, and what is wrong with it.
        cause: TlsError,
    },
    /// No TLS with the proxy itself.
    #[error("TLS with the HTTP proxy {proxy} failed: {cause}")]
    Tls {
        /// Which proxy.
        proxy: String,
        /// What rustls or the socket says.
        cause: io::Error,
    },
    /// The proxy was silent.
    #[error("the HTTP proxy {proxy} was silent for {} s: {step}", limit.as_secs())]
    TimedOut {
        /// Which proxy.
        proxy: String,
        /// What was waited for.
        step: Step,
        /// How long.
        limit: Duration,
    },
    /// A name that cannot stand in a request.
    #[error("the HTTP proxy {proxy} cannot be asked for {host:?}, which is no host name")]
    Target {
        /// Which proxy.
        proxy: String,
        /// The name.
        host: String,
    },
    /// The connection broke off before there was an answer.
    #[error("the HTTP proxy {proxy} ended the connection without an answer: {cause}")]
    Broken {
        /// Which proxy.
        proxy: String,
        /// What the socket says.
        cause: io::Error,
    },
    /// Something else than an answer.
    #[error("what listens at {proxy} is no HTTP proxy: {cause}")]
    NoAnswer {
        /// Which proxy.
        proxy: String,
        /// What is wrong with it.
        cause: AnswerError,
    },
    /// Bytes in the tunnel before anything was sent through it: TLS begins with the client.
    #[error("the HTTP proxy {proxy} sent bytes of its own after its answer")]
    Early {
        /// Which proxy.
        proxy: String,
    },
    /// An answer that is not 2xx.
    #[error(
        "the HTTP proxy {proxy} answered {} to CONNECT {target}{}",
        Worded(*status, reason),
        Asking(schemes)
    )]
    Refused {
        /// Which proxy.
        proxy: String,
        /// What it was asked for, `host:port`.
        target: String,
        /// Its status.
        status: StatusCode,
        /// How it words the status.
        reason: String,
        /// The kinds of authentication that it takes.
        schemes: Vec<String>,
        /// Whether the proxy's URL has credentials.
        with_credentials: bool,
    },
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The TLS handshake with the proxy.
    Handshake,
    /// The answer to CONNECT.
    Answer,
}

impl ProxyError {
    /// Whose fault it is and what to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Trust { .. } => "look at proxyConfig.caBundle and ROOT_CA_CERT",
            Self::Tls { cause, .. } => explain(cause),
            Self::TimedOut {
                step: Step::Handshake,
                ..
            } => "something accepts connections there and does not speak TLS: is its URL http://?",
            Self::TimedOut {
                step: Step::Answer, ..
            } => "the proxy is overloaded, cannot reach the hub, or wants TLS (https://)",
            Self::Target { .. } => "correct the address of the hub",
            Self::Broken { .. } | Self::NoAnswer { .. } => {
                "is the port the proxy's, and does its URL need https://?"
            }
            Self::Early { .. } => "look for something between this pod and the proxy",
            Self::Refused {
                status,
                schemes,
                with_credentials,
                ..
            } => explain_status(*status, schemes, *with_credentials),
        }
    }
}

fn explain_status(status: StatusCode, schemes: &[String], with_credentials: bool) -> &'static str {
    let takes_basic = schemes.is_empty()
        || schemes
            .iter()
            .any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if !takes_basic => {
            "the proxy takes none but those kinds of authentication, and this program has Basic \
             only: let the proxy take Basic, or the hub's address without credentials"
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if with_credentials => {
            "the proxy does not accept user and password of its URL in HTTPS_PROXY \
             (proxyConfig.httpsProxy): correct them"
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy wants credentials: put user:password@ into its URL in HTTPS_PROXY \
             (proxyConfig.httpsProxy)"
        }
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNAUTHORIZED => {
            "the proxy's rules do not allow this: let it allow CONNECT to that host and port, or \
             put the host into NO_PROXY if it can be reached directly"
        }
        status if status.is_server_error() => {
            "the proxy cannot reach the hub: does it resolve the name, and is it let out to that \
             port?"
        }
        _ => "is this the address of an HTTP proxy that takes CONNECT?",
    }
}

fn explain(error: &io::Error) -> &'static str {
    match tls_error(error) {
        _ if is_of_unknown_ca(error) => {
            "the proxy's certificate is of a CA that is not trusted here: put that CA into \
             proxyConfig.caBundle"
        }
        Some(rustls::Error::InvalidCertificate(invalid)) => match invalid {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the proxy's certificate has expired, or this machine's clock is wrong"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the proxy's certificate does not name the host in its URL"
            }
            _ => "the proxy's certificate is not accepted",
        },
        Some(rustls::Error::AlertReceived(_)) => {
            "the proxy refused the handshake: does it want a client certificate?"
        }
        Some(_) => "the proxy does not speak TLS as expected: is its URL http://?",
        None => "the proxy cut the connection during the handshake: is its URL http://?",
    }
}

/// `407 Proxy Authentication Required`, in the proxy's own words where it has some.
struct Worded<'a>(StatusCode, &'a str);

impl fmt::Display for Worded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            "" => write!(f, "{}", self.0),
            reason => write!(f, "{} {reason}", self.0.as_u16()),
        }
    }
}

struct Asking<'a>(&'a [String]);

impl fmt::Display for Asking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " (it asks for {})", self.0.join(", "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "no TLS handshake",
            Self::Answer => "no answer to CONNECT",
        })
    }
}
