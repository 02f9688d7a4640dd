//! Paths and queries as the bytes that came, and URLs that are refused.

use crate::client::bearer;
use crate::world::{ALICES_TOKEN, MANAGED_TOKEN, World};

#[tokio::test]
async fn hard_case_9_and_10_path_and_query_arrive_as_the_bytes_that_were_sent() {
    let world = World::start().await;
    let many: String = (0..10_001).map(|_| "a&").collect();
    let many = format!("/api?{many}");
    let targets = [
        "/",
        "//",
        "/api/v1/pods",
        "/api//v1///pods/",
        "/a%2Fb/%2e%2e/../.%2E/./x",
        "/;a=b;c/..;/",
        "/%zz/%/%0",
        "/a\\b/c:d@e!$&'()*+,=~[]|^{}\"",
        "/caf\u{e9}/\u{65e5}\u{672c}",
        "/?",
        "/api?",
        "/api??a=/../b&a=%zz&&;=&a=1&a=2&%00",
        "/api?x=https://elsewhere/?y#",
        "/managed/api",
        "/..%2f..%2fother/api",
        "/api/v1/../../managed/version",
        many.as_str(),
    ];
    for target in targets {
        // A fragment, which no client sends, is cut off by the HTTP parser.
        let expected = target.trim_end_matches('#');
        let text = format!(
            "GET /managed{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {ALICES_TOKEN}\r\n\r\n"
        );
        let answer = world.raw(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{target:.80}: {answer}");
        let arrived = world.managed.seen().pop().unwrap().target;
        assert!(arrived == expected, "{target:.80}: {arrived:.80}");
    }
    for target in [
        "/",
        "/a%2Fb/%2e%2e/..;/",
        "/api??a=/../b&a=%zz&&;=&a",
        "//x",
    ] {
        let answer = world.get_as_alice(&format!("/managed{target}")).await;
        assert_eq!(answer.code, 200);
        assert_eq!(world.managed.seen().pop().unwrap().target, target);
    }
}

#[tokio::test]
async fn urls_without_a_cluster_are_taught_the_form() {
    let world = World::start().await;
    for path in [
        "/",
        "/?a=b",
        "/managed",
        "/managed?limit=1",
        "//api",
        "/UPPER/api",
        "/-x/api",
        "/a_b/api",
        "/..%2fmanaged/api",
        "/%6danaged/api",
        "/a@b/api",
        "/[::1]/api",
    ] {
        for token in [ALICES_TOKEN, MANAGED_TOKEN] {
            let answer = world.get(path, &[("authorization", &bearer(token))]).await;
            let message = answer.message(400, "BadRequest");
            assert!(
                message.contains("/<cluster>/<kubernetes api path>"),
                "{path}: {message}"
            );
        }
        world.get(path, &[]).await.message(401, "Unauthorized");
    }
    for head in [
        format!("OPTIONS * HTTP/1.1\r\nAuthorization: Bearer {ALICES_TOKEN}"),
        format!("CONNECT managed:443 HTTP/1.1\r\nAuthorization: Bearer {ALICES_TOKEN}"),
    ] {
        let text = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = world.raw(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(world.tunnel.dialled(), 0);
}

/// A URL in absolute form names the same cluster, whatever host it and `Host` name.
#[tokio::test]
async fn no_host_chooses_the_cluster() {
    let world = World::start().await;
    let text = format!(
        "GET https://other.example/managed/api?x HTTP/1.1\r\nHost: third.example\r\n\
         Connection: close\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\r\n"
    );
    let answer = world.raw(text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(world.managed.only().target, "/api?x");
}
