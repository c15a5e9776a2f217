//! The store, watched: what it applies is noted until somebody asks.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use bytes::Bytes;
use kvstore::store::{Reply, Store, StoreLimits};
use raft::node::Index;
use raft::{StateMachine, Undecodable};

/// A command that was applied, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) index: Index,
    pub(super) command: Bytes,
    pub(super) reply: Reply,
}

/// The production store and what it did since that was last asked.
pub(super) struct Witness {
    pub(super) store: Store,
    news: Mutex<Vec<Applied>>,
}

impl Witness {
    pub(super) fn new(limits: StoreLimits) -> Witness {
        Witness::of(Store::new(limits))
    }

    fn of(store: Store) -> Witness {
        Witness { store, news: Mutex::default() }
    }

    pub(super) fn take_news(&self) -> Vec<Applied> {
        std::mem::take(&mut self.news.lock().expect("nobody panics with it"))
    }
}

impl StateMachine for Witness {
    type Reply = Reply;
    type Image = Store;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Reply, Undecodable> {
        let reply = StateMachine::apply(&mut self.store, index, command)?;
        let applied = Applied { index, command: command.clone(), reply };
        self.news.get_mut().expect("nobody panics with it").push(applied);
        Ok(reply)
    }

    fn advance(&mut self, index: Index) {
        StateMachine::advance(&mut self.store, index);
    }

    fn applied(&self) -> Index {
        StateMachine::applied(&self.store)
    }

    fn image(&self) -> Store {
        self.store.image()
    }

    fn write(image: Store, out: &mut dyn Write) -> io::Result<()> {
        <Store as StateMachine>::write(image, out)
    }

    fn restore(input: &mut dyn Read) -> io::Result<Witness> {
        <Store as StateMachine>::restore(input).map(Witness::of)
    }
}
