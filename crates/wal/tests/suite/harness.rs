//! A model of the log, a stream of random operations, and the comparison of both with the real
//! one. The model knows which states a crash may leave: the last acknowledged one, and every one
//! that was being committed since.

use std::collections::BTreeMap;

pub(crate) use wal::sim_disk::Random;
use wal::sim_disk::SimDisk;
use wal::{
    Append, AppendError, Check, Entry, Flush, FlushDone, Fsync, Job, JobDone, LogId, Metadata,
    Options, Position, Recovery, Wal, WalError,
};

/// Runs a story for `default` seeds, or for those that `WAL_TEST_SEEDS` asks for: `500`, or
/// `925..926`. A failure names its seed.
pub(crate) fn for_seeds(default: u64, story: impl Fn(u64)) {
    let asked = std::env::var("WAL_TEST_SEEDS").unwrap_or_default();
    let seeds = match asked.split_once("..") {
        Some((first, end)) => first.parse().unwrap()..end.parse().unwrap(),
        None => 0..asked.parse().unwrap_or(default),
    };
    for seed in seeds {
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(seed)));
        if let Err(panic) = told {
            eprintln!("the failure above has seed {seed}: WAL_TEST_SEEDS={seed}..{}", seed + 1);
            std::panic::resume_unwind(panic);
        }
    }
}

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) start: Position,
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) metadata: Option<Metadata>,
}

impl Model {
    pub(crate) fn last(&self) -> Position {
        self.entries.values().next_back().map_or(self.start, Entry::position)
    }

    fn apply(&mut self, append: &Append) {
        if let Some(position) = append.reset {
            self.start = position;
            self.entries.clear();
        }
        if let Some(metadata) = append.metadata {
            self.metadata = Some(metadata);
        }
        if let Some(index) = append.truncate_after {
            self.entries.retain(|held, _| *held <= index);
        }
        for entry in &append.entries {
            self.entries.insert(entry.index, entry.clone());
        }
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.entries.get(&index).map(|entry| entry.term)
    }

    fn drop_prefix(&mut self, through: u64) {
        if through > self.start.index {
            self.start = Position::new(through, self.term(through).unwrap());
            self.entries.retain(|held, _| *held > through);
        }
    }

    fn runs(&self) -> Vec<Position> {
        let mut runs: Vec<Position> = Vec::new();
        for entry in self.entries.values() {
            if runs.last().is_none_or(|newest| newest.term != entry.term) {
                runs.push(entry.position());
            }
        }
        runs
    }
}

/// Everything that can be asked of a log, as a model.
pub(crate) fn observe(wal: &Wal) -> Model {
    let start = wal.log_start();
    let last = wal.last();
    let mut entries = BTreeMap::new();
    let mut next = start.index + 1;
    while next <= last.index {
        let read = wal.read(next, last.index, 1500).unwrap();
        assert!(!read.is_empty(), "a read of held entries returns at least one");
        for entry in read {
            assert_eq!(entry.index, next, "entries come in order");
            assert_eq!(wal.term(next), Some(entry.term), "the index of terms agrees with entries");
            entries.insert(next, entry);
            next += 1;
        }
    }
    let model = Model { start, entries, metadata: wal.metadata() };
    assert_eq!(model.last(), last);
    assert_eq!(wal.term(start.index), Some(start.term));
    assert_eq!(wal.terms(), model.runs());
    model
}

/// The log under test beside its model.
pub(crate) struct Harness {
    pub(crate) medium: SimDisk,
    pub(crate) options: Options,
    pub(crate) wal: Option<Wal>,
    pub(crate) model: Model,
    /// The last acknowledged state, then every one that a commit since may have made durable.
    pub(crate) allowed: Vec<Model>,
    /// Jobs that were taken, in any number and at any stage.
    jobs: Vec<JobAt>,
    /// A commit that runs elsewhere, and what it makes durable.
    out: Option<(Out, Model)>,
    counter: u64,
}

/// How far a job has come.
enum JobAt {
    Taken(Job),
    Run(JobDone),
}

/// How far a commit that runs elsewhere has come.
enum Out {
    Begun(Flush),
    Run(FlushDone),
}

