//! What a caller may ask, what is refused, and what it costs.

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{
    Append, AppendError, Check, CreateError, Ending, Entry, Metadata, Position, ReadError, Ticket,
    Wal, WalError,
};

use crate::harness::{observe, options};

fn entry(index: u64, term: u64) -> Entry {
    Entry::new(index, term, 0, format!("payload of {index}").into_bytes())
}

fn append(entries: Vec<Entry>) -> Append {
    Append { entries, ..Append::default() }
}

fn new_log() -> (SimDisk, Wal) {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(16 * 1024)).unwrap();
    (medium, wal)
}

#[test]
fn a_batch_costs_one_write_and_one_sync_however_much_is_in_it() {
    let (medium, mut wal) = new_log();
    let before = medium.count(None);
    let synced = medium.count(Some(OperationKind::SyncData));
    let mut index = 0;
    for round in 0..20 {
        for _ in 0..round {
            index += 1;
            let metadata = Some(Metadata::new(b"vote").unwrap());
            wal.stage(Append { metadata, ..append(vec![entry(index, 1)]) }).unwrap();
        }
        wal.stage(append(Vec::new())).unwrap();
        wal.commit().unwrap();
    }
    assert_eq!(medium.count(None) - before, 2 * 19, "the empty first batch costs nothing");
    assert_eq!(medium.count(Some(OperationKind::SyncData)) - synced, 19);
}

#[test]
fn tickets_count_appends_and_an_empty_one_rides_along() {
    let (_, mut wal) = new_log();
    assert_eq!(wal.stage(append(Vec::new())).unwrap(), Ticket(0));
    let first = wal.stage(append(vec![entry(1, 1)])).unwrap();
    let rider = wal.stage(append(Vec::new())).unwrap();
    let second = wal.stage(append(vec![entry(2, 1)])).unwrap();
    assert_eq!((first, rider, second), (Ticket(1), Ticket(1), Ticket(2)));
    assert_eq!(wal.durable_ticket(), Ticket(0));
    assert_eq!((wal.durable(), wal.last()), (Position::default(), Position::new(2, 1)));
    assert_eq!(wal.commit().unwrap(), second);
    assert_eq!(wal.durable_ticket(), second);
    assert_eq!(wal.commit().unwrap(), second, "nothing staged, nothing done");
}

#[test]
fn staged_entries_are_read_before_they_are_durable() {
    let (_, mut wal) = new_log();
    wal.stage(append(vec![entry(1, 1), entry(2, 1)])).unwrap();
    assert_eq!(wal.read(1, 2, u64::MAX).unwrap(), [entry(1, 1), entry(2, 1)]);
    wal.stage(Append { truncate_after: Some(1), ..append(vec![entry(2, 3)]) }).unwrap();
    assert_eq!(wal.read(1, 2, u64::MAX).unwrap(), [entry(1, 1), entry(2, 3)]);
    assert_eq!(wal.terms(), [Position::new(1, 1), Position::new(2, 3)]);
}

#[test]
fn the_durable_mark_falls_when_a_truncation_is_staged() {
    let (_, mut wal) = new_log();
    wal.stage(append((1..=5).map(|index| entry(index, 1)).collect())).unwrap();
    wal.commit().unwrap();
    wal.stage(Append { truncate_after: Some(2), ..append(vec![entry(3, 2)]) }).unwrap();
    assert_eq!(wal.durable(), Position::new(2, 1));
    wal.commit().unwrap();
    assert_eq!(wal.durable(), Position::new(3, 2));
}

