//! Which form of an answer the client takes (`Accept`), and which form its body has.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::failure::Failure;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Plain,
    /// Their metadata (`PartialObjectMetadata`).
    Partial,
    /// A table.
    Table,
}

/// The first form in `Accept` that is served.
///
/// # Errors
/// 406 where none is.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, Failure> {
    let accept = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut asked = false;
    for part in accept.flat_map(|value| value.split(',')) {
        let mut parameters = part.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default().to_ascii_lowercase();
        if media.is_empty() {
            continue;
        }
        asked = true;
        if !matches!(&*media, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let mut found = (None, None, None);
        for parameter in parameters {
            match parameter.split_once('=') {
                Some(("as", value)) => found.0 = Some(value),
                Some(("g", value)) => found.1 = Some(value),
                Some(("v", value)) => found.2 = Some(value),
                _ => {}
            }
        }
        match found {
            (None, ..) => return Ok(Form::Plain),
            (Some(kind), Some("meta.k8s.io"), Some("v1")) => match kind {
                "Table" => return Ok(Form::Table),
                "PartialObjectMetadata" | "PartialObjectMetadataList" => return Ok(Form::Partial),
                _ => {}
            },
            _ => {}
        }
    }
    if asked {
        Err(Failure::not_acceptable("application/json"))
    } else {
        Ok(Form::Plain)
    }
}

/// Whether a client takes a document of one media type, of which there is no other form.
///
/// # Errors
/// 406 where it does not.
pub(crate) fn takes(headers: &HeaderMap, media: &str) -> Result<(), Failure> {
    let mut accept = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|part| part.split(';').next())
        .map(str::trim)
        .peekable();
    let anything = accept.peek().is_none();
    if anything || accept.any(|it| it == media || it == "*/*" || it == "application/*") {
        Ok(())
    } else {
        Err(Failure::not_acceptable(media))
    }
}

/// The media type of a request's body, without parameters; JSON where nothing is said.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    if media.is_empty() {
        "application/json".to_owned()
    } else {
        media.to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepting(accept: &'static str) -> Result<Form, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        form(&headers)
    }

    #[test]
    fn the_first_form_that_is_served_is_given() {
        const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;\
            as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, expected) in [
            (KUBECTL, Form::Table),
            ("*/*", Form::Plain),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Form::Plain,
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Form::Partial,
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                 application/json",
                Form::Plain,
            ),
        ] {
            assert_eq!(accepting(accept), Ok(expected), "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()), Ok(Form::Plain));
        assert!(accepting("application/vnd.kubernetes.protobuf").is_err());
    }

    #[test]
    fn the_only_form_is_taken_or_not() {
        let takes = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            takes(&headers, "application/jwk-set+json").is_ok()
        };
        assert!(takes("text/html, application/jwk-set+json;q=0.5"));
        assert!(takes("*/*"));
        assert!(!takes("application/json"));
    }
}