pub(crate) fn options(segment_bytes: u64) -> Options {
    let mut options = Options::with_segment_bytes(segment_bytes);
    options.cache_bytes = 700;
    options.log_id = Some(LogId(0x77));
    options
}

impl Harness {
    pub(crate) fn create(segment_bytes: u64) -> Harness {
        Harness::with(options(segment_bytes))
    }

    pub(crate) fn with(options: Options) -> Harness {
        let medium = SimDisk::new();
        let wal = Wal::create(medium.disk(), options.clone()).unwrap();
        let model = Model::default();
        let allowed = vec![model.clone()];
        Harness {
            medium,
            options,
            wal: Some(wal),
            model,
            allowed,
            jobs: Vec::new(),
            out: None,
            counter: 0,
        }
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().unwrap()
    }

    /// Does one random thing; an error means that the disk refused it.
    pub(crate) fn step(&mut self, random: &mut Random) -> Result<(), String> {
        match random.below(18) {
            0..=5 => {
                let append = self.random_append(random);
                self.stage(append)
            }
            6 => {
                let through = self.model.start.index + random.edge(self.model.entries.len() as u64);
                // What was staged before may become durable on its own if space must be made.
                self.wal().drop_prefix(through).map_err(|error| error.to_string())?;
                self.model.drop_prefix(through);
                Ok(())
            }
            7..=9 => self.commit(),
            10..=12 => self.commit_elsewhere(),
            13 => self.run_job(),
            14..=16 => self.advance_jobs(random),
            _ => self.reopen(random),
        }
    }

    fn random_append(&mut self, random: &mut Random) -> Append {
        let mut append: Append = Append::default();
        let last = self.model.last();
        let mut base = last;
        let held = self.model.entries.len() as u64;
        match random.below(12) {
            0 => {
                let index = last.index + random.below(30);
                append.reset = Some(Position::new(index, last.term + random.below(2)));
                base = append.reset.unwrap();
            }
            1 | 2 => {
                let index = self.model.start.index + random.edge(held);
                append.truncate_after = Some(index);
                base = Position::new(index, self.model.term(index).unwrap());
            }
            _ => {}
        }
        if random.below(3) == 0 {
            self.counter += 1;
            append.metadata = Some(Metadata::new(&self.counter.to_le_bytes()).unwrap());
        }
        let count = random.below(5);
        let longest = self.options.batch_bytes_max / 8;
        for offset in 1..=count {
            self.counter += 1;
            let term = base.term + random.below(6) / 5;
            base.term = term;
            let length = random.edge(longest) as usize;
            let mut payload = format!("{}:", self.counter).into_bytes();
            payload.resize(length, b'x');
            let tag = self.counter as u8;
            append.entries.push(Entry::new(base.index + offset, term, tag, payload));
        }
        append
    }

    pub(crate) fn stage(&mut self, append: Append) -> Result<(), String> {
        // Staging commits what waits if both do not fit into one batch.
        self.allowed.push(self.model.clone());
        match self.wal().stage(append.clone()) {
            Ok(_) => {
                self.model.apply(&append);
                Ok(())
            }
            Err(AppendError::InFlight { .. }) if self.out.is_some() => Ok(()),
            Err(
                error @ (AppendError::Poisoned(_)
                | AppendError::Successor(_)
                | AppendError::NoSpace { .. }),
            ) => Err(error.to_string()),
            Err(error) => panic!("{append:?} was refused: {error}"),
        }
    }

