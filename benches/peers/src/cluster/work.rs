//! The work that every system is put to.

use std::process::Command;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Leader,
    Followers,
}

/// When requests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// When the one before is answered.
    Closed,
    /// At half of the highest rate that the same system has reached in the same round.
    HalfPeak,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) clients: u32,
    pub(crate) pipeline: u32,
    pub(crate) to: To,
    pub(crate) pace: Loop,
}

const fn closed(name: &'static str, operation: &'static str, clients: u32, pipeline: u32) -> Work {
    Work { name, operation, clients, pipeline, to: To::Leader, pace: Loop::Closed }
}

/// One client, and as many writes as it gets acknowledged: what shows whether each is durable.
pub(crate) const ONE_BY_ONE: Work = closed("put.1", "put", 1, 1);
/// Where system calls are counted under load.
pub(crate) const CROWD: Work = closed("put.64", "put", 64, 1);
/// What the pace of an open loop comes from if no other writes were measured.
pub(crate) const PEAK: Work = closed("put.256", "put", 256, 1);

/// All of it.
pub(crate) const WORKS: [Work; 13] = [
    ONE_BY_ONE,
    CROWD,
    PEAK,
    closed("put.1000", "put", 1000, 1),
    closed("put.64x16", "put", 64, 16),
    Work { pace: Loop::HalfPeak, ..closed("put.half-peak", "put", 256, 1) },
    closed("get.1", "get", 1, 1),
    closed("get.64", "get", 64, 1),
    closed("get.256", "get", 256, 1),
    closed("get.1000", "get", 1000, 1),
    closed("get.64x16", "get", 64, 16),
    Work { to: To::Followers, ..closed("get.64.followers", "get", 64, 1) },
    closed("mixed.64", "mixed", 64, 1),
];

impl Work {
    pub(crate) fn is_open(&self) -> bool {
        self.pace == Loop::HalfPeak
    }

    /// Whether its throughput says how much the system can take of writes that wait.
    pub(crate) fn is_peak(&self) -> bool {
        self.operation == "put" && self.pipeline == 1 && !self.is_open()
    }

    /// What it is, for people.
    pub(crate) fn title(&self) -> String {
        let Work { operation, clients, pipeline, .. } = self;
        let operation = match *operation {
            "mixed" => "nine gets for each put",
            other => other,
        };
        let clients = if *clients == 1 { "1 client".into() } else { format!("{clients} clients") };
        let pipeline = if *pipeline > 1 { format!(" x {pipeline}") } else { String::new() };
        let to = if self.to == To::Followers { ", followers asked" } else { "" };
        let open = if self.is_open() { ", open loop at half the peak of each" } else { "" };
        format!("{operation}, {clients}{pipeline}{to}{open}")
    }

    /// The arguments of a load program.
    pub(crate) fn arguments(&self, command: &mut Command, seconds: f64, rate: Option<u64>) {
        command.args(["--operation", self.operation]);
        command.args(["--clients", &self.clients.to_string()]);
        command.args(["--pipeline", &self.pipeline.to_string()]);
        command.args(["--seconds", &seconds.to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
    }
}
