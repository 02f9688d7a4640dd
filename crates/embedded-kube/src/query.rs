//! Query parameters of a request, decoded as `application/x-www-form-urlencoded`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::failure::{Cause, Failure};

/// Parameters by name; the first of several counts, as in Go's `url.Values.Get`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters
                .entry(decode(name))
                .or_insert_with(|| decode(value));
        }
        Self(parameters)
    }

    /// Empty for a parameter that is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// `None` for a parameter that is missing or empty.
    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// A switch: present, and not `false` or `0`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// # Errors
    /// 400 for what is no number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.optional(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Failure::bad_request(format!("{name}: invalid value {text:?}: no number"))
                })
            })
            .transpose()
    }

    /// Whether the request asks to be tried without effect.
    ///
    /// # Errors
    /// 422 for anything but `All`, about options of this kind.
    pub(crate) fn dry_run(&self, options: &str) -> Result<bool, Failure> {
        is_dry_run(options, self.optional("dryRun"))
    }
}

/// The one value that `dryRun` may have.
///
/// # Errors
/// 422 for anything but `All`, about options of this kind.
pub(crate) fn is_dry_run(options: &str, value: Option<&str>) -> Result<bool, Failure> {
    match value {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => {
            let cause = Cause::unsupported("dryRun", other, &["All"]);
            Err(Failure::invalid_options(options, cause))
        }
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dweb+x&watch=1&limit=500&a&watch=0");
        assert_eq!(query.get("labelSelector"), "app=web x");
        assert!(query.is_set("watch"));
        assert!(query.is_set("a"));
        assert!(!query.is_set("b"));
        assert_eq!(query.number("limit"), Ok(Some(500)));
        assert_eq!(query.number("none"), Ok(None));
        assert!(query.number("labelSelector").is_err());
        assert_eq!(query.dry_run("CreateOptions"), Ok(false));
        assert_eq!(
            Query::parse("dryRun=All").dry_run("CreateOptions"),
            Ok(true)
        );
        assert!(Query::parse("dryRun=yes").dry_run("CreateOptions").is_err());
    }
}
