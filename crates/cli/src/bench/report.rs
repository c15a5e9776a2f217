//! What a bench found out, and how it is printed.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::args::{BenchArgs, BenchOperation};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Answer;

/// The longest latency that can be told from a longer one: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// What happened to the requests of a bench, or of a part of it.
pub(super) struct Tally {
    latency_us: Histogram<u64>,
    /// Requests that ended without having had an effect.
    pub(super) errors: u64,
    /// Writes of which nobody knows whether they were applied.
    pub(super) unknown: u64,
    /// The first of the errors, in words.
    pub(super) first_error: Option<String>,
}

impl Tally {
    /// Nothing happened yet.
    pub(super) fn new() -> Result<Tally, Failure> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(|error| {
            Failure::new(Exit::Unexpected, format!("cannot measure latencies: {error}"))
        })?;
        Ok(Tally { latency_us, errors: 0, unknown: 0, first_error: None })
    }

    /// A request was answered after this time.
    pub(super) fn answered(&mut self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(us);
    }

    /// How many requests were answered.
    pub(super) fn ops(&self) -> u64 {
        self.latency_us.len()
    }

    /// Adds what happened in another part.
    pub(super) fn add(&mut self, other: Tally) -> Result<(), Failure> {
        self.errors += other.errors;
        self.unknown += other.unknown;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency_us.add(&other.latency_us).map_err(|error| {
            Failure::new(Exit::Unexpected, format!("cannot add up latencies: {error}"))
        })
    }
}

/// The result of a bench.
pub(super) struct Report {
    pub(super) operation: BenchOperation,
    pub(super) clients: u32,
    pub(super) connections: u32,
    pub(super) pipeline: u32,
    pub(super) value_size: u32,
    pub(super) elapsed: Duration,
    pub(super) tally: Tally,
}

impl Report {
    /// The result of a bench with these arguments.
    pub(super) fn new(args: &BenchArgs, connections: u32, elapsed: Duration, tally: Tally) -> Self {
        Report {
            operation: args.operation,
            clients: args.clients,
            connections,
            pipeline: args.pipeline,
            value_size: args.value_size,
            elapsed,
            tally,
        }
    }

    fn ops_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.tally.ops() as f64 / seconds } else { 0.0 }
    }

    fn operation_name(&self) -> &'static str {
        match self.operation {
            BenchOperation::Put => "put",
            BenchOperation::Get => "get",
            BenchOperation::Mixed => "mixed",
        }
    }
}

/// The percentiles that are reported.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

impl Answer for Report {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Report { clients, connections, pipeline, value_size, tally, .. } = self;
        writeln!(
            out,
            "{}: {clients} clients, {connections} connections, pipeline {pipeline}, values of \
             {value_size} bytes",
            self.operation_name()
        )?;
        writeln!(
            out,
            "  {:.0} operations a second: {} in {:.2} s, {} errors, {} unknown",
            self.ops_per_second(),
            tally.ops(),
            self.elapsed.as_secs_f64(),
            tally.errors,
            tally.unknown
        )?;
        write!(out, "  latency in us:")?;
        for (name, quantile) in PERCENTILES {
            write!(out, " {name} {},", tally.latency_us.value_at_quantile(quantile))?;
        }
        writeln!(out, " max {}", tally.latency_us.max())
    }

    fn json(&self) -> Value {
        let mut latency = serde_json::Map::new();
        for (name, quantile) in PERCENTILES {
            let value = self.tally.latency_us.value_at_quantile(quantile);
            latency.insert(name.to_owned(), json!(value));
        }
        latency.insert("max".to_owned(), json!(self.tally.latency_us.max()));
        json!({
            "op": self.operation_name(),
            "clients": self.clients,
            "connections": self.connections,
            "pipeline": self.pipeline,
            "value_size": self.value_size,
            "seconds": self.elapsed.as_secs_f64(),
            "ops": self.tally.ops(),
            "ops_per_sec": self.ops_per_second(),
            "errors": self.tally.errors,
            "unknown": self.tally.unknown,
            "latency_us": latency,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, Tally};
    use crate::args::BenchOperation;
    use crate::output::Answer;

    fn report() -> Report {
        let mut tally = Tally::new().unwrap();
        for us in 1..=1000 {
            tally.answered(Duration::from_micros(us));
        }
        tally.errors = 2;
        tally.unknown = 1;
        Report {
            operation: BenchOperation::Put,
            clients: 64,
            connections: 8,
            pipeline: 1,
            value_size: 100,
            elapsed: Duration::from_secs(2),
            tally,
        }
    }

    #[test]
    fn the_json_object_has_exactly_the_keys_of_the_contract() {
        let json = report().json();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "op",
                "clients",
                "connections",
                "pipeline",
                "value_size",
                "seconds",
                "ops",
                "ops_per_sec",
                "errors",
                "unknown",
                "latency_us"
            ]
        );
        let latency: Vec<&String> = json["latency_us"].as_object().unwrap().keys().collect();
        assert_eq!(latency, ["p50", "p90", "p99", "p999", "max"]);
    }

    #[test]
    fn the_numbers_are_those_of_the_requests() {
        let json = report().json();
        assert_eq!(json["ops"], 1000);
        assert_eq!(json["ops_per_sec"], 500.0);
        assert_eq!(json["errors"], 2);
        assert_eq!(json["unknown"], 1);
        assert_eq!(json["latency_us"]["p50"], 500);
        assert_eq!(json["latency_us"]["max"], 1000);
    }

    #[test]
    fn parts_add_up() {
        let mut whole = Tally::new().unwrap();
        for (us, errors) in [(10, 1), (20, 0)] {
            let mut part = Tally::new().unwrap();
            part.answered(Duration::from_micros(us));
            part.errors = errors;
            whole.add(part).unwrap();
        }
        assert_eq!((whole.ops(), whole.errors), (2, 1));
    }

    #[test]
    fn a_latency_beyond_the_scale_still_counts() {
        let mut tally = Tally::new().unwrap();
        tally.answered(Duration::from_secs(1_000_000));
        tally.answered(Duration::ZERO);
        assert_eq!(tally.ops(), 2);
    }
}
