//! A kubeconfig: an error is one line that names flag and file, and quotes no credential.

#![no_main]

use cluster_proxy_identity::tls::FlagFile;
use cluster_proxy_kube_client::Connection;
use libfuzzer_sys::fuzz_target;

/// Stands in the input as a credential would.
const SECRET: &str = "s3cret";

thread_local! {
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a directory");
}

fuzz_target!(|text: &str| {
    // Absolute paths could name devices that never end; relative ones stay in the directory.
    let paths = text.replace("://", "");
    if paths.contains(['/', '\\']) || paths.contains("..") {
        return;
    }
    DIRECTORY.with(|directory| {
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, text).expect("a writable directory");
        if let Err(error) = Connection::from_kubeconfig(FlagFile::new("--kubeconfig", &path), None)
        {
            let line = error.to_string();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.starts_with("--kubeconfig "), "{line}");
            let names_it = ["context", "cluster", "user", "server", "file"];
            if line.contains(SECRET) {
                // A name may be called so; a value of a credential may not come out.
                assert!(names_it.iter().any(|word| line.contains(word)), "{line}");
            }
        }
    });
});
