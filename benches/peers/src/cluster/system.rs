//! The systems that are compared, and the rows that they fill. The floor and ours have two rows
//! each, because each can be loaded by our client library and by the floor's bare client.

use crate::cluster::work::{To, Work};

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Floor,
    Kvctl,
    Etcd,
    Zookeeper,
    Nats,
    Redis,
}

/// Everything that is started, in the order of the table.
pub(crate) const SYSTEMS: [System; 6] =
    [System::Floor, System::Kvctl, System::Etcd, System::Zookeeper, System::Nats, System::Redis];

/// Who loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// The program that all systems have in common.
    Drive,
    /// The floor's own, which speaks our protocol.
    Bare,
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) system: System,
    pub(crate) client: Client,
}

/// What every ratio to the floor is to.
pub(crate) const FLOOR: Row = Row { system: System::Floor, client: Client::Bare };
/// What every ratio to the others is of.
pub(crate) const OURS: Row = Row { system: System::Kvctl, client: Client::Drive };

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Floor => "floor",
            System::Kvctl => "kvctl",
            System::Etcd => "etcd",
            System::Zookeeper => "zookeeper",
            System::Nats => "nats",
            System::Redis => "redis",
        }
    }

    /// The protocol that the common load program speaks to it.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            System::Floor => "kvctl",
            other => other.name(),
        }
    }

    pub(crate) fn rows(self) -> &'static [Row] {
        const FLOORS: [Row; 2] = [FLOOR, Row { system: System::Floor, client: Client::Drive }];
        const OURS_BOTH: [Row; 2] = [OURS, Row { system: System::Kvctl, client: Client::Bare }];
        const fn one(system: System) -> [Row; 1] {
            [Row { system, client: Client::Drive }]
        }
        const ETCD: [Row; 1] = one(System::Etcd);
        const ZOOKEEPER: [Row; 1] = one(System::Zookeeper);
        const NATS: [Row; 1] = one(System::Nats);
        const REDIS: [Row; 1] = one(System::Redis);
        match self {
            System::Floor => &FLOORS,
            System::Kvctl => &OURS_BOTH,
            System::Etcd => &ETCD,
            System::Zookeeper => &ZOOKEEPER,
            System::Nats => &NATS,
            System::Redis => &REDIS,
        }
    }

    /// How many processes must have synced a write before it is acknowledged.
    pub(crate) fn copies(self) -> f64 {
        match self {
            System::Redis => 1.0,
            _ => 2.0,
        }
    }

    /// Whether it keeps what it is given.
    pub(crate) fn is_store(self) -> bool {
        self != System::Floor
    }
}

impl Row {
    pub(crate) fn name(self) -> String {
        match (self.system, self.client) {
            (System::Floor, Client::Drive) => "floor, our client".to_owned(),
            (System::Kvctl, Client::Bare) => "kvctl, bare client".to_owned(),
            (system, _) => system.name().to_owned(),
        }
    }

    /// Whether it can be measured at this work.
    pub(crate) fn can(self, work: &Work) -> bool {
        match (work.to, self.system, self.client) {
            // One copy has no follower; NATS answers reads on its followers without asking anybody.
            (To::Followers, System::Redis | System::Nats, _) => false,
            // The bare client asks one server, not several in turn.
            (To::Followers, System::Kvctl, Client::Bare) => false,
            (_, _, client) => client == Client::Drive || !work.is_open(),
        }
    }
}
