//! The protocol beside raft-rs, and replicas that run beside openraft: three nodes in one process,
//! no disk and no network.

mod openraft;
mod raft_rs;
mod replicas;

use std::time::Duration;

use benches::Result;
use benches::measure::{Side, Turns, take_turns};
use benches::nodes::TrioSide;

use self::openraft::OpenRaft;
use self::raft_rs::RaftRs;
use self::replicas::Replicas;
use crate::print::Comparison;
use crate::{Care, Session};

const COMMAND_BYTES: usize = 100;

/// Entries that are proposed at once.
const BATCHES: [usize; 3] = [1, 16, 64];

/// Clients that each wait for their answer before they ask again.
const CLIENTS: [usize; 4] = [1, 64, 256, 1024];

/// Measures everything.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    nodes(session)?;
    replicas(session)
}

/// Nodes alone on one thread; each batch is committed before the next begins.
fn nodes(session: &mut Session) -> Result<()> {
    for batch in BATCHES {
        let name = format!("raft.node.{batch}x{COMMAND_BYTES}.throughput");
        if !name.contains(&session.only) {
            continue;
        }
        let mut ours = TrioSide::elect(batch, COMMAND_BYTES)?;
        let mut theirs = RaftRs::elect(batch, COMMAND_BYTES)?;
        compare(session, name, &mut ours, ("raft-rs", &mut theirs))?;
    }
    Ok(())
}

/// Replicas that run, with clients in a closed loop.
fn replicas(session: &mut Session) -> Result<()> {
    for clients in CLIENTS {
        let name = format!("raft.replica.c{clients}.throughput");
        if !name.contains(&session.only) {
            continue;
        }
        let mut ours = Replicas::start(clients, COMMAND_BYTES)?;
        let mut theirs = OpenRaft::start(clients, COMMAND_BYTES)?;
        compare(session, name, &mut ours, ("openraft", &mut theirs))?;
    }
    Ok(())
}

fn compare(
    session: &mut Session,
    name: String,
    ours: &mut dyn Side,
    (other, theirs): (&'static str, &mut dyn Side),
) -> Result<()> {
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
