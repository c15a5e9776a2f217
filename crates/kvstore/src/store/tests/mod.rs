//! The state machine, told as stories and checked against a naive model.

mod commands;
mod keys;
mod model;
mod sessions;

use super::command::Command;
use super::*;

/// A store and the index of the next entry for it.
struct Log {
    store: Store,
    next: u64,
}

impl Log {
    fn new(limits: StoreLimits) -> Log {
        Log { store: Store::new(limits), next: 1 }
    }

    /// Applies an operation as the next entry.
    fn apply(&mut self, session: Option<SessionTag>, operation: Operation<'_>) -> Reply {
        let index = self.next;
        self.next += 1;
        self.store.apply(index, &Command { session, operation }.to_bytes()).unwrap()
    }

    fn set(&mut self, key: &str, value: &str) -> Reply {
        self.apply(None, set(key, value))
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        self.store.get(key.as_bytes()).map(|found| found.value)
    }
}

fn set<'a>(key: &'a str, value: &'a str) -> Operation<'a> {
    set_if(key, value, Condition::None)
}

fn set_if<'a>(key: &'a str, value: &'a str, condition: Condition<'a>) -> Operation<'a> {
    Operation::Set { key: key.as_bytes(), value: value.as_bytes(), condition }
}

fn delete(key: &str) -> Operation<'_> {
    Operation::Delete { key: key.as_bytes(), condition: Condition::None }
}

fn delete_prefix(prefix: &str) -> Operation<'_> {
    Operation::DeletePrefix { prefix: prefix.as_bytes() }
}
