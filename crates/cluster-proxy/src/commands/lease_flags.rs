//! Labels of servers' Leases, as konnectivity's two programs read them.

use std::collections::BTreeMap;

use cluster_proxy_runtime::error::StartError;

/// What `flag` says: `key=value`, more of them after commas.
pub(crate) fn labels(flag: &str, text: &str) -> Result<BTreeMap<String, String>, StartError> {
    let label = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        (!key.is_empty() && !value.contains('=')).then(|| (key.to_owned(), value.to_owned()))
    };
    text.split(',')
        .map(|pair| {
            label(pair).ok_or_else(|| {
                StartError::usage(flag, format!("{pair:?} is no label such as k8s-app=server"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_konnectivity_writes_them() {
        let read = labels("--lease-label", "k8s-app=konnectivity-server, a/b=").unwrap();
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, [("a/b", ""), ("k8s-app", "konnectivity-server")]);
        for bad in ["", "a", "=b", "a=b=c", "a=b,"] {
            let error = labels("--lease-label", bad).unwrap_err().to_string();
            assert!(error.starts_with("--lease-label: "), "{error}");
        }
    }
}
