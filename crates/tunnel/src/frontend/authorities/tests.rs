use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A POST with this authority: not encoded, or as Huffman's code has it.
fn block(authority: &str, huffman: bool) -> Vec<u8> {
    let mut value = Vec::new();
    if huffman {
        httlib_huffman::encode(authority.as_bytes(), &mut value).unwrap();
    } else {
        value.extend_from_slice(authority.as_bytes());
    }
    assert!(value.len() < 127);
    let mut block = vec![0x83, 0x86, 0x84, 0x41];
    block.push(u8::try_from(value.len()).unwrap() | if huffman { 0x80 } else { 0 });
    block.extend(value);
    // Indexed by what was just added to the table, and a literal that is not.
    block.extend([0xbe, 0x00, 1, b'a', 1, b'b']);
    block
}

#[test]
fn only_what_is_no_authority_is_replaced() {
    for huffman in [false, true] {
        for valid in ["localhost", "127.0.0.1:8090", "service.ns:80", "[::1]:443"] {
            assert_eq!(block::with_a_valid_authority(&block(valid, huffman)), None);
        }
        for wrong in ["%2Frun%2Fa.sock", "/run/a.sock", "a b"] {
            let new = block::with_a_valid_authority(&block(wrong, huffman)).unwrap();
            assert_eq!(new, block(&"x".repeat(wrong.len()), false), "{wrong}");
        }
    }
    let long = "/".repeat(300);
    let mut wire = vec![0x41, 0x7f, 0xad, 0x01];
    wire.extend(long.bytes());
    let new = block::with_a_valid_authority(&wire).unwrap();
    assert_eq!(new[..4], wire[..4]);
    assert!(new.len() == 304 && new.ends_with(b"xxx"));
}

#[test]
fn a_block_that_is_none_is_left_to_others() {
    let whole = block("/run/a.sock", true);
    for length in 0..whole.len() {
        let _ = block::with_a_valid_authority(&whole[..length]);
    }
    assert_eq!(block::with_a_valid_authority(&[0x41, 0xff]), None);
    assert_eq!(
        block::with_a_valid_authority(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        None
    );
}

fn headers(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], HEADERS, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn frames_come_through_whole_however_they_are_cut() {
    let mut wire = crate::frontend::PREFACE.to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let data = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[7; 0x4000]].concat();
    wire.extend(settings);
    let mut expected = wire.clone();
    let path = block("%2Fa.sock", true);
    let replaced = block(&"x".repeat(9), false);
    let padded = [&[2, 0, 0, 0, 0, 16][..], &path, &[0, 0]].concat();
    wire.extend(headers(END_HEADERS | PADDED | PRIORITY, &padded));
    expected.extend(headers(END_HEADERS, &replaced));
    wire.extend(&data);
    expected.extend(&data);
    wire.extend(headers(END_HEADERS | 1, &path));
    expected.extend(headers(END_HEADERS | 1, &replaced));
    // In pieces it is nobody's that is meant here.
    wire.extend(headers(0, &path));
    expected.extend(headers(0, &path));
    // The end in the middle of a frame.
    wire.extend(&headers(END_HEADERS, &path)[..20]);
    expected.extend(&headers(END_HEADERS, &path)[..20]);

    for (cut, room) in [(1, 1), (7, 100), (100, 3), (1 << 20, 1 << 20)] {
        let (near, mut far) = duplex(cut);
        let wire = wire.clone();
        let writing = tokio::spawn(async move { far.write_all(&wire).await.unwrap() });
        let mut io = Authorities::replaced(BytesMut::new(), near);
        let mut seen = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            let read = io.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            seen.extend_from_slice(&buffer[..read]);
        }
        writing.await.unwrap();
        assert!(seen == expected, "cut by {cut}, read by {room}");
    }
}

/// h2 itself takes the requests, more of them than its table has room for.
#[tokio::test]
async fn tables_stay_in_step() {
    let (near, far) = duplex(1 << 16);
    let client = tokio::spawn(client(far));
    let mut server = h2::server::handshake(Authorities::replaced(BytesMut::new(), near))
        .await
        .unwrap();
    let mut paths = Vec::new();
    while let Some(request) = server.accept().await {
        let (request, mut respond) = request.unwrap();
        assert_eq!(request.method(), Method::POST);
        paths.push(request.headers()["n"].to_str().unwrap().to_owned());
        respond
            .send_response(http::Response::new(()), true)
            .unwrap();
    }
    client.await.unwrap();
    let expected: Vec<String> = (0..300).map(|n| format!("{n:0>40}")).collect();
    assert_eq!(paths, expected);
}

/// Speaks as grpc-go does: the authority is added to the table once and again whenever it has gone,
/// and each request adds one more header.
async fn client(mut io: DuplexStream) {
    const ENTRY: usize = 32 + 1 + 40;
    let path = "%2Fvar%2Frun%2Fkonnectivity.sock";
    let mut wire = crate::frontend::PREFACE.to_vec();
    wire.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // Entries added since the authority, newest last.
    let mut since: Option<usize> = None;
    for n in 0..300_u32 {
        let mut fields = vec![0x83, 0x86, 0x84];
        match since {
            // The static table has 61.
            Some(since) if (since + 1) * ENTRY + 32 + 10 + path.len() <= 4096 => {
                let index = 62 + since;
                if index < 127 {
                    fields.push(0x80 | u8::try_from(index).unwrap());
                } else {
                    fields.extend([0xff, u8::try_from(index - 127).unwrap()]);
                }
            }
            _ => {
                let mut value = Vec::new();
                httlib_huffman::encode(path.as_bytes(), &mut value).unwrap();
                fields.extend([0x41, 0x80 | u8::try_from(value.len()).unwrap()]);
                fields.extend(value);
                since = Some(0);
            }
        }
        fields.extend([0x40, 1, b'n', 40]);
        fields.extend(format!("{n:0>40}").bytes());
        since = since.map(|since| since + 1);
        let mut frame = headers(END_HEADERS | 1, &fields);
        frame[5..9].copy_from_slice(&(2 * n + 1).to_be_bytes());
        wire.extend(frame);
    }
    io.write_all(&wire).await.unwrap();
    let mut answers = Vec::new();
    let reading = async { io.read_to_end(&mut answers).await };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reading).await;
    assert!(answers.len() > 300 * HEAD);
}
