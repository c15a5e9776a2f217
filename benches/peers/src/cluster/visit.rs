//! One system for one round: it is started, filled, put to all its work, looked at, and ended.

use std::path::Path;
use std::time::Duration;

use benches::Result;
use load::{Checked, Report};
use serde::de::DeserializeOwned;

use crate::cluster::count::{self, Calls};
use crate::cluster::process::{command, output};
use crate::cluster::servers::{self, Servers};
use crate::cluster::system::{Client, FLOOR, Row, System};
use crate::cluster::tools::{Tool, sibling};
use crate::cluster::work::{CROWD, ONE_BY_ONE, PEAK, To, Work};

/// What a load program may take beyond the time of its measurement.
const GRACE: Duration = Duration::from_secs(30);
/// What filling a system and reading it back may take.
const FILL_LIMIT: Duration = Duration::from_secs(150);
/// How long system calls are counted, in seconds.
const COUNTED_SECONDS: f64 = 1.0;

/// What one measurement came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) report: Report,
    /// Of all servers together, for each request that was answered.
    pub(crate) server_cpu_us: f64,
    /// Of the load program.
    pub(crate) load_cpu_us: f64,
}

/// System calls, and the writes that they were made for.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) calls: Calls,
    pub(crate) writes: u64,
}

/// What a visit came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visit {
    pub(crate) samples: Vec<(Row, Work, Sample)>,
    pub(crate) resident_bytes: u64,
    /// With one client, and with many.
    pub(crate) counted: Option<(Counted, Counted)>,
    pub(crate) checked: Option<Checked>,
}

/// What is to be done in a visit.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) works: &'a [Work],
    pub(crate) seconds: f64,
    /// Whether system calls are counted too.
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Yes,
    No,
}

/// A system that runs and has its keys.
struct Running<'a> {
    system: System,
    servers: Servers,
    directory: &'a Path,
}

/// Does all of it, in `directory`, which is empty.
pub(crate) fn visit(
    system: System,
    tool: &Tool,
    directory: &Path,
    plan: &Plan<'_>,
) -> Result<Visit> {
    let servers = servers::start(system, tool, directory)?;
    let mut running = Running { system, servers, directory };
    let mut visit = Visit::default();
    running.work(plan, &mut visit).map_err(|error| {
        let words = running.servers.last_words();
        format!("{}: {error}\n{words}", system.name())
    })?;
    Ok(visit)
}

impl Running<'_> {
    fn work(&mut self, plan: &Plan<'_>, visit: &mut Visit) -> Result<()> {
        self.prepare()?;
        for row in self.system.rows() {
            for work in plan.works.iter().filter(|work| row.can(work)) {
                let rate = match work.is_open() {
                    true => Some(self.half_peak(*row, visit, plan.seconds)?),
                    false => None,
                };
                let sample = self.sample(*row, work, plan.seconds, rate)?;
                visit.samples.push((*row, *work, sample));
                self.servers.check()?;
            }
        }
        visit.resident_bytes = self.servers.resident_bytes()?;
        if plan.counts == Counts::Yes {
            visit.counted = Some((self.count(&ONE_BY_ONE)?, self.count(&CROWD)?));
        }
        if self.system.is_store() {
            visit.checked = Some(self.drive("leader", &["check"], FILL_LIMIT)?);
        }
        self.servers.check()
    }

    /// Waits until it works, and fills it.
    fn prepare(&mut self) -> Result<()> {
        if self.system.is_store() {
            let _prepared: serde_json::Value = self.drive("leader", &["prepare"], FILL_LIMIT)?;
            return self.servers.check();
        }
        // The floor has no keys; it listens once its followers do.
        let mut attempts = 0;
        let once = Work { clients: 1, ..ONE_BY_ONE };
        while let Err(error) = self.ask(FLOOR, &once, 0.01, None) {
            attempts += 1;
            self.servers.check()?;
            if attempts == 100 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Half of the most writes a second that this row has reached in this visit.
    fn half_peak(&self, row: Row, visit: &Visit, seconds: f64) -> Result<u64> {
        let mine = visit.samples.iter().filter(|(of, work, _)| *of == row && work.is_peak());
        let peak = mine.map(|(_, _, sample)| sample.report.rate()).reduce(f64::max);
        let peak = match peak {
            Some(peak) => peak,
            None => self.ask(row, &PEAK, seconds, None)?.rate(),
        };
        Ok((peak / 2.0) as u64)
    }

    fn sample(&self, row: Row, work: &Work, seconds: f64, rate: Option<u64>) -> Result<Sample> {
        let before = self.servers.cpu_seconds()?;
        let report = self.ask(row, work, seconds, rate)?;
        let used = self.servers.cpu_seconds()? - before;
        let each = |seconds: f64| seconds * 1e6 / report.answered as f64;
        let (server_cpu_us, load_cpu_us) = (each(used), each(report.load_cpu_seconds));
        Ok(Sample { report, server_cpu_us, load_cpu_us })
    }

    fn count(&self, work: &Work) -> Result<Counted> {
        let tracing = count::begin(&self.servers.ids(), self.directory)?;
        let row = *self.system.rows().first().ok_or("a system without a row")?;
        let report = self.ask(row, work, COUNTED_SECONDS, None)?;
        Ok(Counted { calls: tracing.end()?, writes: report.answered })
    }

    /// Runs the load program of a row.
    fn ask(&self, row: Row, work: &Work, seconds: f64, rate: Option<u64>) -> Result<Report> {
        let limit = GRACE + Duration::from_secs_f64(seconds);
        if row.client == Client::Drive {
            let to = match (self.system, work.to) {
                (System::Floor, _) => "first",
                (_, To::Followers) => "followers",
                (_, To::Leader) => "leader",
            };
            let mut load = self.driver(to)?;
            load.arg("run");
            work.arguments(&mut load, seconds, rate);
            return parse(&output(load, limit)?);
        }
        let endpoint = self.endpoint_for_bare_client()?;
        let mut load = command(&sibling("floor")?);
        load.args(["ask", "--endpoint", &endpoint]);
        work.arguments(&mut load, seconds, rate);
        parse(&output(load, limit)?)
    }

    /// The bare client knows nothing of leaders; whoever started it does.
    fn endpoint_for_bare_client(&self) -> Result<String> {
        let first = || self.servers.endpoints.first().cloned().ok_or_else(|| "no server".into());
        if self.system == System::Floor {
            return first();
        }
        let found: Vec<String> = self.drive("leader", &["find"], GRACE)?;
        found.into_iter().next().ok_or_else(|| "nobody leads".into())
    }

    fn driver(&self, to: &str) -> Result<std::process::Command> {
        let mut drive = command(&sibling("drive")?);
        drive.args(["--system", self.system.protocol()]);
        drive.args(["--endpoints", &self.servers.endpoints.join(","), "--to", to]);
        Ok(drive)
    }

    /// Runs the common load program for something else than a measurement.
    fn drive<T: DeserializeOwned>(&self, to: &str, task: &[&str], limit: Duration) -> Result<T> {
        let mut drive = self.driver(to)?;
        drive.args(task);
        parse(&output(drive, limit)?)
    }
}

fn parse<T: DeserializeOwned>(printed: &str) -> Result<T> {
    Ok(serde_json::from_str(printed.trim())?)
}
