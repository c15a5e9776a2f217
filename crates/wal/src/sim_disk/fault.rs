//! Faults that are armed beforehand and strike at a chosen operation, and the count and record of
//! all operations.

use std::collections::BTreeMap;
use std::io;

/// What a program asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    /// Listing a directory.
    List,
    /// Opening a file.
    Open,
    /// Creating a file.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing a directory.
    SyncDirectory,
    /// Taking a lock.
    Lock,
    /// Opening or creating a subdirectory.
    Subdirectory,
    /// Asking for free space.
    Room,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// fdatasync.
    SyncData,
    /// fsync.
    SyncAll,
    /// Asking for a length.
    Len,
    /// Cutting or extending a file.
    SetLen,
    /// Forgetting cached pages.
    DropCache,
}

/// One remembered operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub kind: OperationKind,
    /// Of which file or directory.
    pub path: String,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error of the operating system. A sync that fails leaves pages that count
    /// as clean and are not durable: the next sync succeeds and helps nothing.
    Error(i32),
    /// A read or a write that does at most this many bytes.
    Short(usize),
    /// A write that says it was done and was not.
    LoseWrite,
    /// A write that lands this many bytes further on.
    Misdirect(u64),
    /// The power goes while the operation runs: a write is pending, a sync has done nothing, and
    /// every later operation fails until [`SimDisk::crash`](super::SimDisk::crash).
    PowerOff,
}

impl Fault {
    /// An input/output error.
    pub const EIO: Fault = Fault::Error(5);
    /// No space left.
    pub const ENOSPC: Fault = Fault::Error(28);
    /// Interrupted by a signal.
    pub const EINTR: Fault = Fault::Error(4);
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    after: u64,
    kind: Option<OperationKind>,
    fault: Fault,
}

/// What is armed and what was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    counts: BTreeMap<OperationKind, u64>,
    struck: Vec<Fault>,
    refused: u64,
    record: Option<Vec<Operation>>,
    is_off: bool,
}

impl Faults {
    pub(super) fn inject(&mut self, after: u64, kind: Option<OperationKind>, fault: Fault) {
        self.armed.push(Armed { after, kind, fault });
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn power_on(&mut self) {
        self.is_off = false;
        self.clear();
    }

    pub(super) fn count(&self, kind: Option<OperationKind>) -> u64 {
        match kind {
            Some(kind) => self.counts.get(&kind).copied().unwrap_or(0),
            None => self.counts.values().sum(),
        }
    }

    pub(super) fn struck(&self, fault: Fault) -> u64 {
        self.struck.iter().filter(|struck| **struck == fault).count() as u64
    }

    pub(super) fn take_struck(&mut self, fault: Fault) -> u64 {
        let count = self.struck(fault);
        self.struck.retain(|struck| *struck != fault);
        count
    }

    /// Something did not fit.
    pub(super) fn note_refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    pub(super) fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    pub(super) fn is_recording(&self) -> bool {
        self.record.is_some()
    }

    pub(super) fn recorded(&self) -> Vec<Operation> {
        self.record.clone().unwrap_or_default()
    }

    /// Counts an operation and says what goes wrong with it.
    pub(super) fn strike(
        &mut self,
        kind: OperationKind,
        operation: impl FnOnce() -> Operation,
    ) -> io::Result<Option<Fault>> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        if let Some(record) = &mut self.record {
            record.push(operation());
        }
        let mut struck = None;
        self.armed.retain_mut(|armed| {
            if armed.kind.is_some_and(|wanted| wanted != kind) {
                return true;
            }
            let is_now = armed.after == 0;
            armed.after = armed.after.saturating_sub(1);
            if is_now && struck.is_none() {
                struck = Some(armed.fault);
            }
            !is_now
        });
        if struck == Some(Fault::PowerOff) {
            self.is_off = true;
        }
        self.struck.extend(struck);
        Ok(struck)
    }
}

/// The error that a fault causes in an operation that it cannot shorten or redirect.
pub(super) fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Error(code) => io::Error::from_raw_os_error(code),
        _ => io::Error::other("the power went off"),
    }
}
