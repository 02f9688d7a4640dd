//! Header fields from any bytes.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers from bytes, without those that HTTP itself does not allow.
pub fn headers(fields: &[(Vec<u8>, Vec<u8>)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
