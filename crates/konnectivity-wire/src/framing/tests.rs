use super::*;
use crate::ConnectId;

fn packets() -> Vec<Packet> {
    let data = |data: &[u8]| Packet::Data {
        connect: ConnectId::new(1).unwrap(),
        data: Bytes::copy_from_slice(data),
    };
    vec![data(b"hello"), Packet::Drain, data(b""), data(&[7; 300])]
}

#[test]
fn any_pieces_give_the_same_messages() {
    let stream: Vec<u8> = packets().iter().flat_map(frame).collect();
    for size in 1..=stream.len() {
        let mut unframer = Unframer::default();
        let mut read = Vec::new();
        for piece in stream.chunks(size) {
            unframer.push(Bytes::copy_from_slice(piece));
            while let Some(message) = unframer.next_message().unwrap() {
                read.push(Packet::decode(message).unwrap());
            }
            let held = unframer.piece.len() + unframer.partial.len();
            assert!(held <= PREFIX + 310, "{held} bytes held");
        }
        assert_eq!(read, packets(), "in pieces of {size}");
        assert!(unframer.is_empty());
    }
}

#[test]
fn pieces_may_be_pushed_before_messages_are_taken() {
    let mut unframer = Unframer::default();
    for packet in packets() {
        unframer.push(frame(&packet));
    }
    for packet in packets() {
        let message = unframer.next_message().unwrap().unwrap();
        assert_eq!(Packet::decode(message), Ok(packet));
    }
    assert_eq!(unframer.next_message(), Ok(None));
}

#[test]
fn a_cut_message_shows() {
    let whole = frame(&Packet::Drain);
    let mut unframer = Unframer::default();
    unframer.push(whole.slice(..whole.len() - 1));
    assert_eq!(unframer.next_message(), Ok(None));
    assert!(!unframer.is_empty());
}

#[test]
fn what_was_not_agreed_on_is_refused_by_the_prefix_alone() {
    let error = |prefix: &'static [u8]| {
        let mut unframer = Unframer::default();
        unframer.push(Bytes::from_static(prefix));
        unframer.next_message()
    };
    assert_eq!(error(&[1, 0, 0, 0, 1]), Err(FramingError::Flag(1)));
    assert_eq!(error(b"HTTP/"), Err(FramingError::Flag(b'H')));
    assert_eq!(
        error(&[0, 0, 64, 0, 1]),
        Err(FramingError::TooLong((4 << 20) + 1))
    );
    assert_eq!(error(&[0, 0, 64, 0, 0]), Ok(None));
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let whole = frame(&Packet::Drain);
    let mut unframer = Unframer::default();
    unframer.push(whole.clone());
    let message = unframer.next_message().unwrap().unwrap();
    assert_eq!(message.as_ptr(), whole[PREFIX..].as_ptr());
}

#[test]
fn the_longest_data_is_taken() {
    let packet = Packet::Data {
        connect: ConnectId::new(-1).unwrap(),
        data: vec![7; MAX_DATA].into(),
    };
    let mut unframer = Unframer::default();
    unframer.push(frame(&packet));
    let message = unframer.next_message().unwrap().unwrap();
    assert_eq!(Packet::decode(message), Ok(packet));
}
