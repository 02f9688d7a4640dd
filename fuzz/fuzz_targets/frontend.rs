//! All that a client says on the frontend's Unix socket: a CONNECT head, HTTP/2 with gRPC's
//! authorities, or anything.

#![no_main]

use cluster_proxy_tunnel::frontend::{ConnectHead, FrontendConnection};
use cluster_proxy_tunnel::{ClientSocket, DialError, Http2Settings};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(head)) = ConnectHead::parse(bytes) {
        assert!(bytes[..head.length].ends_with(b"\n"));
        assert_eq!(ConnectHead::parse(&bytes[..head.length]), Ok(Some(head)));
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (near, far) = UnixStream::pair().expect("two sockets");
            let (mut answers, mut says) = far.into_split();
            let client = async {
                let _ = says.write_all(bytes).await;
                let _ = says.shutdown().await;
                let mut ignored = Vec::new();
                let _ = answers.read_to_end(&mut ignored).await;
            };
            tokio::join!(client, server(ClientSocket::Unix(near)));
        });
    });
});

async fn server(socket: ClientSocket) {
    let settings = Http2Settings::default();
    let Ok(mut connection) = FrontendConnection::open(socket, None, &settings).await else {
        return;
    };
    while let Ok(incoming) = connection.next().await {
        assert_ne!(incoming.target().port(), 0);
        let details = incoming.target().to_string();
        incoming.refuse(&DialError::Refused { details }).await;
    }
}