#[test]
fn what_does_not_continue_the_log_is_refused_and_leaves_no_trace() {
    let (medium, mut wal) = new_log();
    wal.stage(append(vec![entry(1, 5), entry(2, 5)])).unwrap();
    let before = observe(&wal);
    let asked = medium.count(None);
    let refused = [
        append(vec![entry(4, 5)]),
        append(vec![entry(2, 5)]),
        append(vec![entry(3, 4)]),
        append(vec![entry(3, 5), entry(5, 5)]),
        Append { truncate_after: Some(3), ..append(Vec::new()) },
        Append { truncate_after: Some(1), ..append(vec![entry(3, 5)]) },
        Append { reset: Some(Position::new(u64::MAX, 9)), ..append(Vec::new()) },
        Append { reset: Some(Position::new(7, 6)), truncate_after: Some(6), ..append(Vec::new()) },
        append(vec![Entry::new(3, 5, 0, vec![0; 9000])]),
        append((3..=9).map(|index| Entry::new(index, 5, 0, vec![0; 1500])).collect()),
    ];
    for append in refused {
        let error = wal.stage(append).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(observe(&wal) == before, "{error}");
    }
    assert_eq!(medium.count(None), asked, "the disk was not asked");
    assert!(matches!(wal.drop_prefix(3), Err(WalError::PrefixOutOfRange { .. })));
    let too_large = wal.stage(append(vec![Entry::new(3, 5, 0, vec![0; 9000])]));
    assert!(matches!(too_large, Err(AppendError::RecordTooLarge { index: 3, .. })));
}

#[test]
fn reads_outside_of_the_log_say_why() {
    let (_, mut wal) = new_log();
    wal.stage(append((1..=9).map(|index| entry(index, 1)).collect())).unwrap();
    wal.drop_prefix(4).unwrap();
    wal.commit().unwrap();
    assert!(matches!(wal.read(4, 9, 1), Err(ReadError::Dropped { index: 4, start: 4 })));
    assert!(matches!(wal.read(0, 0, 1), Err(ReadError::Dropped { .. })));
    assert!(matches!(wal.read(9, 10, 1), Err(ReadError::BeyondEnd { index: 10, last: 9 })));
    assert_eq!(wal.read(5, 9, 0).unwrap(), [entry(5, 1)], "at least one");
    assert_eq!(wal.read(5, 9, 30).unwrap().len(), 2, "no more than fits");
    assert_eq!(wal.read(7, 6, 30).unwrap(), [], "nothing was asked for");
    assert_eq!(
        (wal.term(3), wal.term(4), wal.term(9), wal.term(10)),
        (None, Some(1), Some(1), None)
    );
}

#[test]
fn metadata_outlives_the_segment_that_it_was_written_to() {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let vote = Some(Metadata::new(b"term 7, for s2").unwrap());
    wal.stage(Append { metadata: vote, ..append(Vec::new()) }).unwrap();
    for index in 1..=60 {
        wal.stage(append(vec![Entry::new(index, 7, 0, vec![b'x'; 300])])).unwrap();
        wal.commit().unwrap();
        if index % 10 == 0 {
            wal.drop_prefix(index - 1).unwrap();
        }
        while let Some(job) = wal.take_job() {
            wal.finish_job(job.run()).unwrap();
        }
    }
    assert!(!medium.files().contains(&"0000000000000001.wal".to_owned()));
    drop(wal);
    let (wal, _) = Wal::open(medium.disk(), options(4096), Check::default()).unwrap();
    assert_eq!(wal.metadata(), vote);
    drop(wal);
    medium.crash(1);
    let check = Check { verify_from: 60, floor: Some(50), suspects: &[] };
    let (mut wal, _) = Wal::open(medium.disk(), options(4096), check).unwrap();
    assert_eq!(wal.metadata(), vote);

    wal.stage(Append { reset: Some(Position::new(500, 9)), ..append(Vec::new()) }).unwrap();
    wal.commit().unwrap();
    assert_eq!(wal.metadata(), vote, "a reset empties the log and forgets no vote");
    drop(wal);
    let (wal, _) = Wal::open(medium.disk(), options(4096), Check::default()).unwrap();
    assert_eq!((wal.metadata(), wal.last()), (vote, Position::new(500, 9)));
}

