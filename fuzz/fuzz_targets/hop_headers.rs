//! Hop-by-hop headers: what `Connection` names goes, in any spelling, and what is set afterwards
//! stays.

#![no_main]

use arbitrary::Arbitrary;
use cluster_proxy_forward::headers::remove_hop_by_hop;
use cluster_proxy_fuzz::headers;
use http::header::{CONNECTION, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Field {
    Connection(Vec<u8>),
    /// A `Connection` that names this, spelled by the bits in upper or lower case.
    Naming(Known, u32),
    Known(Known, Vec<u8>),
    Other(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Known {
    User,
    Group,
    Authorization,
    Remote,
    Te,
    Upgrade,
    Transfer,
}

impl Known {
    fn name(self) -> &'static str {
        match self {
            Self::User => "impersonate-user",
            Self::Group => "impersonate-group",
            Self::Authorization => "authorization",
            Self::Remote => "x-remote-user",
            Self::Te => "te",
            Self::Upgrade => "upgrade",
            Self::Transfer => "transfer-encoding",
        }
    }
}

impl Field {
    fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Connection(value) => (b"Connection".to_vec(), value.clone()),
            Self::Naming(known, bits) => {
                let spelled = known.name().bytes().enumerate().map(|(index, byte)| {
                    if bits >> (index % 32) & 1 == 1 {
                        byte.to_ascii_uppercase()
                    } else {
                        byte
                    }
                });
                (b"connection".to_vec(), spelled.collect())
            }
            Self::Known(known, value) => (known.name().as_bytes().to_vec(), value.clone()),
            Self::Other(name, value) => (name.clone(), value.clone()),
        }
    }
}

fuzz_target!(|fields: Vec<Field>| {
    let fields: Vec<_> = fields.iter().map(Field::bytes).collect();
    let mut headers = headers(&fields);
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    let asked = remove_hop_by_hop(&mut headers);
    assert!(asked.upgrade.is_none() || named.contains(&UPGRADE));
    for name in named
        .iter()
        .chain([&CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE])
    {
        assert!(!headers.contains_key(name), "{name} is left");
    }
    let ours = HeaderValue::from_static("ours");
    headers.insert("impersonate-user", ours.clone());
    remove_hop_by_hop(&mut headers);
    assert_eq!(headers.get("impersonate-user"), Some(&ours));
});
