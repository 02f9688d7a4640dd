//! The authority of a CONNECT request: host and port, and nothing that could be read as more.

#![no_main]

use cluster_proxy_tunnel::Target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|authority: &str| {
    if let Ok(target) = authority.parse::<Target>() {
        assert_ne!(target.port(), 0);
        let host = target.host();
        assert!(!host.is_empty() && host.len() <= 253);
        assert!(
            host.bytes()
                .all(|b| b.is_ascii_graphic() && !b"/@?#[]\\\"<>%,;".contains(&b)),
            "{host:?}"
        );
        assert_eq!(target.to_string().parse().as_ref(), Ok(&target));
        assert_eq!(Target::new(&host, target.port()).as_ref(), Ok(&target));
    }
});
