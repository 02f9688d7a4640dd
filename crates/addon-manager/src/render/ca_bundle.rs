//! CA certificates, put together from several places.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;

use super::error::RenderError;

/// The certificates of all `bundles` (PEM, each with the name of where it comes from), in order,
/// each once.
///
/// # Errors
///
/// When a bundle holds no certificate, or something that is none.
pub(super) fn merge(bundles: &[(&'static str, &[u8])]) -> Result<String, RenderError> {
    let mut merged = String::new();
    let mut seen = BTreeSet::new();
    for &(source_name, pem) in bundles {
        let unusable = |cause: String| RenderError::Certificates { source_name, cause };
        let mut found = false;
        for block in Pem::iter_from_buffer(pem) {
            let block = block.map_err(|error| unusable(error.to_string()))?;
            if block.label != CERTIFICATE {
                return Err(unusable(format!("a PEM block is a {}", block.label)));
            }
            block
                .parse_x509()
                .map_err(|error| unusable(error.to_string()))?;
            found = true;
            if seen.insert(block.contents.clone()) {
                append(&mut merged, &block.contents);
            }
        }
        if !found {
            return Err(unusable("there is no PEM block".to_owned()));
        }
    }
    Ok(merged)
}

fn append(merged: &mut String, der: &[u8]) {
    merged.push_str("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_COLUMNS));
        merged.push_str(line);
        merged.push('\n');
        rest = more;
    }
    merged.push_str("-----END CERTIFICATE-----\n");
}

const CERTIFICATE: &str = "CERTIFICATE";
/// Characters in a line of PEM (RFC 7468).
const PEM_COLUMNS: usize = 64;
