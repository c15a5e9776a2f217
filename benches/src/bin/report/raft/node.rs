//! The protocol alone: three nodes on one thread.

use std::time::{Duration, Instant};

use benches::Result;
use benches::figure::{Figure, Goal};
use benches::measure::{Side, Slice, Turns};
use benches::nodes::{ThreeLists, TrioSide};
use bytes::Bytes;
use raft::node::Payload;

use crate::{Care, Session};

const COMMAND_BYTES: usize = 100;

struct Floor {
    lists: ThreeLists,
    batch: Vec<Payload>,
}

impl Side for Floor {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let mut batches = 0;
        while begin.elapsed() < length {
            for _ in 0..16 {
                self.lists.replicate(&self.batch);
            }
            batches += 16;
        }
        Ok(Slice::whole(batches * self.batch.len() as u64, begin.elapsed()))
    }
}

pub(super) fn measure(session: &mut Session) -> Result<()> {
    for batch in [1, 64, 256] {
        let name = format!("raft.node.{batch}x100.throughput");
        if !session.wants(&format!("the protocol with batches of {batch}"), &[&name]) {
            continue;
        }
        let payload = Payload::new(Bytes::from(vec![b'x'; COMMAND_BYTES]));
        let mut ours = TrioSide::elect(batch, COMMAND_BYTES)?;
        let mut floor = Floor { lists: ThreeLists::default(), batch: vec![payload; batch] };
        let rounds = if session.care == Care::Quick { 5 } else { 20 };
        let turns = Turns { rounds, slice: Duration::from_millis(100) };
        let samples = session.take_turns(&mut [&mut ours, &mut floor], turns)?;
        if let [ours, floor] = samples.as_slice() {
            session.print(&Figure {
                name,
                value: ours.rate(),
                unit: "entries/s",
                floor: floor.rate(),
                goal: Goal::None,
            })?;
        }
    }
    Ok(())
}
