use super::*;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).expect("test header name"),
            HeaderValue::from_str(value).expect("test header value"),
        );
    }
    map
}

#[test]
fn hard_case_1_removes_every_field_that_connection_names_in_any_spelling() {
    for spelling in [
        "Impersonate-User, impersonate-group, AUTHORIZATION",
        "close,IMPERSONATE-USER ,\tImpersonate-Group,,authorization",
        "impersonate-user;q=1, Impersonate-User,impersonate-Group,Authorization, @, ",
    ] {
        let mut map = headers(&[
            ("connection", spelling),
            ("impersonate-user", "mallory"),
            ("impersonate-group", "system:masters"),
            ("authorization", "Bearer x"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut map);
        let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"], "{spelling:?}");
    }
}

#[test]
fn several_connection_headers_count_together() {
    let mut map = headers(&[
        ("connection", "X-One"),
        ("Connection", "keep-alive"),
        ("CONNECTION", "x-TWO"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
    ]);
    remove_hop_by_hop(&mut map);
    assert_eq!(map, headers(&[("x-three", "3")]));
}

#[test]
fn what_is_set_after_the_removal_stays_whatever_connection_said() {
    let mut map = headers(&[
        ("connection", "Impersonate-User"),
        ("impersonate-user", "mallory"),
    ]);
    remove_hop_by_hop(&mut map);
    map.insert("impersonate-user", HeaderValue::from_static("alice"));
    assert_eq!(map, headers(&[("impersonate-user", "alice")]));
}

#[test]
fn hard_case_1_generated_connection_spellings_never_leave_a_named_field() {
    // Every pair of separators and every case pattern of the name's first four letters.
    let separators = [",", ", ", " ,", "\t,\t", ",,", " , , "];
    let mut tried = 0;
    for before in separators {
        for after in separators {
            for pattern in 0_u8..16 {
                let name: String = "impersonate-user"
                    .chars()
                    .enumerate()
                    .map(|(i, c)| {
                        if i < 4 && pattern & (1 << i) != 0 {
                            c.to_ascii_uppercase()
                        } else {
                            c
                        }
                    })
                    .collect();
                let value = format!("close{before}{name}{after}x");
                let mut map = headers(&[
                    ("connection", value.trim()),
                    ("impersonate-user", "mallory"),
                ]);
                remove_hop_by_hop(&mut map);
                assert!(map.is_empty(), "{value:?} left {map:?}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 576);
}

#[test]
fn keeps_trailer_and_remembers_te_trailers() {
    let mut map = headers(&[
        ("trailer", "grpc-status"),
        ("te", "deflate;q=0.5, Trailers"),
    ]);
    let asked = remove_hop_by_hop(&mut map);
    assert!(asked.trailers);
    assert_eq!(map, headers(&[("trailer", "grpc-status")]));

    assert!(!remove_hop_by_hop(&mut headers(&[("te", "deflate")])).trailers);
}

#[test]
fn hard_case_6_a_length_beside_transfer_encoding_is_dropped() {
    let mut map = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
    remove_hop_by_hop(&mut map);
    assert!(map.is_empty());

    let mut map = headers(&[("content-length", "5")]);
    remove_hop_by_hop(&mut map);
    assert_eq!(map, headers(&[("content-length", "5")]));
}

#[test]
fn an_upgrade_counts_only_when_connection_names_it() {
    let mut with = headers(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "SPDY/3.1"),
    ]);
    let asked = remove_hop_by_hop(&mut with);
    assert_eq!(
        carried_upgrade(&asked, Version::HTTP_11),
        Some(HeaderValue::from_static("SPDY/3.1"))
    );
    assert_eq!(carried_upgrade(&asked, Version::HTTP_2), None);
    assert_eq!(carried_upgrade(&asked, Version::HTTP_10), None);
    assert!(with.is_empty());

    let asked = remove_hop_by_hop(&mut headers(&[("upgrade", "websocket")]));
    assert_eq!(carried_upgrade(&asked, Version::HTTP_11), None);
}

#[test]
fn upgrades_that_would_hide_requests_are_not_carried() {
    for protocol in ["h2c", "H2C", "websocket, h2c", "TLS/1.2", "HTTP/2.0", " "] {
        let asked = remove_hop_by_hop(&mut headers(&[
            ("connection", "upgrade"),
            ("upgrade", protocol),
        ]));
        assert_eq!(
            carried_upgrade(&asked, Version::HTTP_11),
            None,
            "{protocol}"
        );
    }
}

#[test]
fn forwarded_for_is_appended_not_replaced() {
    let mut map = headers(&[("x-forwarded-for", "203.0.113.9")]);
    append_forwarded_for(&mut map, "::ffff:192.0.2.1".parse().expect("address"));
    let all: Vec<_> = map.get_all("x-forwarded-for").iter().collect();
    assert_eq!(all, ["203.0.113.9", "192.0.2.1"]);
}

#[test]
fn tokens_of_a_list_go_one_by_one() {
    let name = HeaderName::from_static("sec-websocket-protocol");
    let secret = |token: &[u8]| token.starts_with(b"secret.");
    let mut map = headers(&[
        ("sec-websocket-protocol", "v5.channel.k8s.io, secret.abc"),
        ("sec-websocket-protocol", "secret.def"),
        ("sec-websocket-protocol", "v4.channel.k8s.io"),
    ]);
    remove_tokens(&mut map, &name, secret);
    let left: Vec<_> = map.get_all(&name).iter().collect();
    assert_eq!(left, ["v5.channel.k8s.io", "v4.channel.k8s.io"]);

    let mut map = headers(&[("sec-websocket-protocol", " secret.abc")]);
    remove_tokens(&mut map, &name, secret);
    assert!(map.is_empty());

    let untouched = headers(&[("sec-websocket-protocol", "a ,b")]);
    let mut map = untouched.clone();
    remove_tokens(&mut map, &name, secret);
    assert_eq!(map, untouched);
}
