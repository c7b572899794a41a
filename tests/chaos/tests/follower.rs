//! Frames as followers remember them.

use crate::chaos::follower::frame;

#[test]
fn a_frame_is_its_seq_and_all_it_says() {
    let read = |text: &str| frame(text.as_bytes());
    let first = read("event: delta\nid: 7\ndata: {\"text\":\"a\",\"type\":\"delta\"}");
    assert_eq!(first.map(|(seq, _)| seq), Some(7));
    assert_eq!(
        first,
        read("event: delta\nid: 7\ndata: {\"type\":\"delta\",\"text\":\"a\"}")
    );
    assert_ne!(
        first,
        read("event: delta\nid: 7\ndata: {\"type\":\"delta\",\"text\":\"b\"}")
    );
    assert_eq!(read(": heartbeat"), None);
    assert_eq!(
        read("event: lagged\ndata: {\"type\":\"lagged\",\"missed\":3}"),
        None
    );
}
