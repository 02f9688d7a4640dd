//! The URL of an HTTP proxy.

use std::fmt;
use std::net::Ipv6Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_runtime::flags::HostPort;
use http::HeaderValue;
use percent_encoding::percent_decode_str;

/// Where an HTTP proxy listens, and with which credentials to come. Neither `Display` nor `Debug`
/// shows the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    encrypted: bool,
    address: HostPort,
    credentials: Option<Credentials>,
}

/// What stands in `Proxy-Authorization`.
#[derive(Clone, PartialEq, Eq)]
struct Credentials(HeaderValue);

impl ProxyUrl {
    /// Parses `[http://|https://][user[:password]@]host[:port]`, port 80 or 443 if there is none.
    /// User and password are percent-encoded; a path is passed over.
    ///
    /// # Errors
    /// [`ProxyUrlError`], which quotes nothing of the URL.
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        let text = text.trim();
        let (encrypted, rest) = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                (is_encrypted(&scheme.to_ascii_lowercase())?, rest)
            }
            _ => (false, text),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        // A slash in a password would make a host of what stands before it.
        if path.contains('@') {
            return Err(ProxyUrlError::Credentials);
        }
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(Credentials::parse(user)?), address),
            None => (None, authority),
        };
        Ok(Self {
            encrypted,
            address: host_and_port(address, if encrypted { 443 } else { 80 })?,
            credentials,
        })
    }

    /// Host (without brackets) and port to dial.
    #[must_use]
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// Whether the proxy itself is spoken to in TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The value of `Proxy-Authorization` (Basic, RFC 7617), if the URL has credentials.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref().map(|credentials| &credentials.0)
    }
}

impl Credentials {
    fn parse(userinfo: &str) -> Result<Self, ProxyUrlError> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (user, password) = (decoded(user)?, decoded(password)?);
        // RFC 7617 section 2: such a user would be read as another one.
        if user.contains(&b':') {
            return Err(ProxyUrlError::Credentials);
        }
        let pair = [&user[..], b":", &password].concat();
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .map_err(|_| ProxyUrlError::Credentials)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_encrypted(scheme: &str) -> Result<bool, ProxyUrlError> {
    match scheme {
        "http" => Ok(false),
        "https" => Ok(true),
        _ if scheme.starts_with("socks") => Err(ProxyUrlError::Socks),
        _ => Err(ProxyUrlError::Scheme),
    }
}

fn host_and_port(text: &str, default: u16) -> Result<HostPort, ProxyUrlError> {
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without a port.
        Some(_) if text.ends_with(']') => (text, ""),
        Some((host, port)) => (host, port),
        None => (text, ""),
    };
    let port = match port {
        "" => default,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(ProxyUrlError::Port)?,
        _ => return Err(ProxyUrlError::Port),
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| is_host(host)),
    };
    let host = host.ok_or(ProxyUrlError::Host)?;
    Ok(HostPort::new(host, port))
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_HOST
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn decoded(text: &str) -> Result<Vec<u8>, ProxyUrlError> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'%' && !(is_hex(at + 1) && is_hex(at + 2)) {
            return Err(ProxyUrlError::Credentials);
        }
    }
    if text.len() > MAX_CREDENTIAL {
        return Err(ProxyUrlError::Credentials);
    }
    Ok(percent_decode_str(text).collect())
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no proxy's URL. No variant quotes it, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// SOCKS.
    #[error("SOCKS proxies are not supported: name an http:// or https:// proxy")]
    Socks,
    /// Another scheme.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// No host.
    #[error("it names no host: http://[user:password@]host[:port] is needed")]
    Host,
    /// No port number.
    #[error("its port is none: http://[user:password@]host[:port] is needed")]
    Port,
    /// A user or a password that is not encoded as a URL needs it.
    #[error("characters such as % / : @ in user or password must be percent-encoded")]
    Credentials,
}

/// The longest DNS name.
const MAX_HOST: usize = 253;

/// The longest user or password: proxies take headers of 8 KiB or less.
const MAX_CREDENTIAL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_as_go_does() {
        for (text, shown, authorization) in [
            ("http://proxy:3128", "http://proxy:3128", None),
            ("proxy:3128", "http://proxy:3128", None),
            ("proxy", "http://proxy:80", None),
            (" http://proxy.corp:3128/\n", "http://proxy.corp:3128", None),
            ("HTTPS://proxy", "https://proxy:443", None),
            ("https://proxy:/path?a=b", "https://proxy:443", None),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080", None),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080", None),
            ("http://[fd00::1]", "http://[fd00::1]:80", None),
            // user:password
            (
                "http://user:password@p:1",
                "http://p:1",
                Some("dXNlcjpwYXNzd29yZA=="),
            ),
            (
                "user:password@p:1",
                "http://p:1",
                Some("dXNlcjpwYXNzd29yZA=="),
            ),
            // a@b:c/d:e
            (
                "http://a%40b:c%2Fd%3Ae@p",
                "http://p:80",
                Some("YUBiOmMvZDpl"),
            ),
            ("http://user@p", "http://p:80", Some("dXNlcjo=")),
            ("http://u:a:b@p", "http://p:80", Some("dTphOmI=")),
        ] {
            let url = ProxyUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string(), format!("{url:?}")),
                (shown.into(), shown.into())
            );
            let basic = authorization.map(|encoded| format!("Basic {encoded}"));
            let said = url.authorization().map(|value| value.to_str().unwrap());
            assert_eq!(said, basic.as_deref(), "{text}");
            assert_eq!(ProxyUrl::parse(shown).unwrap().address(), url.address());
        }
    }

    #[test]
    fn what_is_none_is_told_without_a_byte_of_it() {
        use ProxyUrlError::{Credentials, Host, Port, Scheme, Socks};
        for (text, error) in [
            ("socks5://s3cret@proxy:1080", Socks),
            ("socks5h://proxy", Socks),
            ("ftp://s3cret@proxy", Scheme),
            ("", Host),
            ("http://", Host),
            ("http://:3128", Host),
            ("http://s3cret@", Host),
            ("http://a b:1", Host),
            ("http://[fd00::1:3128", Host),
            ("http://fd00::1:3128", Host),
            ("http://proxy:s3cret", Port),
            ("http://proxy:0", Port),
            ("http://proxy:65536", Port),
            ("http://proxy:+1", Port),
            ("http://user:%s3cret@proxy", Credentials),
            ("http://user:s3cret%4@proxy", Credentials),
            ("http://us%3Aer:s3cret@proxy", Credentials),
            ("http://user:12/s3cret@proxy", Credentials),
            ("http://user:1#s3cret@proxy", Credentials),
        ] {
            let said = ProxyUrl::parse(text).unwrap_err();
            assert_eq!(said, error, "{text}");
            assert!(!said.to_string().contains("s3cret"));
        }
    }
}
