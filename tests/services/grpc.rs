//! gRPC's own interoperability tests (unary, streams both ways, deadlines, metadata, trailers with
//! a status) and health checks, by grpc-go on both ends.

use anyhow::{Result, ensure};
use cluster_proxy_testkit::installation::CLUSTER;

use crate::setting::{Setting, output_of, service_path, services_program};

pub(crate) fn over_tls(setting: &Setting) -> Result<()> {
    call(setting, "https:site:grpc-tls")
}

pub(crate) fn in_plain_http2(setting: &Setting) -> Result<()> {
    call(setting, "http:site:grpc")
}

fn call(setting: &Setting, service: &str) -> Result<()> {
    let token = setting.file("token");
    std::fs::write(&token, &setting.token)?;
    let mut client = setting.program(services_program()?, 60);
    client
        .arg("grpc")
        .arg(setting.installation.url())
        .arg(setting.installation.ca())
        .arg(format!("/{CLUSTER}{}", service_path(service, "")))
        .arg(token);
    let printed = output_of(client)?;
    ensure!(printed == "all of it works\n", "{printed}");
    Ok(())
}