#[test]
fn empty_metadata_is_not_the_same_as_none() {
    let (medium, mut wal) = new_log();
    assert_eq!(wal.metadata(), None);
    let empty = Some(Metadata::new(b"").unwrap());
    wal.stage(Append { metadata: empty, ..append(Vec::new()) }).unwrap();
    wal.commit().unwrap();
    drop(wal);
    let (wal, _) = Wal::open(medium.disk(), options(16 * 1024), Check::default()).unwrap();
    assert_eq!(wal.metadata(), empty);
}

#[test]
fn a_closed_log_is_known_as_closed_and_closing_again_writes_nothing() {
    let (medium, mut wal) = new_log();
    wal.stage(append(vec![entry(1, 1)])).unwrap();
    wal.close().unwrap();
    let contents = medium.contents("0000000000000001.wal");
    for _ in 0..3 {
        let opened = Wal::open(medium.disk(), options(16 * 1024), Check::default());
        let (wal, recovery) = opened.unwrap();
        assert_eq!(recovery.ending, Ending::Closed);
        wal.close().unwrap();
    }
    assert!(medium.contents("0000000000000001.wal") == contents);
}

#[test]
fn a_log_is_created_once_and_opening_never_creates() {
    let medium = SimDisk::new();
    assert!(!Wal::exists(&*medium.disk()).unwrap());
    let opened = Wal::open(medium.disk(), options(4096), Check::default());
    assert!(matches!(opened, Err(wal::OpenError::NoLog { .. })));
    assert!(medium.files().is_empty());
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    assert!(Wal::exists(&*medium.disk()).unwrap());
    let again = Wal::create(medium.disk(), options(4096));
    assert!(matches!(again, Err(CreateError::Locked { .. })));
    drop(wal);
    let again = Wal::create(medium.disk(), options(4096));
    assert!(matches!(again, Err(CreateError::Exists { .. })));
}

#[test]
fn an_interrupted_creation_leaves_no_log_or_a_whole_one() {
    for point in 0..12 {
        let medium = SimDisk::new();
        medium.inject(point, None, wal::sim_disk::Fault::PowerOff);
        let created = Wal::create(medium.disk(), options(4096)).is_ok();
        for seed in 0..40 {
            let fork = medium.fork();
            fork.crash(seed);
            if Wal::exists(&*fork.disk()).unwrap() {
                let opened = Wal::open(fork.disk(), options(4096), Check::default());
                assert_eq!(opened.unwrap().0.last(), Position::default());
            } else {
                assert!(!created, "point {point}: a created log is durable");
                drop(Wal::create(fork.disk(), options(4096)).unwrap());
                assert_eq!(fork.files().len(), 1, "no temporary file stays");
            }
        }
    }
}

#[test]
fn rotation_does_not_depend_on_jobs_being_run() {
    for habit in ["never", "taken and kept", "run after the log made its own"] {
        let medium = SimDisk::new();
        let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
        let mut held = Vec::new();
        for index in 1..=80 {
            if habit != "never" {
                held.extend(wal.take_job());
            }
            wal.stage(append(vec![Entry::new(index, 1, 0, vec![b'x'; 200])])).unwrap();
            wal.commit().unwrap();
            if habit == "run after the log made its own" && index % 7 == 0 {
                for job in held.drain(..) {
                    wal.finish_job(job.run()).unwrap();
                }
            }
        }
        assert!(wal.segment_count() > 5, "{habit}");
        let model = observe(&wal);
        drop((wal, held));
        let (wal, _) = Wal::open(medium.disk(), options(4096), Check::default()).unwrap();
        assert!(observe(&wal) == model, "{habit}");
    }
}

