//! Two lives of one log that part in the middle, so that pieces of one can be put into the other.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{Append, Check, Entry, LogId, Metadata, Options, Wal};

/// Small enough for every byte to be within a fuzzer's reach.
pub const SEGMENT_BYTES: u64 = 4096;

/// The same for every log here.
pub fn options() -> Options {
    let mut options = Options::with_segment_bytes(SEGMENT_BYTES);
    options.log_id = Some(LogId(0x5eed));
    options
}

/// A life that was lived to its end.
pub struct Life {
    pub medium: SimDisk,
    /// Where its batches begin and end: number of the file, offset, length.
    pub batches: Vec<(usize, usize, usize)>,
    /// What it holds at its end, and what it held before its last batch.
    pub held: Vec<Entry>,
    pub held_before: Vec<Entry>,
}

/// Both lives and all that they ever submitted.
pub struct Lives {
    pub one: Life,
    pub other: Life,
    pub submitted: BTreeSet<(u64, u64, Vec<u8>)>,
    pub votes: BTreeSet<Vec<u8>>,
}

/// Made once for all inputs.
pub fn lives() -> &'static Lives {
    static LIVES: OnceLock<Lives> = OnceLock::new();
    LIVES.get_or_init(live)
}

struct Story {
    wal: Wal,
    submitted: BTreeSet<(u64, u64, Vec<u8>)>,
    votes: BTreeSet<Vec<u8>>,
}

impl Story {
    fn put(&mut self, count: u64, term: u64, word: &str, truncate_after: Option<u64>) {
        let first = truncate_after.unwrap_or(self.wal.last().index) + 1;
        let entries: Vec<Entry> = (first..first + count)
            .map(|index| {
                let length = 20 + (index * 37 + count * 11) as usize % 120;
                let payload = word.bytes().cycle().take(length).collect::<Vec<u8>>();
                Entry::new(index, term, index as u8, payload)
            })
            .collect();
        for entry in &entries {
            self.submitted.insert((entry.index, entry.term, entry.payload().to_vec()));
        }
        let vote = format!("{word} {}", first % 5).into_bytes();
        let metadata = first.is_multiple_of(3).then(|| Metadata::new(&vote).unwrap());
        self.votes.insert(vote);
        self.wal.stage(Append { metadata, reset: None, truncate_after, entries }).unwrap();
        self.wal.commit().unwrap();
    }

    /// From the point where the lives part to the end.
    fn go_on(&mut self, word: &str) -> Vec<Entry> {
        self.put(3, 3, word, Some(20));
        for count in [4, 1, 5, 2, 3, 4, 1, 6, 2, 3, 4, 5] {
            self.put(count, 3, word, None);
        }
        self.wal.drop_prefix(9).unwrap();
        self.put(2, 4, word, None);
        let before = held(&self.wal);
        self.put(3, 4, word, None);
        before
    }
}

fn held(wal: &Wal) -> Vec<Entry> {
    wal.read(wal.log_start().index + 1, wal.last().index, u64::MAX).unwrap()
}

/// Where everything was written since operations are recorded.
fn batches(medium: &SimDisk) -> Vec<(usize, usize, usize)> {
    let files = medium.files();
    let place = |path: &str| files.iter().position(|file| file == path);
    let operations = medium.operations();
    let writes = operations.iter().filter(|operation| operation.kind == OperationKind::Write);
    let places = writes.filter_map(|write| {
        Some((place(&write.path)?, write.offset as usize, write.bytes as usize))
    });
    places.filter(|(_, offset, _)| *offset > 0).collect()
}

fn live() -> Lives {
    let medium = SimDisk::new();
    medium.record_operations();
    let wal = Wal::create(medium.disk(), options()).unwrap();
    let mut story = Story { wal, submitted: BTreeSet::new(), votes: BTreeSet::new() };
    for count in [1, 4, 3, 5, 2] {
        story.put(count, 1, "both", None);
    }
    for count in [3, 1, 4] {
        story.put(count, 2, "both", None);
    }
    let Story { wal, submitted, votes } = story;
    drop(wal);
    let fork = medium.fork();
    let open = |medium: &SimDisk| Wal::open(medium.disk(), options(), Check::default()).unwrap().0;
    let mut story = Story { wal: open(&medium), submitted, votes };
    let held_before = story.go_on("one");
    let all = held(&story.wal);
    let Story { wal, submitted, votes } = story;
    drop(wal);
    let one = Life { batches: batches(&medium), medium, held: all, held_before };
    let mut story = Story { wal: open(&fork), submitted, votes };
    let held_before = story.go_on("the other");
    let all = held(&story.wal);
    let Story { wal, submitted, votes } = story;
    drop(wal);
    let other = Life { batches: batches(&fork), medium: fork, held: all, held_before };
    Lives { one, other, submitted, votes }
}
