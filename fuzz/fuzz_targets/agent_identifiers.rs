//! The identifiers that an agent announces: what was understood can be announced again.

#![no_main]

use cluster_proxy_identity::AnnouncedIdentifiers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    if let Ok(announced) = query.parse::<AnnouncedIdentifiers>() {
        assert!(
            announced
                .hosts
                .iter()
                .all(|host| *host == host.to_ascii_lowercase())
        );
        let text = announced.to_string();
        assert!(
            text.bytes().all(|b| b.is_ascii_graphic()),
            "fit for a header: {text:?}"
        );
        if let Ok(again) = text.parse::<AnnouncedIdentifiers>() {
            assert_eq!(again, announced, "{text}");
        } else {
            // Escapes make it longer, beyond the limit at most.
            assert!(text.len() > query.len(), "{text}");
        }
    }
});
