//! All that was measured: medians over the rounds, ratios, and what speaks against a figure.

use std::io::{self, Write};

use load::Checked;
use serde_json::{Value, json};

use crate::cluster::system::{FLOOR, OURS, Row, System};
use crate::cluster::tools::Tool;
use crate::cluster::visit::{Counted, Sample, Visit};
use crate::cluster::work::Work;

/// A write is durable in time if a majority has synced in between. A count ends in the middle of
/// something, so a few percent may be missing.
const SYNCS_SHARE_MIN: f64 = 0.95;

/// Rounds that differ by more than this were not measured on a quiet machine.
const QUIET_SPREAD_MAX: f64 = 1.5;

/// Everything, of all rounds.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    /// What was measured, and which version of it.
    pub(crate) systems: Vec<(System, String)>,
    visits: Vec<(System, Visit)>,
}

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// How many rounds there were, which are fewer if the time was over or a system failed.
    pub(crate) rounds: usize,
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

/// What is measured of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) of: fn(&Sample) -> f64,
}

pub(crate) const THROUGHPUT: Metric =
    Metric { name: "throughput", unit: "ops/s", of: |sample| sample.report.rate() };

/// All of them.
pub(crate) const METRICS: [Metric; 7] = [
    THROUGHPUT,
    Metric { name: "p50", unit: "us", of: |sample| sample.report.p50_us as f64 },
    Metric { name: "p99", unit: "us", of: |sample| sample.report.p99_us as f64 },
    Metric { name: "p999", unit: "us", of: |sample| sample.report.p999_us as f64 },
    Metric { name: "server-cpu", unit: "us/op", of: |sample| sample.server_cpu_us },
    Metric { name: "load-cpu", unit: "us/op", of: |sample| sample.load_cpu_us },
    Metric { name: "failed", unit: "ops", of: |sample| sample.report.failed as f64 },
];

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0,
            _ => *values.get(middle)?,
        };
        let (low, high) = (*values.first()?, *values.last()?);
        Some(Spread { rounds: values.len(), low, median, high })
    }
}

impl Counted {
    pub(crate) fn calls_per_write(&self) -> f64 {
        self.calls.all as f64 / self.writes as f64
    }

    pub(crate) fn syncs_per_write(&self) -> f64 {
        self.calls.syncs as f64 / self.writes as f64
    }
}

impl Summary {
    pub(crate) fn new(rounds: u32, seconds: f64, systems: &[(System, Tool)]) -> Summary {
        let systems = systems.iter().map(|(system, tool)| (*system, tool.version.clone()));
        Summary { rounds, seconds, systems: systems.collect(), visits: Vec::new() }
    }

    pub(crate) fn add(&mut self, system: System, visit: Visit) {
        self.visits.push((system, visit));
    }

    /// The rows that have something about this work.
    pub(crate) fn rows(&self, work: &Work) -> Vec<Row> {
        let rows = self.systems.iter().flat_map(|(system, _)| system.rows()).copied();
        rows.filter(|row| self.spread(*row, work, THROUGHPUT).is_some()).collect()
    }

    fn samples(&self, row: Row, work: &Work) -> impl Iterator<Item = &Sample> {
        let all = self.visits.iter().flat_map(|(_, visit)| &visit.samples);
        let work = *work;
        all.filter(move |(of, at, _)| *of == row && *at == work).map(|(_, _, sample)| sample)
    }

    pub(crate) fn spread(&self, row: Row, work: &Work, metric: Metric) -> Option<Spread> {
        Spread::of(self.samples(row, work).map(metric.of))
    }

    /// The first reason for which a request of this row failed.
    pub(crate) fn first_error(&self, row: Row, work: &Work) -> Option<&str> {
        self.samples(row, work).find_map(|sample| sample.report.first_error.as_deref())
    }

    fn of(&self, system: System) -> impl Iterator<Item = &Visit> {
        self.visits.iter().filter(move |(of, _)| *of == system).map(|(_, visit)| visit)
    }

    pub(crate) fn resident_megabytes(&self, system: System) -> Option<Spread> {
        Spread::of(self.of(system).map(|visit| visit.resident_bytes as f64 / 1e6))
    }

