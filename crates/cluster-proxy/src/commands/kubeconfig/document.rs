//! A kubeconfig as a tree: read only if all of it is understood, and written so that YAML 1.1 and
//! 1.2 read the same.

use kube::config::Kubeconfig;
use serde_json::Value;

/// Reads a kubeconfig. No error has a word of the text, which may be a credential.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let refused = |error: &serde_saphyr::Error| {
        let place = error.location().map_or_else(String::new, |location| {
            format!(" (line {}, column {})", location.line(), location.column())
        });
        format!("not a kubeconfig: wrong YAML or a value of a wrong type{place}")
    };
    // The types of a kubeconfig first: what they do not fit, kubectl does not read either.
    let _: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| refused(&error))?;
    let document: Value = serde_saphyr::from_str(text).map_err(|error| refused(&error))?;
    match &document {
        Value::Null => Ok(Value::Null),
        Value::Object(fields) => match fields.get("kind") {
            None | Some(Value::Null) => Ok(document),
            Some(kind) if kind == "Config" || kind == "" => Ok(document),
            Some(_) => Err("not a kubeconfig: its kind is not Config".to_owned()),
        },
        _ => Err("not a kubeconfig".to_owned()),
    }
}

/// Writes a kubeconfig, in the order of kubectl.
pub(super) fn to_yaml(document: &Value) -> Result<String, String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(document, options)
        .map_err(|_| "it cannot be written as YAML".to_owned())?;
    let read: Result<Value, _> = serde_saphyr::from_str(&text);
    if read.is_ok_and(|read| read == *document) {
        Ok(text)
    } else {
        Err("it cannot be written as YAML without a change".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_the_same() {
        let tricky = json!({
            "a": ["yes", "no", "on", "~", "null", "1e3", "0x1f", "012", "12:30:45", "- a", "#x", ""],
            "b": {"with: colon": " padded ", "multi": "line\nline\n", "long": "x y ".repeat(90)},
            "c": {"empty": {}, "list": [], "number": 4, "float": 0.5, "true": true, "nothing": null},
            "d": "ünï \u{1F600} \t tab \u{7f}",
        });
        let text = to_yaml(&tricky).expect("written");
        let read: Value = serde_saphyr::from_str(&text).expect("read");
        assert_eq!(read, tricky);
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_without_a_word_of_it() {
        for bad in [
            "token: [s3cret",
            "s3cret",
            "- s3cret",
            "clusters: s3cret",
            "users: [{name: a, user: {token: [s3cret]}}]",
            "kind: s3cret",
            "a: 1\na: s3cret",
            "contexts: [{context: {cluster: s3cret}}]",
            "kind: Config\n---\nkind: Config\n",
        ] {
            let refused = parse(bad).expect_err(bad);
            assert!(refused.starts_with("not a kubeconfig"), "{bad}: {refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        for empty in ["", "\n", "# only a comment\n"] {
            assert_eq!(parse(empty), Ok(Value::Null), "{empty:?}");
        }
    }
}
