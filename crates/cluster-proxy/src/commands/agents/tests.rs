use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers one connection with `answer`.
async fn answering(answer: &'static str) -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let read = socket.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /agents HTTP/1.1\r\n"));
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    HostPort::new("127.0.0.1", port)
}

#[tokio::test]
async fn what_is_no_admin_port_is_told_in_one_line() {
    for (answer, said) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "/agents is answered 404 Not Found",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "of another version: missing field",
        ),
        ("SSH-2.0-x\r\n", "is no admin port"),
        ("", "is no admin port"),
    ] {
        let address = answering(answer).await;
        let error = ask(&address).await.unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(error.starts_with(&format!("--admin-address {address}: ")));
        assert!(!error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn where_nothing_listens_it_says_where_the_port_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = ask(&HostPort::new("127.0.0.1", port)).await.unwrap_err();
    assert!(error.contains("kubectl exec"), "{error}");
}
