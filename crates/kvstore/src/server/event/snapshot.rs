//! The words for what happens to snapshots.

use std::fmt;

use raft::replica::SnapshotEvent;

use super::{Field, milliseconds};

pub(super) fn name(event: &SnapshotEvent) -> &'static str {
    match event {
        SnapshotEvent::Written { .. } => "snapshot",
        SnapshotEvent::NotWritten { .. } => "snapshot-failed",
        SnapshotEvent::Sending { .. } => "sending",
        SnapshotEvent::Sent { .. } => "sent",
        SnapshotEvent::Receiving { .. } => "receiving",
        SnapshotEvent::Received { .. } => "received",
        SnapshotEvent::NotReceived { .. } => "receiving-failed",
        SnapshotEvent::Damaged { .. } => "snapshot-damaged",
    }
}

pub(super) fn fields(event: &SnapshotEvent) -> Vec<(&'static str, Field)> {
    match event {
        SnapshotEvent::Written { index, bytes, took, log_from } => vec![
            ("index", index.0.into()),
            ("bytes", (*bytes).into()),
            ("took_ms", milliseconds(*took).into()),
            ("log_from", log_from.0.into()),
        ],
        SnapshotEvent::Sending { to, index, offset, bytes } => vec![
            ("to", (*to).into()),
            ("index", index.0.into()),
            ("offset", (*offset).into()),
            ("bytes", (*bytes).into()),
        ],
        SnapshotEvent::Sent { to, index, bytes } => {
            vec![("to", (*to).into()), ("index", index.0.into()), ("bytes", (*bytes).into())]
        }
        SnapshotEvent::Receiving { from, index, offset, bytes } => vec![
            ("from", (*from).into()),
            ("index", index.0.into()),
            ("offset", (*offset).into()),
            ("bytes", (*bytes).into()),
        ],
        SnapshotEvent::Received { index, bytes, took } => vec![
            ("index", index.0.into()),
            ("bytes", (*bytes).into()),
            ("took_ms", milliseconds(*took).into()),
        ],
        SnapshotEvent::NotWritten { reason }
        | SnapshotEvent::NotReceived { reason }
        | SnapshotEvent::Damaged { reason } => vec![("reason", reason.clone().into())],
    }
}

pub(super) fn fmt(f: &mut fmt::Formatter<'_>, event: &SnapshotEvent) -> fmt::Result {
    match event {
        SnapshotEvent::Written { index, bytes, took, log_from } => write!(
            f,
            "snapshot    at {index}, {} in {} ms; log now from {log_from}",
            Size(*bytes),
            milliseconds(*took)
        ),
        SnapshotEvent::NotWritten { reason } => {
            write!(f, "snapshot    could not be written, will be tried again: {reason}")
        }
        SnapshotEvent::Sending { to, index, offset: 0, bytes } => {
            write!(f, "sending     the snapshot at {index}, {}, to {to}", Size(*bytes))
        }
        SnapshotEvent::Sending { to, index, offset, bytes } => write!(
            f,
            "sending     the snapshot at {index} to {to} again, from {} of {} on",
            Size(*offset),
            Size(*bytes)
        ),
        SnapshotEvent::Sent { to, index, bytes } => {
            write!(f, "sent        the snapshot at {index}, {}, to {to}", Size(*bytes))
        }
        SnapshotEvent::Receiving { from, index, offset: 0, bytes } => {
            write!(f, "receiving   the snapshot at {index}, {}, from {from}", Size(*bytes))
        }
        SnapshotEvent::Receiving { from, index, offset, bytes } => write!(
            f,
            "receiving   the snapshot at {index} from {from} again, from {} of {} on",
            Size(*offset),
            Size(*bytes)
        ),
        SnapshotEvent::Received { index, bytes, took } => write!(
            f,
            "received    the snapshot at {index}, {}; checked and read in {} ms",
            Size(*bytes),
            milliseconds(*took)
        ),
        SnapshotEvent::NotReceived { reason } => {
            write!(f, "receiving   a snapshot failed, will be tried again: {reason}")
        }
        SnapshotEvent::Damaged { reason } => {
            write!(f, "damaged     a snapshot; another one is written: {reason}")
        }
    }
}

/// Bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 10 << 10 => write!(f, "{bytes} bytes"),
            bytes if bytes < 10 << 20 => write!(f, "{} KB", bytes / 1000),
            bytes => write!(f, "{} MB", bytes / 1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft::node::{Index, NodeId};

    use super::super::Event;
    use super::*;

    #[test]
    fn the_story_of_snapshots_reads_like_this() {
        let id = |name| NodeId::new(name).unwrap();
        let index = Index(120_034);
        let (bytes, took, log_from) = (61 << 20, Duration::from_millis(410), Index(118_001));
        let events = [
            SnapshotEvent::Written { index, bytes, took, log_from },
            SnapshotEvent::Sending { to: id("s3"), index, offset: 0, bytes },
            SnapshotEvent::Receiving { from: id("s1"), index, offset: 20 << 20, bytes },
        ];
        let lines = events.map(|event| Event::Snapshot { event }.to_string());
        let expected = [
            "snapshot    at 120034, 63 MB in 410 ms; log now from 118001",
            "sending     the snapshot at 120034, 63 MB, to s3",
            "receiving   the snapshot at 120034 from s1 again, from 20 MB of 63 MB on",
        ];
        assert_eq!(lines, expected);
    }
}
