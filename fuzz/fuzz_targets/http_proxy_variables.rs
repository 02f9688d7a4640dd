//! `HTTPS_PROXY` and `NO_PROXY`: what is loopback is never proxied, what the list names is not
//! either, and no text shows a credential.

#![no_main]

use std::net::IpAddr;

use cluster_proxy_http_proxy::{NoProxy, Proxies, ProxyUrl};
use libfuzzer_sys::fuzz_target;

/// Stands in the URL as a credential would.
const SECRET: &str = "s3cret";

fuzz_target!(|input: (&str, &str, &str, u16)| {
    let (url, list, host, port) = input;
    let covered = NoProxy::parse(list).covers(host, port);
    assert_eq!(
        covered,
        NoProxy::parse(&list.to_ascii_uppercase()).covers(&host.to_ascii_uppercase(), port)
    );
    assert!(NoProxy::parse(&format!("{list},*")).covers(host, port));
    let address = host.parse::<IpAddr>();
    if matches!(&address, Ok(address) if address.is_loopback()) {
        assert!(covered);
    }
    if let Ok(address) = address {
        assert!(NoProxy::parse(host).covers(host, port));
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let network = format!("{address}/{bits}");
        assert!(NoProxy::parse(&network).covers(host, port));
    } else if is_name(host) {
        assert!(NoProxy::parse(host).covers(host, port));
        assert!(NoProxy::parse(&format!(".{host}")).covers(&format!("a.{host}"), port));
    }
    let proxies = Proxies::from_variables(|name| match name {
        "HTTPS_PROXY" => Some(url.to_owned()),
        "NO_PROXY" => Some(list.to_owned()),
        _ => None,
    });
    match proxies {
        Ok(proxies) => match proxies.towards(host, port) {
            Some(proxy) => {
                assert!(!covered);
                let shown = proxy.url().to_string();
                let again = ProxyUrl::parse(&shown).expect("what was parsed");
                assert_eq!(again.address(), proxy.url().address());
                assert_eq!(again.is_encrypted(), proxy.url().is_encrypted());
                assert_ne!(again.address().port, 0);
                assert!(again.authorization().is_none(), "{shown}");
                assert!(!format!("{proxy:?}").contains("Basic"));
            }
            None => assert!(covered || url.is_empty()),
        },
        Err(error) => {
            let line = format!("{error} {error:?}");
            assert!(!line.contains(SECRET), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
});

fn is_name(host: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    host.split('.')
        .all(|label| !label.is_empty() && label.bytes().all(is_part))
}
