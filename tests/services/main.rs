//! What people run behind `proxy-service`, with clients that are not ours: a page with a WebSocket
//! in Chromium, gRPC's own interoperability tests, a download of a gigabyte; and beside it client-go,
//! and the managed cluster's audit log.
//!
//! The Services are those of real pods in the managed cluster (lab/go/services).

mod audit;
mod browser;
mod client_go;
mod download;
mod grpc;
mod setting;

use std::process::ExitCode;

use crate::setting::Setting;

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "services",
        Setting::new,
        &[
            ("a page with a WebSocket in Chromium", browser::page),
            ("gRPC over TLS", grpc::over_tls),
            ("gRPC in plain HTTP/2", grpc::in_plain_http2),
            ("a gigabyte", download::gigabyte),
            ("client-go with a written kubeconfig", client_go::works),
            ("one id in both logs", audit::one_id),
        ],
    )
}
