//! The steps in which one node takes a batch and hands it on, beside a list that does the same.
//! `cargo bench -p benches --bench replication` times the other steps too, which have no floor.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::Result;
use benches::figure::{Figure, Goal};
use benches::measure::{Side, Slice, Turns};
use benches::nodes::{OneList, Step, Stopwatch, Trio};
use bytes::Bytes;
use raft::node::Payload;

use crate::{Care, Session};

const COMMAND_BYTES: usize = 100;
const BATCH: usize = 64;

/// The steps, each with what it hands on at least: a copy for the own disk, and on the leader one
/// for each follower.
const STEPS: [(Step, usize); 2] = [(Step::LeaderAppend, 3), (Step::FollowerAppend, 1)];

struct Ours {
    trio: Trio,
    step: Step,
}

impl Side for Ours {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let mut stopwatch = Stopwatch::new(self.step);
        while begin.elapsed() < length {
            self.trio.replicate_in_steps(&mut stopwatch)?;
        }
        Ok(stopwatch.slice())
    }
}

struct Floor {
    list: OneList,
    batch: Vec<Payload>,
    copies: usize,
}

impl Side for Floor {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let (mut times, mut elapsed) = (0, Duration::ZERO);
        while begin.elapsed() < length {
            let batch = self.batch.clone();
            let begin = Instant::now();
            let handed_on = black_box(self.list.append(batch, self.copies));
            elapsed += begin.elapsed();
            times += 1;
            drop(handed_on);
        }
        Ok(Slice::whole(times, elapsed))
    }
}

pub(super) fn measure(session: &mut Session) -> Result<()> {
    for (step, copies) in STEPS {
        let name = format!("raft.step.{}.{BATCH}x{COMMAND_BYTES}.rate", step.name());
        if !session.wants(&format!("the step {}", step.name()), &[&name]) {
            continue;
        }
        let payload = Payload::new(Bytes::from(vec![b'x'; COMMAND_BYTES]));
        let mut ours = Ours { trio: Trio::elect(BATCH, COMMAND_BYTES)?, step };
        let mut floor = Floor { list: OneList::default(), batch: vec![payload; BATCH], copies };
        let rounds = if session.care == Care::Quick { 5 } else { 20 };
        let turns = Turns { rounds, slice: Duration::from_millis(100) };
        let samples = session.take_turns(&mut [&mut ours, &mut floor], turns)?;
        if let [ours, floor] = samples.as_slice() {
            session.print(&Figure {
                name,
                value: ours.rate(),
                unit: "batches/s",
                floor: floor.rate(),
                goal: Goal::None,
            })?;
        }
    }
    Ok(())
}
