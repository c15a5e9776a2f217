//! What stands in a log, in words: entries as `kvctl log` tells them, promises, ranges, sizes.

use bytes::Bytes;
use kvstore::store::command;
use raft::node::{Configuration, EntryKind, HardState};
use raft::storage::{decode_hard_state, entry_kind};
use serde_json::{Value, json};
use wal::{LostRange, Metadata, Position};

/// The kind of an entry, under the name that `kvctl log` gives it.
pub(super) fn kind(tag: u8) -> &'static str {
    match entry_kind(tag) {
        Some(EntryKind::Empty) => "empty",
        Some(EntryKind::Command) => "command",
        Some(EntryKind::Configuration) => "configuration",
        None => "unknown",
    }
}

/// What an entry says.
pub(super) fn entry(tag: u8, term: u64, payload: &Bytes) -> String {
    match entry_kind(tag) {
        Some(EntryKind::Empty) => format!("(a leader begins term {term})"),
        Some(EntryKind::Command) => command::describe(payload),
        Some(EntryKind::Configuration) => match Configuration::decode(payload) {
            Ok(configuration) => {
                let names = configuration.members().map(|member| member.id.to_string());
                format!("members {}", names.collect::<Vec<_>>().join(" "))
            }
            Err(error) => error.to_string(),
        },
        None => format!("no server writes entries of kind {tag}"),
    }
}

/// What a server promised.
pub(super) fn promise(metadata: Option<&Metadata>) -> String {
    match metadata.map(|metadata| decode_hard_state(metadata.as_bytes())) {
        Some(Ok(HardState { term, vote: Some(vote) })) => format!("term {term}, vote for {vote}"),
        Some(Ok(HardState { term, vote: None })) => format!("term {term}, no vote"),
        Some(Err(error)) => error.to_string(),
        None => "nothing".to_owned(),
    }
}

/// The same for programs.
pub(super) fn promise_json(metadata: Option<&Metadata>) -> Value {
    match metadata.map(|metadata| decode_hard_state(metadata.as_bytes())) {
        Some(Ok(HardState { term, vote })) => json!({
            "term": term.0,
            "vote": vote.map(|vote| json!({
                "id": vote.id.to_string(),
                // A number of 64 bits, which not every reader of JSON keeps.
                "incarnation": vote.incarnation.to_string(),
            })),
        }),
        Some(Err(_)) | None => Value::Null,
    }
}

/// The entries between two positions: after the first, up to the second.
pub(super) fn entries(after: Position, last: Position) -> String {
    match last.index.saturating_sub(after.index) {
        0 => format!("none (the next is {})", last.index.saturating_add(1)),
        1 => format!("{} of term {}", last.index, last.term),
        _ => format!("{}..={}, the last of term {}", after.index + 1, last.index, last.term),
    }
}

/// A row of entries, both ends included.
pub(super) fn row(first: Position, last: Position) -> String {
    // No entry is of term 0: it stands for a beginning that nobody knows.
    let term = match first.term {
        0 => format!("terms up to {}", last.term),
        term if term == last.term => format!("term {term}"),
        term => format!("terms {term}..={}", last.term),
    };
    if first.index == last.index {
        return format!("entry {} of {term}", first.index);
    }
    format!("entries {}..={} of {term}", first.index, last.index)
}

/// Entries that may be lost, as far as it is known which.
pub(super) fn lost(lost: &LostRange) -> String {
    let first = Position { index: lost.after.index.saturating_add(1), term: lost.after.term };
    match (lost.through, lost.term_max) {
        (Some(0), _) => "no entry, but perhaps promises".to_owned(),
        (Some(through), _) if through < first.index => format!(
            "promises or cuts that were written after entry {}, and what they put in the place of \
             entries up to {through}, if anything",
            lost.after.index
        ),
        (Some(through), Some(term)) => row(first, Position { index: through, term }),
        (Some(through), None) => format!("entries {}..={through}", first.index),
        (None, _) if first.term == 0 => format!("entries from {} on", first.index),
        (None, _) => format!("entries from {} on, of terms from {} on", first.index, first.term),
    }
}

/// A position for programs.
pub(super) fn position_json(position: Position) -> Value {
    json!({ "index": position.index, "term": position.term })
}

/// Entries that may be lost, for programs. What is not known is null.
pub(super) fn lost_json(lost: &LostRange) -> Value {
    json!({
        "from": lost.after.index.saturating_add(1),
        "to": lost.through,
        "term_min": lost.after.term,
        "term_max": lost.term_max,
    })
}

/// A size as people read it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => {
            let tenths = bytes % unit * 10 / unit;
            format!("{}.{tenths} {name}", bytes / unit)
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use wal::{LostRange, Position};

    use super::{entries, lost, row, size};

    #[test]
    fn ranges_are_told_as_people_say_them() {
        let at = Position::new;
        assert_eq!(entries(at(0, 0), at(9, 2)), "1..=9, the last of term 2");
        assert_eq!(entries(at(8, 1), at(9, 2)), "9 of term 2");
        assert_eq!(entries(at(9, 2), at(9, 2)), "none (the next is 10)");
        assert_eq!(row(at(3, 1), at(3, 1)), "entry 3 of term 1");
        assert_eq!(row(at(3, 1), at(4, 1)), "entries 3..=4 of term 1");
        assert_eq!(row(at(3, 1), at(4, 2)), "entries 3..=4 of terms 1..=2");
        assert_eq!(row(at(1, 0), at(4, 2)), "entries 1..=4 of terms up to 2");
    }

    #[test]
    fn what_is_lost_is_told_as_exactly_as_it_is_known() {
        let lost =
            |through, term_max| lost(&LostRange { after: Position::new(4, 1), through, term_max });
        assert_eq!(lost(Some(5), Some(1)), "entry 5 of term 1");
        assert_eq!(lost(Some(7), Some(2)), "entries 5..=7 of terms 1..=2");
        assert_eq!(lost(Some(7), None), "entries 5..=7");
        assert_eq!(lost(None, None), "entries from 5 on, of terms from 1 on");
        let replaced = "promises or cuts that were written after entry 4, and what they put in the \
                        place of entries up to 3, if anything";
        assert_eq!(lost(Some(3), Some(1)), replaced);
        assert_eq!(lost(Some(0), Some(1)), "no entry, but perhaps promises");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }
}
