//! The user-server's URL: what goes on are the bytes that came, less the cluster's name.

#![no_main]

use cluster_proxy_identity::ClusterName;
use http::Uri;
use libfuzzer_sys::fuzz_target;

/// Compiled here from its source, since nobody outside the user-server has a use for it.
#[path = "../../crates/user-server/src/address.rs"]
mod address;

fuzz_target!(|url: &str| {
    let Ok(uri) = url.parse::<Uri>() else {
        return;
    };
    match address::Address::parse(&uri) {
        Ok(address) => {
            let came = uri
                .path_and_query()
                .expect("an address has a path")
                .as_str();
            assert_eq!(format!("/{}{}", address.cluster, address.target), came);
            assert_eq!(
                address.cluster.as_str().parse::<ClusterName>(),
                Ok(address.cluster.clone())
            );
            assert!(address.target.as_str().starts_with('/'));
            address.class();
        }
        Err(error) => assert!(error.reply().code().is_client_error()),
    }
});
