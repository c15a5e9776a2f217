//! Who may be connected. Clients have places of their own, and so have other servers: however many
//! clients there are, and however many connections say nothing at all, a server of the cluster gets
//! in. Whoever has not said what it is holds a place only until others need it: the oldest such
//! connection of the address that has most of them makes room for a new one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

/// Connections beyond the clients' that have not said what they are.
const SILENT_MAX: u32 = 32;

/// Connections of servers of the cluster: several of each, since a lost one may be noticed late.
const MEMBERS_MAX: u32 = 128;

/// Connections of servers that are in no list: they may come to be, and no more is known of them.
const STRANGERS_MAX: u32 = 64;

/// The files that all of these may take beside the clients' own.
pub(super) const FILES_MAX: u32 = SILENT_MAX + MEMBERS_MAX + STRANGERS_MAX;

/// The places that there are, and who has them.
#[derive(Debug)]
pub(super) struct Entrance {
    clients_max: u32,
    taken: [Rc<Cell<u32>>; 3],
    /// Connections that have not said what they are, the oldest first.
    silent: RefCell<VecDeque<Rc<Silent>>>,
}

/// What a connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    Client,
    /// A server of the cluster.
    Member,
    /// A server that no list names.
    Stranger,
}

/// A connection that has not said what it is.
#[derive(Debug)]
pub(super) struct Silent {
    address: IpAddr,
    /// It must go.
    pub(super) leave: Notify,
}

/// Keeps a place for as long as it is held.
#[derive(Debug)]
pub(super) struct Permit {
    taken: Rc<Cell<u32>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.set(self.taken.get().saturating_sub(1));
    }
}

impl Entrance {
    pub(super) fn new(clients_max: u32) -> Self {
        Self { clients_max, taken: Default::default(), silent: RefCell::default() }
    }

    /// Somebody has connected and said nothing yet.
    pub(super) fn enter(&self, address: IpAddr) -> Rc<Silent> {
        let newcomer = Rc::new(Silent { address, leave: Notify::new() });
        let mut silent = self.silent.borrow_mut();
        silent.push_back(Rc::clone(&newcomer));
        let clients = u64::from(self.taken(Guest::Client).get());
        let places = u64::from(self.clients_max) + u64::from(SILENT_MAX);
        if clients + silent.len() as u64 > places
            && let Some(at) = least_deserving(&silent)
            && let Some(gone) = silent.remove(at)
        {
            gone.leave.notify_one();
        }
        newcomer
    }

    /// It has said what it is, or left, or was told to go.
    pub(super) fn settle(&self, who: &Rc<Silent>) {
        self.silent.borrow_mut().retain(|other| !Rc::ptr_eq(other, who));
    }

    /// A place for a guest, if there is one.
    pub(super) fn admit(&self, guest: Guest) -> Option<Permit> {
        let places = match guest {
            Guest::Client => self.clients_max,
            Guest::Member => MEMBERS_MAX,
            Guest::Stranger => STRANGERS_MAX,
        };
        let taken = self.taken(guest);
        (taken.get() < places).then(|| {
            taken.set(taken.get() + 1);
            Permit { taken: Rc::clone(taken) }
        })
    }

    fn taken(&self, guest: Guest) -> &Rc<Cell<u32>> {
        let [clients, members, strangers] = &self.taken;
        match guest {
            Guest::Client => clients,
            Guest::Member => members,
            Guest::Stranger => strangers,
        }
    }
}

/// Where the oldest connection stands of the address that has most of them.
fn least_deserving(silent: &VecDeque<Rc<Silent>>) -> Option<usize> {
    let mut addresses: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (at, it) in silent.iter().enumerate() {
        addresses.entry(it.address).or_insert((0, at)).0 += 1;
    }
    let most = addresses.into_values().max_by_key(|(count, _)| *count);
    most.map(|(_, oldest)| oldest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn must_leave(who: &Silent) -> bool {
        timeout(Duration::from_millis(1), who.leave.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_of_the_busiest_address_makes_room() {
        let entrance = Entrance::new(0);
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let other = entrance.enter(address(1));
        let crowd: Vec<_> = (1..SILENT_MAX).map(|_| entrance.enter(address(2))).collect();
        let mut crowd = crowd.iter();
        for _ in 0..3 {
            let newcomer = entrance.enter(address(3));
            assert!(must_leave(crowd.next().unwrap()).await);
            assert!(!must_leave(&newcomer).await);
        }
        assert!(!must_leave(&other).await && !must_leave(crowd.next().unwrap()).await);
        // Where one of them settles there is room.
        entrance.settle(&other);
        entrance.enter(address(3));
        assert!(!must_leave(crowd.next().unwrap()).await);
    }

    #[test]
    fn clients_take_no_place_of_a_member_and_a_place_is_given_back() {
        let entrance = Entrance::new(1);
        let client = entrance.admit(Guest::Client).unwrap();
        assert!(entrance.admit(Guest::Client).is_none());
        assert!(entrance.admit(Guest::Member).is_some());
        let strangers: Vec<_> =
            (0..=STRANGERS_MAX).filter_map(|_| entrance.admit(Guest::Stranger)).collect();
        assert_eq!(strangers.len() as u64, u64::from(STRANGERS_MAX));
        assert!(entrance.admit(Guest::Member).is_some());
        drop(client);
        assert!(entrance.admit(Guest::Client).is_some());
    }
}