    /// System calls with one client, and with many.
    pub(crate) fn counted(&self, system: System) -> Option<&(Counted, Counted)> {
        self.of(system).find_map(|visit| visit.counted.as_ref())
    }

    /// What was read back, in all rounds.
    pub(crate) fn checked(&self, system: System) -> Option<Checked> {
        let all = self.of(system).filter_map(|visit| visit.checked.as_ref());
        all.cloned().reduce(|sum, next| Checked {
            read: sum.read + next.read,
            missing: sum.missing + next.missing,
            wrong: sum.wrong + next.wrong,
        })
    }

    /// Whether each write of a single client was synced by a majority before it was acknowledged.
    pub(crate) fn is_durable(&self, system: System) -> Option<bool> {
        let (one, _) = self.counted(system)?;
        let syncing = one.calls.syncs_of_each.iter().filter(|syncs| **syncs > 0).count() as f64;
        let enough = one.syncs_per_write() >= system.copies() * SYNCS_SHARE_MIN;
        Some(syncing >= system.copies() && enough)
    }

    /// How many throughputs there are, and how many of them differ from round to round by more
    /// than they do on a quiet machine.
    pub(crate) fn unsteady(&self, works: &[Work]) -> (usize, usize) {
        let rows =
            works.iter().flat_map(|work| self.rows(work).into_iter().map(move |row| (row, work)));
        let spreads = rows.filter_map(|(row, work)| self.spread(row, work, THROUGHPUT));
        let unsteady = |spread: &Spread| spread.high > spread.low * QUIET_SPREAD_MAX;
        let spreads: Vec<Spread> = spreads.collect();
        (spreads.iter().filter(|spread| unsteady(spread)).count(), spreads.len())
    }

    /// What makes figures worth nothing.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for (system, _) in &self.systems {
            let name = system.name();
            if self.is_durable(*system) == Some(false) {
                doubts.push(format!("{name} acknowledges writes that no majority has synced"));
            }
            if let Some(Checked { read, missing, wrong }) = self.checked(*system)
                && missing + wrong > 0
            {
                doubts.push(format!("{name}: of {read} keys {missing} are gone, {wrong} wrong"));
            }
        }
        doubts
    }

    /// One object a line: of each load every metric of every row, and then of each system the rest.
    pub(crate) fn print_json(&self, works: &[Work]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for work in works {
            for row in self.rows(work) {
                for metric in METRICS {
                    if let Some(object) = self.json(row, work, metric) {
                        writeln!(out, "{object}")?;
                    }
                }
            }
        }
        for (system, version) in &self.systems {
            writeln!(out, "{}", self.json_of_system(*system, version))?;
        }
        out.flush()
    }

    fn json(&self, row: Row, work: &Work, metric: Metric) -> Option<Value> {
        let spread = self.spread(row, work, metric)?;
        let of = |row| self.spread(row, work, metric).map(|spread| spread.median);
        let (floor, ours) = (of(FLOOR), of(OURS));
        Some(json!({
            "name": format!("cluster.{}.{}", work.name, metric.name),
            "system": row.name(),
            "clients": work.clients,
            "pipeline": work.pipeline,
            "rounds": spread.rounds,
            "seconds": self.seconds,
            "value": spread.median,
            "low": spread.low,
            "high": spread.high,
            "unit": metric.unit,
            "floor": floor,
            "ratio": floor.map(|floor| spread.median / floor),
            "ours": ours,
            "ours_ratio": ours.map(|ours| ours / spread.median),
        }))
    }

    fn json_of_system(&self, system: System, version: &str) -> Value {
        let memory = self.resident_megabytes(system);
        let counted = self.counted(system);
        let each = |of: fn(&Counted) -> f64| counted.map(|(one, many)| [of(one), of(many)]);
        json!({
            "name": "cluster.system",
            "system": system.name(),
            "version": version,
            "resident_megabytes": memory.map(|spread| spread.median),
            "calls_per_put": each(Counted::calls_per_write),
            "syncs_per_put": each(Counted::syncs_per_write),
            "durable": self.is_durable(system),
            "checked": self.checked(system),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|it| it.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
