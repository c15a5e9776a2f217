//! Where chance comes from. Everything that chance decides belongs to one of a few subjects, and
//! each has a stream of its own: turning one kind of fault off leaves the others as they were.

use wal::sim_disk::Random;

use super::plan::FaultKind;

/// One stream for each subject, and for each fault. All follow from one seed.
pub(super) struct Dice {
    pub(super) plan: Random,
    pub(super) network: Random,
    pub(super) disk: Random,
    pub(super) clock: Random,
    pub(super) clients: Random,
    pub(super) nodes: Random,
    /// How long what died stays down.
    pub(super) restarts: Random,
    /// Whoever looks after the cluster.
    pub(super) operator: Random,
    /// How a run ends.
    pub(super) end: Random,
    faults: [Random; FaultKind::ALL.len()],
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let mut root = Random::new(seed);
        let mut stream = || Random::new(root.draw());
        Dice {
            plan: stream(),
            network: stream(),
            disk: stream(),
            clock: stream(),
            clients: stream(),
            nodes: stream(),
            restarts: stream(),
            operator: stream(),
            end: stream(),
            faults: std::array::from_fn(|_| stream()),
        }
    }

    pub(super) fn fault(&mut self, kind: FaultKind) -> &mut Random {
        &mut self.faults[kind as usize]
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
