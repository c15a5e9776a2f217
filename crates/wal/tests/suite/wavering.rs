//! A medium that gives two answers: what cannot be read, or opened, at one moment and can be at the
//! next is neither damage nor a torn end. And a mend that was interrupted before its sync is not
//! taken for one that is durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::disk::{Disk, File, Lock, write_all_at};
use wal::sim_disk::{Fate, Fault, OperationKind, Pending, SimDisk};
use wal::{Append, Check, Entry, Metadata, OpenError, Options, Position, Wal};

use crate::harness::{Model, observe, options};

/// A log of so many segments, with a vote in every batch.
fn grown(segments: usize) -> (SimDisk, Options, Wal) {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    while wal.segment_count() < segments {
        let next = wal.last().index + 1;
        wal.stage(Append {
            metadata: Some(Metadata::new(format!("vote {next}").as_bytes()).unwrap()),
            entries: vec![Entry::new(next, 1, 0, vec![7; 900])],
            ..Append::default()
        })
        .unwrap();
        wal.commit().unwrap();
    }
    (medium, options, wal)
}

/// Lets `run` operations in a row fail, at every place of an opening: nothing may be lost, and
/// nothing may be called damaged.
fn fail_in_a_row(medium: &SimDisk, options: &Options, acknowledged: &Model, run: u64) {
    let probe = medium.fork();
    let opens = |medium: &SimDisk| medium.count(Some(OperationKind::Open));
    let before = opens(&probe);
    drop(Wal::open(probe.disk(), options.clone(), Check::default()).unwrap());
    for at in 0..opens(&probe) - before {
        let failing = medium.fork();
        for more in 0..run {
            failing.inject(at + more, Some(OperationKind::Open), Fault::Error(24));
        }
        let story = format!("{run} failures from open {at} on");
        match Wal::open(failing.disk(), options.clone(), Check::default()) {
            Ok((wal, recovery)) => {
                failing.clear_faults();
                assert!(recovery.lost.is_empty(), "{story}: {:?}", recovery.lost);
                assert!(observe(&wal) == *acknowledged, "{story}");
            }
            Err(error) => assert!(!error.is_damage(), "{story}: {error}"),
        }
        failing.clear_faults();
        let (wal, _) = Wal::open(failing.disk(), options.clone(), Check::default()).unwrap();
        assert!(observe(&wal) == *acknowledged, "{story}: opened again");
    }
}

#[test]
fn files_that_cannot_be_opened_for_a_while_cost_nothing_and_are_no_damage() {
    let (medium, options, wal) = grown(40);
    let acknowledged = observe(&wal);
    drop(wal);
    for run in [1, 2, 4, 1000] {
        fail_in_a_row(&medium, &options, &acknowledged, run);
    }
}

#[test]
fn a_reset_whose_file_cannot_be_opened_for_a_while_stays() {
    let (medium, options, mut wal) = grown(40);
    wal.stage(Append::<Vec<Entry>> {
        reset: Some(Position::new(wal.last().index + 100, 7)),
        metadata: Some(Metadata::new(b"vote of the reset").unwrap()),
        ..Append::default()
    })
    .unwrap();
    wal.commit().unwrap();
    let acknowledged = observe(&wal);
    drop(wal);
    for run in [2, 4] {
        fail_in_a_row(&medium, &options, &acknowledged, run);
    }
}

/// The first sector of one file gives errors for some reads, and then answers again.
#[derive(Debug)]
struct Marginal {
    disk: Arc<dyn Disk>,
    name: &'static str,
    read: Arc<AtomicU64>,
    from: u64,
    to: u64,
}

#[derive(Debug)]
struct MarginalFile {
    file: Box<dyn File>,
    /// Reads of the sector so far, and which of them fail; for other files `None`.
    sector: Option<(Arc<AtomicU64>, u64, u64)>,
}

