//! Arbitrary bytes where a log should be: an answer every time, and never an entry that nobody
//! wrote.

use std::ops::ControlFlow;

use proptest::prelude::*;
use wal::sim_disk::{OperationKind, SimDisk};
use wal::{Check, Inspector, LogId, Wal};

use crate::harness::options;
use crate::sample::{SEGMENT_BYTES, Sample};

/// One thing that befalls a file.
#[derive(Clone, Debug)]
enum Mishap {
    Overwrite { at: usize, bytes: Vec<u8> },
    Copy { from: usize, to: usize, length: usize },
    CopyFrom { other: usize, at: usize, length: usize },
    Resize { length: usize },
    Exchange { other: usize },
}

fn mishap() -> impl Strategy<Value = (usize, Mishap)> {
    let place = 0..SEGMENT_BYTES as usize;
    let length = prop_oneof![1..40_usize, 40..2000_usize];
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..64),
        proptest::collection::vec(Just(0), 1..600),
    ];
    let what = prop_oneof![
        4 => (place.clone(), bytes).prop_map(|(at, bytes)| Mishap::Overwrite { at, bytes }),
        3 => (place.clone(), place.clone(), length.clone())
            .prop_map(|(from, to, length)| Mishap::Copy { from: from & !7, to: to & !7, length }),
        3 => (0..3_usize, place, length)
            .prop_map(|(other, at, length)| Mishap::CopyFrom { other, at, length }),
        1 => (0..6000_usize).prop_map(|length| Mishap::Resize { length }),
        1 => (0..3_usize).prop_map(|other| Mishap::Exchange { other }),
    ];
    (0..3_usize, what)
}

fn befall(medium: &SimDisk, file: usize, mishap: &Mishap) {
    let files = medium.files();
    let path = &files[file];
    let contents = |file: usize| medium.contents(&files[file]).unwrap();
    let put = |to: usize, bytes: &[u8]| {
        medium.corrupt(path, |contents| {
            let end = (to + bytes.len()).min(contents.len());
            if to < end {
                contents[to..end].copy_from_slice(&bytes[..end - to]);
            }
        });
    };
    let piece = |bytes: &[u8], from: usize, length: usize| {
        bytes.iter().skip(from).take(length).copied().collect::<Vec<u8>>()
    };
    match mishap {
        Mishap::Overwrite { at, bytes } => put(*at, bytes),
        Mishap::Copy { from, to, length } => put(*to, &piece(&contents(file), *from, *length)),
        Mishap::CopyFrom { other, at, length } => {
            put(*at, &piece(&contents(*other), *at, *length));
        }
        Mishap::Resize { length } => {
            medium.corrupt(path, |contents| contents.resize(*length, 0));
        }
        Mishap::Exchange { other } => {
            let (mine, theirs) = (contents(file), contents(*other));
            medium.corrupt(path, |contents| *contents = theirs);
            medium.corrupt(&files[*other], |contents| *contents = mine);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 800,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_befalls_the_files_no_entry_is_invented(
        mishaps in proptest::collection::vec(mishap(), 1..4),
        verify_from in 0..60_u64,
    ) {
        let sample = Sample::new();
        for (file, mishap) in &mishaps {
            befall(&sample.medium, *file, mishap);
        }
        let inspector = Inspector::open(sample.medium.disk()).unwrap();
        let _ = inspector.verify();
        inspector.dump(|_| ControlFlow::Continue(())).unwrap();
        drop(inspector);
        let check = Check { verify_from, floor: None, suspects: &[] };
        if let Ok((wal, _)) = sample.open(&sample.medium, check) {
            let (start, last) = (wal.log_start().index, wal.last().index);
            prop_assert!(last <= sample.model.last().index);
            for index in start + 1..=last {
                if let Ok(found) = wal.read(index, index, 1) {
                    let is_held = sample.model.entries.get(&index) == Some(&found[0]);
                    prop_assert!(is_held || sample.dead.contains(&found[0]));
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_read_in_linear_time(
        seed in any::<u64>(),
        fill in prop_oneof![Just(0_u8), Just(1), Just(0xff)],
    ) {
        let medium = SimDisk::new();
        let size = 48 * 1024;
        let mut made = options(size);
        made.log_id = Some(LogId(u128::from(seed)));
        drop(Wal::create(medium.disk(), made.clone()).unwrap());
        let file = medium.files()[0].clone();
        let mut random = crate::harness::Random::new(seed);
        medium.corrupt(&file, |contents| {
            for word in contents[160..].chunks_mut(8) {
                let value = random.draw();
                let bytes = if value.is_multiple_of(5) { value.to_le_bytes() } else { [fill; 8] };
                word.copy_from_slice(&bytes[..word.len()]);
            }
        });
        medium.record_operations();
        let _ = Wal::open(medium.disk(), made, Check::default());
        let read: u64 = medium
            .operations()
            .iter()
            .filter(|operation| operation.kind == OperationKind::Read)
            .map(|operation| operation.bytes)
            .sum();
        prop_assert!(read <= 10 * size, "{read} bytes read of {size}");
    }
}
