//! Headers and framing that say one thing here and might say another one hop further.

use crate::world::{ALICES_TOKEN, MANAGED_TOKEN, World};

fn request(token: &str, lines: &[&str]) -> Vec<u8> {
    let mut text =
        format!("GET /managed/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn code(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[tokio::test]
async fn hard_case_1_no_connection_header_takes_our_statement_away() {
    let world = World::start().await;
    let spellings: [&[&str]; 7] = [
        &["Connection: close, X-Remote-User, x-remote-group, X-REMOTE-UID"],
        &[
            "connection: x-remote-user",
            "CONNECTION: Cluster-Proxy-Service,close",
        ],
        &["Connection: close,,\tAudit-ID ,cluster-proxy-proto"],
        &["Connection: Authorization, close"],
        &["Connection: impersonate-user,Impersonate-Group,close"],
        &[
            "Connection: close, X-Remote-User",
            "X-Remote-User: system:admin",
        ],
        &[
            "Connection: close",
            "Proxy-Connection: X-Remote-User",
            "Keep-Alive: X-Remote-User",
        ],
    ];
    for lines in spellings {
        let before = world.managed.seen().len();
        let answer = world.raw(&request(ALICES_TOKEN, lines)).await;
        assert_eq!(code(&answer), "200", "{lines:?}: {answer}");
        let seen = world.managed.seen().pop().unwrap();
        assert_eq!(world.managed.seen().len(), before + 1);
        assert_eq!(seen.all("x-remote-user"), ["alice"], "{lines:?}");
        assert_eq!(
            seen.all("x-remote-group"),
            ["devs", "system:authenticated"],
            "{lines:?}"
        );
        assert_eq!(seen.all("x-remote-uid"), ["u-1"], "{lines:?}");
        assert_eq!(
            seen.all("cluster-proxy-service"),
            ["kubernetes"],
            "{lines:?}"
        );
        assert_eq!(seen.all("cluster-proxy-proto"), ["https"], "{lines:?}");
        assert_eq!(seen.all("audit-id").len(), 1, "{lines:?}");
        assert_eq!(seen.all("authorization"), [""; 0], "{lines:?}");
        for gone in ["connection", "keep-alive", "proxy-connection"] {
            assert_eq!(seen.all(gone), [""; 0], "{lines:?}");
        }
    }
}

#[tokio::test]
async fn impersonation_hidden_behind_connection_is_still_refused() {
    let world = World::start().await;
    for lines in [
        [
            "Impersonate-User: system:admin",
            "Connection: close, Impersonate-User",
        ],
        [
            "IMPERSONATE-GROUP: system:masters",
            "Connection: impersonate-group, close",
        ],
    ] {
        let answer = world.raw(&request(ALICES_TOKEN, &lines)).await;
        assert_eq!(code(&answer), "400", "{lines:?}: {answer}");
    }
    assert_eq!(world.managed.accepted(), 0);
}

/// A stranger may name its own token in `Connection`: then it has sent none.
#[tokio::test]
async fn a_stranger_takes_away_only_what_is_its_own() {
    let world = World::start().await;
    let lines = [
        "Connection: close, Authorization, Cluster-Proxy-Port",
        "X-Remote-User: root",
    ];
    world.raw(&request(MANAGED_TOKEN, &lines)).await;
    let seen = world.managed.only();
    assert_eq!(seen.all("authorization"), [""; 0]);
    assert_eq!(seen.all("x-remote-user"), [""; 0]);
    assert_eq!(seen.all("cluster-proxy-port"), ["443"]);
}

/// Either the HTTP parser refuses these, or they stay the other headers that they are.
#[tokio::test]
async fn hard_case_3_odd_header_lines_never_become_identity() {
    let world = World::start().await;
    for line in [
        "X_Remote_User: system:admin",
        "Impersonate_Group: system:masters",
        "X-Remote-User : system:admin",
        "Impersonate-User\t: system:admin",
        " X-Remote-User: system:admin",
        "X-Anything: a\r\n X-Remote-User: system:admin",
        "X-R\u{e9}mote-User: system:admin",
        "X-Remote-User\0: system:admin",
        "X-Anything: a\nX-Remote-Group: system:masters",
    ] {
        let before = world.managed.seen().len();
        let answer = world
            .raw(&request(ALICES_TOKEN, &["Connection: close", line]))
            .await;
        let code = code(&answer);
        let seen = world.managed.seen();
        if seen.len() == before {
            assert!(code.starts_with('4'), "{line:?}: {answer}");
            continue;
        }
        let last = seen.last().unwrap();
        assert_eq!(last.all("x-remote-user"), ["alice"], "{line:?}");
        assert_eq!(
            last.all("x-remote-group"),
            ["devs", "system:authenticated"],
            "{line:?}"
        );
        let impersonates = last
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("impersonate-"));
        assert!(!impersonates, "{line:?}");
    }
}

/// Whatever a message with two framings means, it is never two requests further on.
#[tokio::test]
async fn hard_case_6_a_body_never_turns_into_a_second_request() {
    let world = World::start().await;
    let second = "GET /managed/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = format!("0\r\n\r\n{second}");
    let bare_line_feeds = format!("2\nok\n0\n\n{second}");
    let extension = format!("2;{}\r\nok\r\n0\r\n\r\n{second}", "a".repeat(20_000));
    for (framing, body) in [
        ("Content-Length: 5\r\nContent-Length: 5", second),
        ("Content-Length: 0, 53", second),
        ("Transfer-Encoding: chunked", bare_line_feeds.as_str()),
        ("Transfer-Encoding: chunked", extension.as_str()),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            chunked.as_str(),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            chunked.as_str(),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            chunked.as_str(),
        ),
        ("Content-Length: 0\r\nContent-Length: 53", second),
        ("Content-Length: +0", second),
        ("Content-Length: 0x0", second),
        ("Transfer-Encoding: chunked, identity", chunked.as_str()),
        ("Transfer-Encoding: xchunked", chunked.as_str()),
        ("Transfer-Encoding:\u{b}chunked", chunked.as_str()),
    ] {
        for version in ["1.1", "1.0"] {
            let text = format!(
                "POST /managed/api HTTP/{version}\r\nHost: x\r\n\
                 Authorization: Bearer {ALICES_TOKEN}\r\n{framing}\r\n\r\n{body}"
            );
            world.raw_for_a_while(text.as_bytes()).await;
        }
    }
    let seen = world.managed.seen();
    assert!(seen.iter().all(|seen| seen.target == "/api"), "{seen:#?}");
}

/// What follows an upgrade that was not made is a request of its own, and needs its own token.
#[tokio::test]
async fn hard_case_5_a_request_behind_a_refused_upgrade_is_authenticated() {
    let world = World::start().await;
    for upgrade in ["foo", "websocket", "h2c", "SPDY/3.1"] {
        let before = world.managed.seen().len();
        let text = format!(
            "GET /managed/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\
             Connection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n\
             GET /managed/second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let seen = world.managed.seen();
        assert_eq!(seen.len(), before + 1, "{seen:#?}");
        assert_eq!(seen.last().unwrap().target, "/api");
        if let Some(second) = answer[12..].find("HTTP/1.1 ") {
            assert_eq!(code(&answer[12 + second..]), "401", "{answer}");
        }
    }
}
