//! konnectivity's packets in their gRPC frames, in pieces of any size: what was understood is
//! written and read again as the same.

#![no_main]

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::framing::{PREFIX, Unframer, frame};
use cluster_proxy_konnectivity_wire::{DialFailureKind, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let mut unframer = Unframer::default();
    for piece in stream.chunks(usize::from(size) + 1) {
        unframer.push(Bytes::copy_from_slice(piece));
        loop {
            match unframer.next_message() {
                Ok(Some(message)) => one(message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

fn one(message: Bytes) {
    let packet = match Packet::decode(message) {
        Ok(packet) => packet,
        Err(error) => {
            assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error:?}");
            return;
        }
    };
    let text = match &packet {
        Packet::DialResponse {
            result: Err(error), ..
        }
        | Packet::CloseResponse { error, .. } => Some(error),
        _ => None,
    };
    if let Some(text) = text {
        assert!(!text.as_str().contains(char::is_control), "{text:?}");
        let _ = DialFailureKind::of(text);
    }
    let framed = frame(&packet);
    assert_eq!(framed[PREFIX..], packet.encode());
    let again = Packet::decode(framed.slice(PREFIX..));
    assert_eq!(again, Ok(packet), "written otherwise than read");
}
