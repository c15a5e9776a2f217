//! Staging: appends are checked and merged in memory into the next batch.
//!
//! Everything that can be refused is refused while staging, before a byte is written and before
//! anything is changed. Once staged, an append is carried out or the log is poisoned.

use std::collections::VecDeque;

use crate::entry::{Append, Entry, Position, Ticket};
use crate::error::{AppendError, WalError};
use crate::staged::{Staged, bytes_max};
use crate::wal::Wal;

/// Whether an append brings entries, which may not take what is reserved for records without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Entries,
    Control,
}

impl Wal {
    /// Queues an append, merged with what is queued already, for the next
    /// [`commit`](Wal::commit).
    ///
    /// An append of nothing takes the ticket of the one before it. If this append and the queued
    /// ones together are more than one batch, the queued ones are committed first, here; if a
    /// commit is running elsewhere at that time, the append is refused with
    /// [`AppendError::InFlight`].
    pub fn stage<E>(&mut self, append: Append<E>) -> Result<Ticket, AppendError>
    where
        E: IntoIterator<Item = Entry>,
    {
        if let Some(failure) = &self.poison {
            return Err(AppendError::Poisoned(failure.clone()));
        }
        let Append { metadata, reset, truncate_after, entries } = append;
        let base = self.base_of(reset, truncate_after)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.extend(entries);
        let result = self.check_entries(base, &scratch).and_then(|payload_bytes| {
            let is_nothing = metadata.is_none() && reset.is_none() && base == self.last;
            if is_nothing && scratch.is_empty() {
                return Ok(());
            }
            self.make_way(scratch.len() as u64, payload_bytes, reset)?;
            if let Some(position) = reset {
                self.stage_reset(position);
            }
            if let Some(metadata) = metadata {
                self.metadata = Some(metadata);
                self.staged.metadata = Some(metadata);
            }
            self.stage_truncation(base);
            self.stage_entries(&mut scratch, payload_bytes);
            self.ticket = Ticket(self.ticket.0.saturating_add(1));
            Ok(())
        });
        scratch.clear();
        self.scratch = scratch;
        result.map(|()| self.ticket)
    }

    /// The position that the entries of an append follow.
    fn base_of(
        &self,
        reset: Option<Position>,
        truncate_after: Option<u64>,
    ) -> Result<Position, AppendError> {
        let (start, last) = match reset {
            Some(position) if position.index == u64::MAX => {
                return Err(AppendError::ResetOutOfRange { position });
            }
            Some(position) => (position, position),
            None => (self.start, self.last),
        };
        match truncate_after {
            None => Ok(last),
            Some(index) if index == last.index => Ok(last),
            Some(truncate_after) => {
                let term = match reset {
                    Some(_) => None,
                    None => self.term(truncate_after),
                };
                let out_of_range = AppendError::TruncateOutOfRange {
                    truncate_after,
                    start: start.index,
                    last: last.index,
                };
                term.map(|term| Position { index: truncate_after, term }).ok_or(out_of_range)
            }
        }
    }

    /// Sees to it that each entry follows the one before; returns the bytes of their payloads.
    fn check_entries(&self, base: Position, entries: &[Entry]) -> Result<u64, AppendError> {
        let mut last = base;
        let mut payload_bytes = 0_u64;
        for entry in entries {
            let position = entry.position();
            if last.index.checked_add(1) != Some(position.index) || position.term < last.term {
                return Err(AppendError::NotContiguous { expected_after: last, found: position });
            }
            let bytes = entry.payload_bytes();
            if bytes > self.options.record_bytes_max {
                let max = self.options.record_bytes_max;
                return Err(AppendError::RecordTooLarge { index: position.index, bytes, max });
            }
            payload_bytes = payload_bytes.saturating_add(bytes);
            last = position;
        }
        Ok(payload_bytes)
    }

    /// Sees to it that an append fits into a batch, and that batch into a segment.
    fn make_way(
        &mut self,
        count: u64,
        payload_bytes: u64,
        reset: Option<Position>,
    ) -> Result<(), AppendError> {
        let alone = bytes_max(count, payload_bytes);
        let max = self.options.batch_bytes_max;
        if alone > max {
            return Err(AppendError::BatchTooLarge { bytes: alone, max });
        }
        let weight = if count > 0 { Weight::Entries } else { Weight::Control };
        let is_reset = reset.is_some() || self.staged.reset.is_some();
        let merged = match reset {
            Some(_) => alone,
            None => bytes_max(
                self.staged.count(self.last.index).saturating_add(count),
                self.staged.payload_bytes.saturating_add(payload_bytes),
            ),
        };
        if merged <= max {
            return self.ensure_room(merged, weight, is_reset);
        }
        if self.in_flight.is_some() {
            return Err(AppendError::InFlight { bytes: alone });
        }
        self.flush().map_err(AppendError::Poisoned)?;
        self.ensure_room(alone, weight, reset.is_some())
    }

