//! Term and vote in bytes, as the log keeps them beside its entries.

use super::log_store::LogError;
use crate::node::{HardState, Incarnation, Member, NodeId, Term};

/// The hard state as the log's metadata, little endian: version, term, incarnation of the vote,
/// length of the vote's name (0 for none), the name.
const HARD_STATE_VERSION: u8 = 1;

pub(super) fn encode_hard_state(state: HardState) -> Result<wal::Metadata, LogError> {
    let name = state.vote.as_ref().map_or("", |vote| vote.id.as_str());
    let incarnation = state.vote.map_or(0, |vote| vote.incarnation.0);
    let mut bytes = vec![HARD_STATE_VERSION];
    bytes.extend_from_slice(&state.term.0.to_le_bytes());
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    bytes.push(u8::try_from(name.len()).unwrap_or(0));
    bytes.extend_from_slice(name.as_bytes());
    wal::Metadata::new(&bytes).map_err(|error| LogError::Meaning(error.to_string()))
}

/// The term and vote that a log's metadata stands for.
///
/// # Errors
/// It is not what a server writes.
pub fn decode_hard_state(bytes: &[u8]) -> Result<HardState, LogError> {
    let decoded = || -> Option<HardState> {
        let (&version, rest) = bytes.split_first()?;
        let (term, rest) = rest.split_first_chunk::<8>()?;
        let (incarnation, rest) = rest.split_first_chunk::<8>()?;
        let (&length, name) = rest.split_first()?;
        if version != HARD_STATE_VERSION || name.len() != usize::from(length) {
            return None;
        }
        let vote = match std::str::from_utf8(name).ok()? {
            "" => None,
            name => Some(Member {
                id: NodeId::new(name).ok()?,
                incarnation: Incarnation(u64::from_le_bytes(*incarnation)),
            }),
        };
        Some(HardState { term: Term(u64::from_le_bytes(*term)), vote })
    };
    decoded().ok_or_else(|| LogError::Meaning(format!("{bytes:02x?} is no term and vote")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_state_survives_in_these_very_bytes() {
        let vote = Member { id: NodeId::new("s2").unwrap(), incarnation: Incarnation(258) };
        let state = HardState { term: Term(6), vote: Some(vote) };
        let metadata = encode_hard_state(state).unwrap();
        assert_eq!(metadata.as_bytes(), b"\x01\x06\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x02s2");
        assert_eq!(decode_hard_state(metadata.as_bytes()).unwrap(), state);
        let none = HardState { term: Term(1), vote: None };
        let metadata = encode_hard_state(none).unwrap();
        assert_eq!(decode_hard_state(metadata.as_bytes()).unwrap(), none);
    }

    #[test]
    fn a_cut_or_strange_hard_state_is_refused() {
        for bytes in [b"".as_slice(), b"\x02", b"\x01\x06\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x03s2"]
        {
            assert!(decode_hard_state(bytes).is_err(), "{bytes:?}");
        }
    }
}
