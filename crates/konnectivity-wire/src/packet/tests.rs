use super::*;

fn connect(number: i64) -> ConnectId {
    ConnectId::new(number).unwrap()
}

fn request(address: &str, dial: i64) -> Packet {
    Packet::DialRequest {
        protocol: "tcp".to_owned(),
        address: address.to_owned(),
        dial: DialId::new(dial),
    }
}

fn response(dial: i64, result: Result<i64, &str>) -> Packet {
    Packet::DialResponse {
        dial: DialId::new(dial),
        result: result.map(connect).map_err(PeerText::new),
    }
}

fn data(number: i64, data: &'static [u8]) -> Packet {
    Packet::Data {
        connect: connect(number),
        data: Bytes::from_static(data),
    }
}

fn closed(number: i64, error: &str) -> Packet {
    Packet::CloseResponse {
        connect: connect(number),
        error: PeerText::new(error),
    }
}

fn bytes(hex: &str) -> Bytes {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// What `proto.Marshal` of Go writes for these packets of konnectivity-client 0.36.0.
fn golden() -> Vec<(Packet, &'static str)> {
    vec![
        (
            request("10.0.0.1:443", i64::MAX),
            "121d0a03746370120c31302e302e302e313a34343318ffffffffffffffff7f",
        ),
        (
            request("a:1", -2),
            "12150a037463701203613a3118feffffffffffffffff01",
        ),
        (request("a:1", 0), "120a0a037463701203613a31"),
        (response(7, Ok(300)), "08011a0510ac021807"),
        (response(7, Err("no")), "08011a060a026e6f1807"),
        (
            Packet::CloseRequest {
                connect: connect(1),
            },
            "08022a020801",
        ),
        (closed(1, ""), "080332021001"),
        (closed(1, "x"), "080332050a01781001"),
        (data(128, b"hi"), "080422070880011a026869"),
        (data(1, b""), "080422020801"),
        (
            Packet::CloseDial {
                dial: DialId::new(150),
            },
            "08053a03089601",
        ),
        (Packet::Drain, "08064200"),
    ]
}

#[test]
fn the_bytes_are_those_of_go() {
    for (packet, hex) in golden() {
        assert_eq!(packet.encode(), bytes(hex), "{packet:?}");
        assert_eq!(Packet::decode(bytes(hex)), Ok(packet));
    }
}

#[test]
fn what_says_nothing_is_ignored_and_what_is_no_message_ends_the_stream() {
    let error = |hex| Packet::decode(bytes(hex)).unwrap_err();
    // All of them as Go writes them: empty, a type alone, another payload, no connection id.
    assert_eq!(error(""), PacketError::Mismatch);
    assert_eq!(error("0804"), PacketError::Mismatch);
    assert_eq!(error("08044200"), PacketError::Mismatch);
    assert_eq!(error("0809"), PacketError::UnknownType(9));
    for nameless in ["080422041a026869", "08022a00", "08033200"] {
        assert_eq!(error(nameless), PacketError::MissingConnectId);
    }
    for ignored in ["", "0809", "080422041a026869"] {
        assert!(!error(ignored).ends_stream());
    }
    // Cut off, a text that is not UTF-8, a group's end without its start.
    for broken in ["0804220708", "12050a01ff1801", "0c"] {
        assert!(error(broken).ends_stream(), "{broken}");
    }
}

#[test]
fn unknown_fields_and_a_missing_drain_are_fine() {
    // Field 15 of the packet, field 9 of the data.
    let extended = bytes("7a01ff0804220908011a0268694a0178");
    assert_eq!(Packet::decode(extended), Ok(data(1, b"hi")));
    assert_eq!(Packet::decode(bytes("0806")), Ok(Packet::Drain));
}

#[test]
fn a_dial_response_is_one_thing_only() {
    // An error beside a connection id is an error; neither is one, too.
    let both = bytes("08011a0710011807 0a0178".replace(' ', "").as_str());
    assert_eq!(Packet::decode(both), Ok(response(7, Err("x"))));
    let neither = Packet::decode(bytes("08011a021807")).unwrap();
    assert!(
        matches!(&neither, Packet::DialResponse { result: Err(error), .. } if !error.is_empty()),
        "{neither:?}"
    );
    // An error without words stays an error on the next hop.
    let read = Packet::decode(response(7, Err("")).encode()).unwrap();
    assert_eq!(read, response(7, Err("unknown error")));
}

#[test]
fn data_is_not_copied() {
    let message = bytes("080422070880011a026869");
    let Ok(Packet::Data { data, .. }) = Packet::decode(message.clone()) else {
        panic!("no data");
    };
    assert_eq!(data.as_ptr(), message[message.len() - 2..].as_ptr());
}