impl Disk for Marginal {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(name)?;
        let sector = (name == self.name).then(|| (Arc::clone(&self.read), self.from, self.to));
        Ok(Box::new(MarginalFile { file, sector }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.disk.lock(name)
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.disk.subdirectory(name)
    }

    fn room(&self) -> io::Result<u64> {
        self.disk.room()
    }

    fn path(&self, name: &str) -> String {
        self.disk.path(name)
    }
}

impl File for MarginalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some((read, from, to)) = self.sector.as_ref().filter(|_| offset < 512)
            && (*from..*to).contains(&read.fetch_add(1, Ordering::Relaxed))
        {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[test]
fn a_sector_that_fails_for_a_while_takes_nothing_along() {
    let (medium, options, wal) = grown(3);
    let acknowledged = observe(&wal);
    drop(wal);
    for name in ["0000000000000002.wal", "0000000000000003.wal"] {
        for from in 0..16 {
            for many in 1..12 {
                let medium = medium.fork();
                let (disk, read) = (medium.disk(), Arc::default());
                let reads = Arc::clone(&read);
                let marginal = Marginal { disk, name, read, from, to: from + many };
                let story = format!("{name}: reads {from}..{}", from + many);
                match Wal::open(Arc::new(marginal), options.clone(), Check::default()) {
                    Ok((wal, recovery)) => {
                        assert!(recovery.lost.is_empty(), "{story}: {:?}", recovery.lost);
                        let held = (wal.last(), wal.metadata());
                        assert_eq!(held, (acknowledged.last(), acknowledged.metadata), "{story}");
                    }
                    // Only a sector that did not answer again before this opening ended is damage.
                    Err(error) if reads.load(Ordering::Relaxed) > from + many => {
                        assert!(!error.is_damage(), "{story}: {error}");
                    }
                    Err(_) => {}
                }
                match Wal::open(medium.disk(), options.clone(), Check::default()) {
                    Ok((wal, _)) => assert!(observe(&wal) == acknowledged, "{story}"),
                    Err(error) => panic!("{story}: {error}"),
                }
            }
        }
    }
}

/// Drops the prefix until the first segment goes, then cuts the power, so that only what was
/// synced stays, and opens again.
fn let_the_first_go_and_cut(medium: &SimDisk, options: Options, check: Check<'_>, mut wal: Wal) {
    let mut through = 0;
    while medium.contents("0000000000000001.wal").is_some() {
        through += 1;
        wal.drop_prefix(through).unwrap();
        wal.commit().unwrap();
        while let Some(job) = wal.take_job() {
            wal.finish_job(job.run()).unwrap();
        }
    }
    let acknowledged = observe(&wal);
    drop(wal);
    medium.crash_with(|pending| match pending {
        Pending::Name { .. } => Fate::Keep,
        _ => Fate::Lose,
    });
    let (wal, _) = Wal::open(medium.disk(), options, check).unwrap();
    assert!(observe(&wal) == acknowledged);
}

#[test]
fn a_mend_whose_sync_did_not_happen_is_synced_by_the_next_opening() {
    let second = "0000000000000002.wal";
    for failed_sync in [true, false] {
        let (medium, options, wal) = grown(6);
        let check = Check { verify_from: wal.last().index, ..Check::default() };
        drop(wal);
        medium.corrupt(second, |bytes| bytes[64 + 40] ^= 1);
        if failed_sync {
            medium.inject(0, Some(OperationKind::SyncData), Fault::EIO);
            assert!(matches!(
                Wal::open(medium.disk(), options.clone(), check),
                Err(OpenError::Io(_))
            ));
            medium.clear_faults();
        } else {
            // The process ended between the write of the mend and its sync.
            let mended = medium.fork();
            drop(Wal::open(mended.disk(), options.clone(), check).unwrap());
            let whole = mended.contents(second).unwrap();
            let file = medium.disk().open(second).unwrap();
            write_all_at(&*file, &whole[64..224], 64).unwrap();
        }
        let (wal, _) = Wal::open(medium.disk(), options.clone(), check).unwrap();
        let_the_first_go_and_cut(&medium, options, check, wal);
    }
}
