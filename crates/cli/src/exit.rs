//! The exit codes: what a script can branch on. They are a contract, so they stand in one place.

use std::process::ExitCode;

/// How a run of `kvctl` ended.
///
/// The numbers never change their meaning. The names are what `-o json` prints as `error.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// Something that has no code of its own.
    Unexpected,
    /// The arguments or the configuration make no sense; nothing was tried.
    Usage,
    /// No server could be reached and nothing was sent.
    Unreachable,
    /// The key does not exist.
    NotFound,
    /// The condition of a write did not hold; nothing was written.
    ConditionFailed,
    /// A server refused; nothing happened.
    Refused,
    /// Servers answered, and none of them leads; nothing was written.
    NoLeader,
    /// A write was sent and its answer never came: it may have been applied, or may yet be.
    Unknown,
    /// Data on disk is damaged.
    Damaged,
    /// A log ends with a write that is not whole, and is whole otherwise.
    Torn,
    /// The time given was not enough; nothing was changed.
    TimedOut,
    /// Ended by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every code, in the order of its number.
    pub(crate) const ALL: [Exit; 13] = [
        Exit::Ok,
        Exit::Unexpected,
        Exit::Usage,
        Exit::Unreachable,
        Exit::NotFound,
        Exit::ConditionFailed,
        Exit::Refused,
        Exit::NoLeader,
        Exit::Unknown,
        Exit::Damaged,
        Exit::Torn,
        Exit::TimedOut,
        Exit::Interrupted,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Unexpected => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::NotFound => 4,
            Exit::ConditionFailed => 5,
            Exit::Refused => 6,
            Exit::NoLeader => 7,
            Exit::Unknown => 8,
            Exit::Damaged => 10,
            Exit::Torn => 11,
            Exit::TimedOut => 124,
            Exit::Interrupted => 130,
        }
    }

    /// The name under which `-o json` reports it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Unexpected => "unexpected",
            Exit::Usage => "usage",
            Exit::Unreachable => "unreachable",
            Exit::NotFound => "not_found",
            Exit::ConditionFailed => "condition_failed",
            Exit::Refused => "refused",
            Exit::NoLeader => "no_leader",
            Exit::Unknown => "unknown",
            Exit::Damaged => "damaged",
            Exit::Torn => "torn",
            Exit::TimedOut => "timed_out",
            Exit::Interrupted => "interrupted",
        }
    }

    /// What it means, in the words of `kvctl help exit-codes`.
    #[must_use]
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Unexpected => "something that has no code of its own",
            Exit::Usage => "arguments or configuration make no sense",
            Exit::Unreachable => "no server could be reached; nothing was sent",
            Exit::NotFound => "the key does not exist",
            Exit::ConditionFailed => "the condition did not hold; nothing was written",
            Exit::Refused => "a server refused; nothing happened",
            Exit::NoLeader => "servers answered, but none of them leads",
            Exit::Unknown => "a write was sent and not answered",
            Exit::Damaged => "data on disk is damaged",
            Exit::Torn => "a log ends with a write that is not whole (wal verify)",
            Exit::TimedOut => "the time given was not enough for a read",
            Exit::Interrupted => "ended by Ctrl-C",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_numbers_are_the_contract() {
        let numbers: Vec<(u8, &str)> = Exit::ALL.iter().map(|e| (e.code(), e.name())).collect();
        assert_eq!(
            numbers,
            [
                (0, "ok"),
                (1, "unexpected"),
                (2, "usage"),
                (3, "unreachable"),
                (4, "not_found"),
                (5, "condition_failed"),
                (6, "refused"),
                (7, "no_leader"),
                (8, "unknown"),
                (10, "damaged"),
                (11, "torn"),
                (124, "timed_out"),
                (130, "interrupted"),
            ]
        );
    }
}