    /// Takes a commit that runs elsewhere one step further.
    fn commit_elsewhere(&mut self) -> Result<(), String> {
        match self.out.take() {
            None => {
                let begun = self.wal().begin_commit().map_err(|error| error.to_string())?;
                self.allowed.push(self.model.clone());
                self.out = begun.map(|flush| (Out::Begun(flush), self.model.clone()));
            }
            Some((Out::Begun(flush), model)) => self.out = Some((Out::Run(flush.run()), model)),
            Some((Out::Run(done), model)) => {
                self.wal().finish_commit(done).map_err(|error| error.to_string())?;
                self.acknowledge(model);
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, model: Model) {
        match self.options.fsync {
            Fsync::Always => self.allowed = vec![model],
            // Acknowledged, and yet a power cut may take it back.
            Fsync::UnsafeNever => self.allowed.push(model),
        }
    }

    pub(crate) fn commit(&mut self) -> Result<(), String> {
        while self.out.is_some() {
            self.commit_elsewhere()?;
        }
        self.allowed.push(self.model.clone());
        let ticket = self.wal().commit().map_err(|error| error.to_string())?;
        assert_eq!(self.wal().durable_ticket(), ticket);
        self.acknowledge(self.model.clone());
        assert_eq!(self.wal().durable(), self.model.last());
        Ok(())
    }

    /// Takes a job, or takes one of those that are out one step further, or forgets one.
    fn advance_jobs(&mut self, random: &mut Random) -> Result<(), String> {
        let count = self.jobs.len() as u64;
        if count == 0 || random.below(3) == 0 {
            let taken = self.wal().take_job();
            self.jobs.extend(taken.map(JobAt::Taken));
            return Ok(());
        }
        let job = self.jobs.swap_remove(random.below(count) as usize);
        if random.below(10) == 0 {
            return Ok(());
        }
        match job {
            JobAt::Taken(job) => self.jobs.push(JobAt::Run(job.run())),
            JobAt::Run(done) => {
                self.wal().finish_job(done).map_err(|error: WalError| error.to_string())?;
            }
        }
        Ok(())
    }

    pub(crate) fn run_job(&mut self) -> Result<(), String> {
        let Some(job) = self.wal().take_job() else { return Ok(()) };
        let done = job.run();
        self.wal().finish_job(done).map_err(|error: WalError| error.to_string())
    }

    pub(crate) fn reopen(&mut self, random: &mut Random) -> Result<(), String> {
        self.commit()?;
        self.jobs.clear();
        let wal = self.wal.take().unwrap();
        if random.below(2) == 0 {
            wal.close().map_err(|error| error.to_string())?;
        } else {
            drop(wal);
        }
        let check = self.check(random);
        self.try_open(check)?;
        self.allowed = vec![self.model.clone()];
        Ok(())
    }

    /// A legal choice of what `open` is to verify: anything, and a floor that is durable.
    pub(crate) fn check(&self, random: &mut Random) -> Check<'static> {
        let acknowledged = &self.allowed[0];
        let last = acknowledged.last().index;
        // A floor must have been reached in every state that a crash may leave.
        let floor = self.allowed.iter().map(|model| model.last().index).min().unwrap_or(0);
        let floor = (random.below(3) == 0).then(|| random.edge(floor));
        Check { verify_from: random.edge(last + 1), floor, suspects: &[] }
    }

    fn try_open(&mut self, check: Check<'_>) -> Result<Recovery, String> {
        let opened = Wal::open(self.medium.disk(), self.options.clone(), check);
        let (wal, recovery) = opened.map_err(|error| error.to_string())?;
        self.wal = Some(wal);
        Ok(recovery)
    }

    /// Opens after a crash and compares what is there with what may be there.
    pub(crate) fn recover(&mut self, check: Check<'_>, story: &str) -> Recovery {
        self.wal = None;
        self.out = None;
        self.jobs.clear();
        let recovery = match self.try_open(check) {
            Ok(recovery) => recovery,
            Err(error) => panic!("{story}: the log does not open: {error}"),
        };
        let found = observe(self.wal.as_ref().unwrap());
        let acceptable = self.allowed.contains(&found);
        assert!(
            acceptable,
            "{story}: recovered {:?}..={:?} {:?}, allowed {:?}",
            found.start,
            found.last(),
            found.metadata,
            self.allowed
                .iter()
                .map(|model| (model.start, model.last(), model.metadata))
                .collect::<Vec<_>>(),
        );
        assert!(recovery.lost.is_empty(), "{story}: a crash damages nothing");
        let is_synced = self.options.fsync == Fsync::Always;
        assert!(recovery.mended.is_empty() || !is_synced, "{story}: mended after a crash");
        assert_eq!(self.wal.as_ref().unwrap().durable(), found.last());
        self.allowed = vec![found.clone()];
        self.model = found;
        recovery
    }
}