#[test]
fn while_a_flush_is_out_the_owner_goes_on() {
    let (medium, mut wal) = new_log();
    let first = wal.stage(append((1..=5).map(|index| entry(index, 1)).collect())).unwrap();
    let flush = wal.begin_commit().unwrap().unwrap();
    assert!(wal.is_committing());
    assert!(wal.begin_commit().unwrap().is_none(), "one flush is out at a time");
    assert!(matches!(wal.commit(), Err(WalError::InFlight)));
    let second = wal.stage(append(vec![entry(6, 1)])).unwrap();
    assert_eq!(wal.read(1, 6, u64::MAX).unwrap().len(), 6, "all of it can be read");
    assert_eq!((wal.durable(), wal.durable_ticket()), (Position::default(), Ticket(0)));

    assert_eq!(wal.finish_commit(flush.run()).unwrap(), first);
    assert_eq!(wal.durable(), Position::new(5, 1), "what was staged later is not covered");
    assert_eq!(wal.commit().unwrap(), second);
    drop(wal);
    medium.crash_with(|_| wal::sim_disk::Fate::Lose);
    let (wal, _) = Wal::open(medium.disk(), options(16 * 1024), Check::default()).unwrap();
    assert_eq!(wal.last(), Position::new(6, 1));
}

#[test]
fn a_flush_that_is_not_the_one_which_is_out_makes_nothing_durable() {
    let begun = || {
        let (medium, mut wal) = new_log();
        wal.stage(append((1..=5).map(|index| entry(index, 1)).collect())).unwrap();
        let flush = wal.begin_commit().unwrap().unwrap();
        (medium, wal, flush)
    };
    let (medium, mut wal, flush) = begun();
    let (_, _other, foreign) = begun();
    let refused = wal.finish_commit(foreign.run());
    assert!(matches!(refused, Err(WalError::ForeignFlush)), "{refused:?}");
    assert_eq!((wal.durable(), wal.durable_ticket()), (Position::default(), Ticket(0)));
    assert!(wal.is_committing(), "its own is out still");
    let done = flush.run();
    drop(wal);

    let (mut wal, _) = Wal::open(medium.disk(), options(16 * 1024), Check::default()).unwrap();
    wal.stage(append(vec![entry(6, 1)])).unwrap();
    let flush = wal.begin_commit().unwrap().unwrap();
    let refused = wal.finish_commit(done);
    assert!(matches!(refused, Err(WalError::ForeignFlush)), "of an earlier life: {refused:?}");
    assert_eq!(wal.durable(), Position::new(5, 1));
    wal.finish_commit(flush.run()).unwrap();
    assert_eq!(wal.durable(), Position::new(6, 1));

    let (_, _third, foreign) = begun();
    let refused = wal.finish_commit(foreign.run());
    assert!(matches!(refused, Err(WalError::ForeignFlush)), "with nothing out: {refused:?}");
}

#[test]
fn a_cut_that_is_staged_while_a_flush_is_out_lowers_what_it_makes_durable() {
    let (_, mut wal) = new_log();
    wal.stage(append((1..=5).map(|index| entry(index, 1)).collect())).unwrap();
    let flush = wal.begin_commit().unwrap().unwrap();
    wal.stage(Append { truncate_after: Some(2), ..append(vec![entry(3, 2)]) }).unwrap();
    wal.finish_commit(flush.run()).unwrap();
    assert_eq!(wal.durable(), Position::new(2, 1));
    wal.commit().unwrap();
    assert_eq!(wal.durable(), Position::new(3, 2));
    assert_eq!(wal.read(1, 3, u64::MAX).unwrap(), [entry(1, 1), entry(2, 1), entry(3, 2)]);
}

