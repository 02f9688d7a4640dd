//! One GET over HTTPS whose answer is small: nothing else is asked of a provider.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_runtime::error::with_sources;
use http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpsError {
    /// Another scheme, or no host.
    #[error("{url} is not an https:// URL")]
    NotHttps {
        /// The URL.
        url: String,
    },
    /// No connection.
    #[error("{host} cannot be connected to: {cause}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the last address says.
        cause: String,
    },
    /// The TLS handshake failed: another CA, another name, an expired certificate.
    #[error("the TLS handshake with {host} failed: {cause}")]
    Handshake {
        /// Host and port.
        host: String,
        /// What TLS says.
        cause: String,
    },
    /// The answer broke off, is too large, or is no HTTP.
    #[error("the answer of {host} cannot be read: {cause}")]
    Broken {
        /// Host and port.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// An answer other than 200.
    #[error("{url} was answered with {code}")]
    Refused {
        /// The URL.
        url: String,
        /// The status code.
        code: StatusCode,
    },
    /// A redirect to another host, to another scheme, or one too many.
    #[error("{url} redirects where it is not followed")]
    Redirect {
        /// The URL.
        url: String,
    },
}

/// The content at `url`. Redirects are followed within its host and port only. Without a deadline:
/// the caller sets it.
pub(super) async fn get(tls: &ClientTls, url: &Uri) -> Result<Bytes, HttpsError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        match get_once(tls, &url).await? {
            Answer::Content(content) => return Ok(content),
            Answer::Elsewhere(target) => url = target,
        }
    }
    Err(HttpsError::Redirect {
        url: url.to_string(),
    })
}

enum Answer {
    Content(Bytes),
    Elsewhere(Uri),
}

async fn get_once(tls: &ClientTls, url: &Uri) -> Result<Answer, HttpsError> {
    let not_https = || HttpsError::NotHttps {
        url: url.to_string(),
    };
    if url.scheme() != Some(&Scheme::HTTPS) {
        return Err(not_https());
    }
    let authority = url.authority().ok_or_else(not_https)?;
    let host = url.host().ok_or_else(not_https)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| not_https())?;
    let port = url.port_u16().unwrap_or(443);
    let peer = format!("{host}:{port}");

    let tcp = dial(host, port)
        .await
        .map_err(|cause| HttpsError::Unreachable {
            host: peer.clone(),
            cause,
        })?;
    let config = tls.with_alpn(&[b"http/1.1"]).config();
    let io = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|error| HttpsError::Handshake {
            host: peer.clone(),
            cause: error.to_string(),
        })?;
    let broken = |cause: String| HttpsError::Broken {
        host: peer.clone(),
        cause,
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| broken(with_sources(&error)))?;

    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = url
        .path_and_query()
        .map_or_else(|| Uri::from_static("/"), |target| Uri::from(target.clone()));
    let headers = request.headers_mut();
    let authority = authority.as_str().rsplit('@').next().unwrap_or_default();
    headers.insert(
        HOST,
        HeaderValue::from_str(authority).map_err(|_| not_https())?,
    );
    headers.insert(ACCEPT, HeaderValue::from_static(JSON_TYPES));
    headers.insert(USER_AGENT, HeaderValue::from_static("cluster-proxy"));
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(with_sources(&error)))?;
        read(response, url, &broken).await
    };
    // The connection is driven beside the exchange; when it ends, the exchange says how.
    let driven = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = driven => match never {},
    }
}

async fn read(
    response: Response<Incoming>,
    url: &Uri,
    broken: &impl Fn(String) -> HttpsError,
) -> Result<Answer, HttpsError> {
    let code = response.status();
    if code.is_redirection() {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| within_host(url, location));
        return target
            .map(Answer::Elsewhere)
            .ok_or_else(|| HttpsError::Redirect {
                url: url.to_string(),
            });
    }
    if code != StatusCode::OK {
        return Err(HttpsError::Refused {
            url: url.to_string(),
            code,
        });
    }
    let content = Limited::new(response.into_body(), MAX_CONTENT_BYTES)
        .collect()
        .await
        .map_err(|error| broken(error.to_string()))?;
    Ok(Answer::Content(content.to_bytes()))
}

/// Where a redirect leads, if it is a path or a URL of the same scheme, host and port.
fn within_host(url: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("//") {
        return None;
    }
    let location: Uri = location.parse().ok()?;
    let mut parts = url.clone().into_parts();
    if let Some(authority) = location.authority() {
        let same = location.scheme() == url.scheme() && Some(authority) == url.authority();
        same.then_some(())?;
    }
    let path = location.path_and_query()?;
    path.as_str().starts_with('/').then_some(())?;
    parts.path_and_query = Some(path.clone());
    Uri::from_parts(parts).ok()
}

/// Connects to the first address that answers.
async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = lookup_host((host, port))
        .await
        .map_err(|error| error.to_string())?;
    let mut last = "it has no address".to_owned();
    for address in addresses.take(MAX_ADDRESSES) {
        match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer"),
        }
    }
    Err(last)
}

/// Discovery documents have some kilobytes, and a dozen keys with their certificates some 40.
const MAX_CONTENT_BYTES: usize = 512 * 1024;

/// An answer's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A path or two, as a missing slash causes them.
const MAX_REDIRECTS: usize = 3;

/// How long one address may take, so that there is time for the next.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// What fits into the deadline of a fetch.
const MAX_ADDRESSES: usize = 3;

const JSON_TYPES: &str = "application/json, application/jwk-set+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_at_the_host() {
        let url: Uri = "https://a:1/x?y".parse().expect("a URL");
        for (location, target) in [
            ("/keys", Some("https://a:1/keys")),
            ("https://a:1/keys?z", Some("https://a:1/keys?z")),
            ("https://a:1", Some("https://a:1/")),
            ("https://a:2/keys", None),
            ("https://a/keys", None),
            ("https://b:1/keys", None),
            ("http://a:1/keys", None),
            ("//b/keys", None),
            ("keys", None),
            ("", None),
        ] {
            let found = within_host(&url, location).map(|url| url.to_string());
            assert_eq!(found.as_deref(), target, "{location}");
        }
    }
}
