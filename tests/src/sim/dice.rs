//! Where chance comes from. Everything that chance decides belongs to one of a few subjects, and
//! each has a stream of its own: turning one kind of fault off leaves the others as they were.
//! What happens to one frame, in one fault, or in one life of a server does not even depend on
//! what happened to others before: it has a stream of its own too.

use wal::sim_disk::Random;

use super::plan::{CLIENTS_MAX, FaultKind, SERVERS_MAX};

/// One stream for each subject, and for each fault. All follow from one seed.
pub(super) struct Dice {
    pub(super) plan: Random,
    pub(super) network: Random,
    pub(super) clock: Random,
    /// What clients ask.
    pub(super) wishes: Random,
    pub(super) nodes: Random,
    /// Whoever looks after the cluster.
    pub(super) operator: Random,
    /// How a run ends.
    pub(super) end: Random,
    /// What happens to the frame that is being sent.
    pub(super) frame: Random,
    faults: [Random; FaultKind::ALL.len()],
    disks: [Random; SERVERS_MAX],
    clients: [Random; CLIENTS_MAX],
    /// What single things follow from.
    single: u64,
}

/// What has a stream for each single thing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Single {
    /// A frame, by its path and its number on it.
    Frame,
    /// What a power cut leaves, by the server and its life.
    PowerCut,
    /// How long what died stays down, by the server and its life.
    Restart,
    /// The chance that a node is given, by the server and its life.
    Node,
    /// How a frame's snapshot is cut, by its path and its number on it.
    SnapshotCut,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let mut root = Random::new(seed);
        let mut stream = || Random::new(root.draw());
        Dice {
            plan: stream(),
            network: stream(),
            clock: stream(),
            wishes: stream(),
            nodes: stream(),
            operator: stream(),
            end: stream(),
            frame: stream(),
            faults: std::array::from_fn(|_| stream()),
            disks: std::array::from_fn(|_| stream()),
            clients: std::array::from_fn(|_| stream()),
            single: root.draw(),
        }
    }

    /// What a fault of this kind is like that strikes at the moment.
    pub(super) fn fault(&mut self, kind: FaultKind) -> &mut Random {
        &mut self.faults[kind as usize]
    }

    /// How long a server's disk takes.
    pub(super) fn disk(&mut self, server: usize) -> &mut Random {
        &mut self.disks[server]
    }

    /// How a client goes about what it wants.
    pub(super) fn client(&mut self, client: usize) -> &mut Random {
        &mut self.clients[client]
    }

    /// The stream of one thing.
    pub(super) fn single(&self, what: Single, names: [u64; 3]) -> Random {
        let begin = Random::new(self.single ^ what as u64);
        let mix = |mut random: Random, name: u64| Random::new(random.draw() ^ name);
        names.into_iter().fold(begin, mix)
    }
}

/// What is asked of a stream.
pub(super) trait Chance {
    /// Whether something happens that happens so often in a thousand times.
    fn permille(&mut self, permille: u64) -> bool;
    /// A number of a range, its ends included.
    fn between(&mut self, first: u64, last: u64) -> u64;
    /// One of a few.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T;
    /// The place of one of so many, at least one.
    fn place(&mut self, count: usize) -> usize;
}

impl Chance for Random {
    fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.place(from.len())]
    }

    fn place(&mut self, count: usize) -> usize {
        assert!(count > 0, "there is nothing to choose from");
        usize::try_from(self.below(count as u64)).expect("it is below a usize")
    }
}
