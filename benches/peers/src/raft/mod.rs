//! The protocol beside raft-rs, and replicas that run beside openraft: three nodes in one process,
//! no disk and no network.

mod raft_rs;

use std::time::Duration;

use benches::Result;
use benches::measure::{Side, Turns, take_turns};
use benches::nodes::TrioSide;

use self::raft_rs::RaftRs;
use crate::print::Comparison;
use crate::{Care, Session};

const COMMAND_BYTES: usize = 100;

/// Entries that are proposed at once.
const BATCHES: [usize; 3] = [1, 16, 64];

/// Measures everything.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    nodes(session)
}

/// Nodes alone on one thread; each batch is committed before the next begins.
fn nodes(session: &mut Session) -> Result<()> {
    for batch in BATCHES {
        let name = format!("raft.node.{batch}x{COMMAND_BYTES}.throughput");
        let mut ours = TrioSide::elect(batch, COMMAND_BYTES)?;
        let mut theirs = RaftRs::elect(batch, COMMAND_BYTES)?;
        compare(session, name, &mut ours, ("raft-rs", &mut theirs))?;
    }
    Ok(())
}

fn compare(
    session: &mut Session,
    name: String,
    ours: &mut dyn Side,
    (other, theirs): (&'static str, &mut dyn Side),
) -> Result<()> {
    if !name.contains(&session.only) {
        return Ok(());
    }
    eprintln!("measuring {name}");
    let rounds = if session.care == Care::Quick { 9 } else { 41 };
    let turns = Turns { rounds, slice: Duration::from_millis(100) };
    let samples = take_turns(&mut [ours, theirs], turns)?;
    if let [ours, theirs] = samples.as_slice() {
        session.printer.print(&Comparison {
            name,
            value: ours.rate(),
            unit: "entries/s",
            others: vec![(other, theirs.rate())],
        })?;
    }
    Ok(())
}
