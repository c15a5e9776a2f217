//! The section about losing a leader: three real servers with default settings, eight clients that
//! write, and a leader that is killed again and again.
//!
//! Its floor is what the same load waits for at most while nobody dies: a write and its share of
//! what else the machine does. What is above it is detection, the random wait, two rounds of votes
//! and the clients' way to the new leader.

use std::time::Duration;

use benches::Result;
use benches::figure::{Figure, Goal};
use verify::cluster::Cluster;
use verify::gap::{self, percentile};

use crate::{Care, Session};

/// What the goals are, in milliseconds.
const P50_MS_MAX: f64 = 150.0;
const P99_MS_MAX: f64 = 400.0;

/// The commands that a cluster under test runs its program with.
pub(crate) fn is_command(word: &str) -> bool {
    ["serve", "status"].contains(&word)
}

/// Measures the longest gap in writes over many deaths of the leader.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    let names = ["raft.failover.gap.p50", "raft.failover.gap.p99"];
    if !session.wants("what the death of a leader costs", &names) {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let mut cluster = Cluster::started(&program.to_string_lossy(), 3);
    let rounds = if session.care == Care::Quick { 5 } else { 20 };
    let mut deaths = Vec::new();
    let mut calm = Vec::new();
    for _ in 0..rounds {
        calm.push(gap::measure_calm(&cluster).cluster);
        deaths.push(gap::measure(&mut cluster).cluster);
    }
    deaths.sort_unstable();
    calm.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    for (name, percent, most) in [(names[0], 50, P50_MS_MAX), (names[1], 99, P99_MS_MAX)] {
        session.print(&Figure {
            name: name.into(),
            value: ms(percentile(&deaths, percent)),
            unit: "ms",
            floor: ms(percentile(&calm, percent)),
            goal: Goal::ValueAtMost(most),
        })?;
    }
    Ok(())
}
