//! Memory for commands. What a socket is read into holds whatever came in one piece, and an entry
//! of the log that shared it would keep all of that for as long as the log is held. So small
//! commands are copied behind each other into pieces that hold nothing else: a copy of a few bytes
//! for each, and an allocation for each piece.

use bytes::{Bytes, BytesMut};

/// The size of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// A command that is longer stays where it was read: it fills a good part of that memory itself.
const COPIED_BYTES_MAX: usize = PIECE_BYTES / 4;

/// Where the next command is copied to.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    piece: BytesMut,
}

impl Gathered {
    /// The bytes of a command, which lie in `read`, for keeping.
    pub(super) fn keep(&mut self, read: &Bytes, command: &[u8]) -> Bytes {
        if command.len() > COPIED_BYTES_MAX {
            return read.slice_ref(command);
        }
        if self.piece.capacity() < command.len() {
            self.piece = BytesMut::with_capacity(PIECE_BYTES);
        }
        self.piece.extend_from_slice(command);
        self.piece.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_commands_lie_behind_each_other_and_large_ones_stay() {
        let mut gathered = Gathered::default();
        let read = Bytes::from(vec![7; 2 * PIECE_BYTES]);
        let kept: Vec<Bytes> = (0..1000_usize)
            .map(|number| gathered.keep(&read, read.get(number..number + 60).unwrap()))
            .collect();
        assert!(kept.iter().all(|it| it == &read[..60]));
        let behind = |pair: &[Bytes]| pair[0].as_ptr().wrapping_add(60) == pair[1].as_ptr();
        assert!(kept.windows(2).all(behind), "one piece holds them");
        assert!(!read.as_ptr_range().contains(&kept[0].as_ptr()));
        let large = gathered.keep(&read, &read[1..COPIED_BYTES_MAX + 2]);
        assert_eq!(large.as_ptr(), read[1..].as_ptr());
    }

    #[test]
    fn a_full_piece_is_followed_by_another() {
        let mut gathered = Gathered::default();
        let read = Bytes::from(vec![7; COPIED_BYTES_MAX]);
        let kept: Vec<Bytes> = (0..100).map(|_| gathered.keep(&read, &read)).collect();
        assert!(kept.iter().all(|it| *it == read));
    }
}
