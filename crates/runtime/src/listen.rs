//! Listeners whose failure names the flag that asked for them.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::StartError;
use crate::flags::HostPort;

/// Binds `address`; an empty host is all interfaces, IPv6 and IPv4 where the system has both.
///
/// # Errors
/// [`StartError::Failed`] naming `flag`, the address and the cause.
pub async fn listen(flag: &str, address: &HostPort) -> Result<TcpListener, StartError> {
    let attempt = if address.host.is_empty() {
        match TcpListener::bind(("::", address.port)).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", address.port)).await
            }
            other => other,
        }
    } else {
        TcpListener::bind((address.host.as_str(), address.port)).await
    };
    attempt.map_err(|error| {
        let cause = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the address is in use by another process".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        StartError::failed(format_args!("{flag} {address}: {cause}"))
    })
}

/// The address a listener got.
///
/// # Errors
/// [`StartError::Failed`] when the system does not tell.
pub fn local_address(flag: &str, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|error| StartError::failed(format_args!("{flag}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = listen("--server-port", &HostPort::new("127.0.0.1", 0))
            .await
            .unwrap();
        let port = local_address("--server-port", &first).unwrap().port();
        let error = listen("--server-port", &HostPort::new("127.0.0.1", port))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--server-port 127.0.0.1:{port}: the address is in use by another process")
        );
        assert_eq!(error.exit_code(), 1);
    }
}
