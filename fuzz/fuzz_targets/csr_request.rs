//! The PKCS #10 request of a CertificateSigningRequest: what is understood is one common name,
//! text and a key, whatever else the bytes may say to other readers.

#![no_main]

use cluster_proxy_addon_manager::csr::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    if let Ok(understood) = Request::parse(request) {
        assert!(!understood.public_key.is_empty());
        assert_eq!(Request::parse(request), Ok(understood), "read twice alike");
        let again = [request, b"\n"].concat();
        assert!(Request::parse(&again).is_ok(), "white space after it");
        let twice = [request, b"\n", request].concat();
        assert!(Request::parse(&twice).is_err(), "two of them");
    }
});