#[test]
fn a_batch_behind_a_flush_is_not_overfilled() {
    let (_, mut wal) = new_log();
    wal.stage(append(vec![entry(1, 1)])).unwrap();
    let flush = wal.begin_commit().unwrap().unwrap();
    let mut index = 1;
    loop {
        let room = wal.room();
        let next = Entry::new(index + 1, 1, 0, vec![b'x'; 1000]);
        match wal.stage(append(vec![next])) {
            Ok(_) => index += 1,
            Err(AppendError::InFlight { bytes }) => {
                assert!(room < bytes, "room for {room} was announced, {bytes} were refused");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(index > 4);
    wal.finish_commit(flush.run()).unwrap();
    wal.stage(append(vec![entry(index + 1, 1)])).unwrap();
    wal.commit().unwrap();
    assert_eq!(wal.durable(), Position::new(index + 1, 1));
}

#[test]
fn a_job_that_was_run_and_not_yet_brought_back_is_not_handed_out_again() {
    let (medium, mut wal) = new_log();
    let done = wal.take_job().unwrap().run();
    assert!(wal.take_job().is_none(), "the segment is there, it was only not reported yet");
    // The log needs the segment before that, and finds it made.
    let files = medium.files();
    for index in 1..=3 {
        wal.stage(append(vec![Entry::new(index, 1, 0, vec![b'x'; 3900])])).unwrap();
        wal.commit().unwrap();
    }
    wal.stage(append(vec![Entry::new(4, 1, 0, vec![b'x'; 3900])])).unwrap();
    wal.commit().unwrap();
    assert_eq!((wal.segment_count(), medium.files()), (2, files));
    wal.finish_job(done).unwrap();
    let model = observe(&wal);
    drop(wal);
    medium.crash_with(|_| wal::sim_disk::Fate::Lose);
    let (wal, _) = Wal::open(medium.disk(), options(16 * 1024), Check::default()).unwrap();
    assert!(observe(&wal) == model);
}

#[test]
fn a_job_whose_report_is_lost_is_not_made_twice() {
    let (medium, mut wal) = new_log();
    drop(wal.take_job().unwrap().run());
    let files = medium.files();
    assert!(wal.take_job().is_none());
    assert_eq!(medium.files(), files);
    drop(wal.take_job());
    assert!(wal.take_job().is_none(), "there is a successor");
}

/// To read a log entry by entry, each from a batch of its own, once walked through all batches
/// before it in its stretch, every time.
#[test]
fn reading_on_where_a_read_ended_does_not_walk_the_same_way_again() {
    let medium = SimDisk::new();
    let mut options = options(256 * 1024);
    options.cache_bytes = 0;
    let mut wal = Wal::create(medium.disk(), options).unwrap();
    let count = 1000;
    for index in 1..=count {
        wal.stage(append(vec![entry(index, 1)])).unwrap();
        wal.commit().unwrap();
    }
    let reads = || medium.count(Some(OperationKind::Read));
    let before = reads();
    for index in 1..=count {
        assert_eq!(wal.read(index, index, 1).unwrap(), [entry(index, 1)]);
    }
    assert!(reads() - before <= 2 * count, "{} reads of the disk", reads() - before);
    // Going back is as it was.
    for index in (1..=count).rev() {
        assert_eq!(wal.read(index, index, 1).unwrap(), [entry(index, 1)]);
    }
}

/// What a walk came to is forgotten where the log was cut and written again.
#[test]
fn reading_on_after_a_cut_finds_what_counts() {
    let mut options = options(16 * 1024);
    options.cache_bytes = 0;
    let mut wal = Wal::create(SimDisk::new().disk(), options).unwrap();
    for index in 1..=40 {
        wal.stage(append(vec![entry(index, 1)])).unwrap();
        wal.commit().unwrap();
    }
    for (term, cut) in [(2, 30), (3, 10), (4, 20)] {
        (1..=wal.last().index).for_each(|index| {
            wal.read(index, index, u64::MAX).unwrap();
        });
        let again = (cut..=cut + 20).map(|index| entry(index, term)).collect();
        wal.stage(Append { truncate_after: Some(cut - 1), ..append(again) }).unwrap();
        wal.commit().unwrap();
        for index in (cut..=cut + 20).chain((cut..=cut + 20).rev()) {
            assert_eq!(wal.read(index, index, u64::MAX).unwrap(), [entry(index, term)]);
        }
    }
}