    /// Whether an append can be staged now without overfilling the batch behind a flush.
    pub(crate) fn fits_behind_flush(&self, append: &Append) -> bool {
        if self.in_flight.is_none() || append.reset.is_some() {
            return true;
        }
        let count = self.staged.count(self.last.index).saturating_add(append.entries.len() as u64);
        let added: u64 = append.entries.iter().map(Entry::payload_bytes).sum();
        let bytes = bytes_max(count, self.staged.payload_bytes.saturating_add(added));
        bytes <= self.options.batch_bytes_max || self.staged.is_empty(self.last.index)
    }

    fn stage_reset(&mut self, position: Position) {
        self.recent.clear();
        self.recent_bytes = 0;
        self.runs.clear();
        self.lost.clear();
        self.start = position;
        self.last = position;
        self.lower_durable(position);
        self.staged = Staged {
            reset: Some(position),
            metadata: self.staged.metadata,
            ..Staged::nothing_after(position.index)
        };
    }

    fn stage_truncation(&mut self, keep: Position) {
        if keep.index >= self.last.index {
            return;
        }
        while self.recent.back().is_some_and(|newest| newest.index > keep.index) {
            let Some(cut) = self.recent.pop_back() else { break };
            self.recent_bytes = self.recent_bytes.saturating_sub(cut.memory_bytes());
            if cut.index >= self.staged.first {
                let bytes = cut.payload_bytes();
                self.staged.payload_bytes = self.staged.payload_bytes.saturating_sub(bytes);
            }
        }
        self.runs.truncate_after(keep.index);
        self.lost.retain(|index, _| *index <= keep.index);
        self.last = keep;
        // Entries that were only queued leave no trace; a record is needed for committed ones.
        if keep.index.saturating_add(1) < self.staged.first {
            self.staged.first = keep.index.saturating_add(1);
            self.staged.truncate = Some(keep);
        }
        self.lower_durable(keep);
    }

    /// What is cut counts as durable no more, also not when a batch in flight completes.
    fn lower_durable(&mut self, keep: Position) {
        let in_flight = self.in_flight.as_mut().map(|in_flight| &mut in_flight.durable);
        for durable in std::iter::once(&mut self.durable).chain(in_flight) {
            if durable.index > keep.index {
                *durable = keep;
            }
        }
    }

    fn stage_entries(&mut self, entries: &mut Vec<Entry>, payload_bytes: u64) {
        for run in entries.chunk_by(|one, next| one.term == next.term) {
            let noted = run.first().and_then(|first| self.runs.push(first.position()));
            assert!(noted.is_some(), "a checked entry does not continue the terms of the log");
        }
        let Some(newest) = entries.last() else { return };
        self.last = newest.position();
        let overhead = (entries.len() as u64).saturating_mul(size_of::<Entry>() as u64);
        let memory_bytes = payload_bytes.saturating_add(overhead);
        // Two queues are joined by copying memory, and a vector becomes one and back for nothing.
        let mut queue = VecDeque::from(std::mem::take(entries));
        self.recent.append(&mut queue);
        *entries = queue.into();
        self.recent_bytes = self.recent_bytes.saturating_add(memory_bytes);
        self.staged.payload_bytes = self.staged.payload_bytes.saturating_add(payload_bytes);
    }

    /// Drops the entries up to and including `through`.
    ///
    /// Readers lose them at once. The files go after the next commit has made the new start
    /// durable, by a job. With nothing to drop it takes the ticket of whatever was staged before.
    pub fn drop_prefix(&mut self, through: u64) -> Result<Ticket, WalError> {
        self.check_poison()?;
        if through <= self.start.index {
            return Ok(self.ticket);
        }
        let Some(term) = self.term(through) else {
            return Err(WalError::PrefixOutOfRange { through, last: self.last.index });
        };
        let bytes = self.staged.bytes_max(self.last.index);
        let is_reset = self.staged.reset.is_some();
        self.ensure_room(bytes, Weight::Control, is_reset).map_err(|error| match error {
            AppendError::Poisoned(failure) => WalError::Poisoned(failure),
            AppendError::Successor(failure) => WalError::Job(failure),
            _ => WalError::NoSpace { bytes },
        })?;
        let start = Position { index: through, term };
        self.staged.prefix = Some(start);
        self.start = start;
        self.runs.drop_through(through, self.last.index);
        self.lost.retain(|index, _| *index > through);
        let first_staged = self.staged.first;
        let is_gone = |oldest: &Entry| oldest.index <= through && oldest.index < first_staged;
        while self.recent.front().is_some_and(is_gone) {
            let Some(gone) = self.recent.pop_front() else { break };
            self.recent_bytes = self.recent_bytes.saturating_sub(gone.memory_bytes());
        }
        self.ticket = Ticket(self.ticket.0.saturating_add(1));
        Ok(self.ticket)
    }
}
