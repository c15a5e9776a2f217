//! A space-time diagram of the end of a run: one column a server, time downwards, arrows for
//! messages, words for what befell a server. It fits a terminal of 100 columns.

use std::collections::VecDeque;
use std::fmt;

use super::course::Strike;
use super::plan::{FaultKind, SERVERS_MAX};

/// As wide as it may be, in characters.
const WIDTH: usize = 100;

/// The column of times.
const TIME_WIDTH: usize = 12;

/// Room for what is said beside the columns, at least.
const NOTE_WIDTH_MIN: usize = 38;

/// A server's column is so wide, at most.
const COLUMN_MAX: usize = 12;

/// The last stretch has so many rows.
const ROWS_MAX: usize = 40;

/// So many rows of what counted before it stand above.
const ROWS_BEFORE_MAX: usize = 12;

/// What is said of one row takes so many lines, at most.
const NOTE_LINES_MAX: usize = 3;

/// How a server's line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lifeline {
    #[default]
    Down,
    Up,
    Leads,
    /// It stands still.
    Paused,
}

/// Something that is drawn.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) what: What,
    pub(super) lifelines: [Lifeline; SERVERS_MAX],
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A frame arrives, or something becomes of it on its way.
    Frame {
        from: usize,
        to: usize,
        arrives: bool,
        /// It says nothing new.
        is_dull: bool,
        note: String,
    },
    /// Something at a server, in a short word.
    Server { server: usize, sign: &'static str, is_grave: bool, note: String },
    /// Something elsewhere.
    World { is_grave: bool, note: String },
}

impl What {
    /// A fault strikes.
    pub(super) fn fault(strike: &Strike, has_fired: bool) -> What {
        let Strike { kind, server, lasts, .. } = *strike;
        let name = kind.name();
        let outcome = if has_fired { "" } else { " (no difference yet)" };
        let lasting = match kind {
            FaultKind::Pause
            | FaultKind::Partition
            | FaultKind::PartitionOneWay
            | FaultKind::SlowDisk
            | FaultKind::NoSpace => format!(" for {} ms", lasts / 1000),
            _ => String::new(),
        };
        let note = format!("FAULT {name}{lasting}{outcome}");
        match kind {
            FaultKind::Partition | FaultKind::RestartAll => {
                What::World { is_grave: has_fired, note }
            }
            _ => What::Server { server, sign: sign_of(kind), is_grave: has_fired, note },
        }
    }

    fn is_grave(&self) -> bool {
        match self {
            What::Frame { .. } => false,
            What::Server { is_grave, .. } | What::World { is_grave, .. } => *is_grave,
        }
    }

    fn is_dull(&self) -> bool {
        matches!(self, What::Frame { is_dull: true, .. })
    }

    fn note(&self) -> &str {
        match self {
            What::Frame { note, .. } | What::Server { note, .. } | What::World { note, .. } => note,
        }
    }
}

/// In a word that fits the narrowest column.
fn sign_of(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Kill => "kill",
        FaultKind::Pause => "pause",
        FaultKind::PartitionOneWay => "cut",
        FaultKind::Message => "noise",
        FaultKind::Clock => "clock",
        FaultKind::TornWrite => "power",
        FaultKind::BitFlip | FaultKind::MisdirectedWrite | FaultKind::FsyncError => "disk!",
        FaultKind::NoSpace => "full",
        FaultKind::SlowDisk => "slow",
        FaultKind::Membership => "change",
        _ => "fault",
    }
}

/// The last stretch of what was marked.
pub(super) struct Diagram<'a> {
    pub(super) servers: usize,
    pub(super) marks: &'a VecDeque<Mark>,
}

impl Diagram<'_> {
    fn column(&self) -> usize {
        ((WIDTH - TIME_WIDTH - NOTE_WIDTH_MIN) / self.servers.max(1)).min(COLUMN_MAX)
    }

    /// Where a server's line stands, behind the times.
    fn middle(&self, server: usize) -> usize {
        server * self.column() + self.column() / 2
    }

    /// The lines alone.
    fn lines(&self, mark: &Mark) -> Vec<char> {
        let mut row = vec![' '; self.column() * self.servers];
        for (server, lifeline) in mark.lifelines.iter().enumerate().take(self.servers) {
            row[self.middle(server)] = match lifeline {
                Lifeline::Down => '·',
                Lifeline::Up => '│',
                Lifeline::Leads => '║',
                Lifeline::Paused => '░',
            };
        }
        row
    }

    /// The lines, with what this mark draws over them.
    fn row(&self, mark: &Mark) -> Vec<char> {
        let mut row = self.lines(mark);
        match &mark.what {
            What::Frame { from, to, arrives, .. } if from != to => {
                let (begin, end) = (self.middle(*from), self.middle(*to));
                let goes_right = begin < end;
                let stretch = if goes_right { begin + 1..end } else { end + 1..begin };
                let (head, last) = match (goes_right, arrives) {
                    (true, true) => ('>', end - 1),
                    (false, true) => ('<', end + 1),
                    (true, false) => ('x', begin + (end - begin) / 2),
                    (false, false) => ('x', end + (begin - end) / 2),
                };
                for place in stretch {
                    let is_reached = if goes_right { place <= last } else { place >= last };
                    if is_reached {
                        row[place] = '─';
                    }
                }
                row[last] = head;
            }
            What::Server { server, sign, .. } => {
                let begin = self.middle(*server).saturating_sub(sign.chars().count() / 2);
                for (place, sign) in row[begin..].iter_mut().zip(sign.chars()) {
                    *place = sign;
                }
            }
            _ => {}
        }
        row
    }

    fn write(&self, formatter: &mut fmt::Formatter<'_>, mark: &Mark) -> fmt::Result {
        let room = WIDTH - TIME_WIDTH - self.column() * self.servers - 1;
        let time = format!("{}.{:06}", mark.at / 1_000_000, mark.at % 1_000_000);
        let mut notes = wrap(mark.what.note(), room).into_iter();
        let first = notes.next().unwrap_or_default();
        let row: String = self.row(mark).into_iter().collect();
        writeln!(formatter, "{}", format!("{time:>TIME_WIDTH$}{row} {first}").trim_end())?;
        for note in notes {
            let row: String = self.lines(mark).into_iter().collect();
            writeln!(formatter, "{}", format!("{:TIME_WIDTH$}{row} {note}", "").trim_end())?;
        }
        Ok(())
    }
}

/// A text in lines of so many characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word: String = word.chars().take(width).collect();
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    if lines.len() > NOTE_LINES_MAX {
        lines.truncate(NOTE_LINES_MAX);
        if let Some(last) = lines.last_mut() {
            let kept: String = last.chars().take(width.saturating_sub(4)).collect();
            *last = format!("{kept} ...");
        }
    }
    lines
}

impl fmt::Display for Diagram<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&Mark> = self.marks.iter().filter(|mark| !mark.what.is_dull()).collect();
        let (before, last) = shown.split_at(shown.len().saturating_sub(ROWS_MAX));
        let grave: Vec<&&Mark> = before.iter().filter(|mark| mark.what.is_grave()).collect();
        let grave = &grave[grave.len().saturating_sub(ROWS_BEFORE_MAX)..];
        writeln!(
            formatter,
            "│ up  ║ leads  ░ stands still  · down  ─> arrives  ─x does not; no heartbeats"
        )?;
        let names = (0..self.servers).map(|server| {
            let (name, column) = (format!("s{}", server + 1), self.column());
            let before = column / 2;
            format!("{:before$}{name:<1$}", "", column - before)
        });
        let names: String = names.collect();
        writeln!(formatter, "{}", format!("{:>TIME_WIDTH$}{names}", "seconds").trim_end())?;
        grave.iter().try_for_each(|mark| self.write(formatter, mark))?;
        if !grave.is_empty() {
            writeln!(formatter, "{:>TIME_WIDTH$}", "...")?;
        }
        last.iter().try_for_each(|mark| self.write(formatter, mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagram_fits_its_terminal_and_shows_who_speaks_to_whom() {
        let lifelines = [Lifeline::Up; SERVERS_MAX];
        let frame = |from: usize, to: usize, arrives: bool| What::Frame {
            from,
            to,
            arrives,
            is_dull: false,
            note: "VoteRequest of term 3, which is told at some length ".repeat(3),
        };
        let crash = What::Server { server: 6, sign: "crash", is_grave: true, note: "gone".into() };
        let mut all = vec![frame(0, 6, true), frame(6, 0, true), frame(2, 1, false), crash];
        all.extend((0..100).map(|_| frame(3, 4, true)));
        let marks: VecDeque<Mark> =
            all.into_iter().map(|what| Mark { at: 1_234_567, what, lifelines }).collect();
        for servers in 1..=SERVERS_MAX {
            let some: VecDeque<Mark> = marks
                .iter()
                .filter(|mark| match mark.what {
                    What::Frame { from, to, .. } => from.max(to) < servers,
                    What::Server { server, .. } => server < servers,
                    What::World { .. } => true,
                })
                .cloned()
                .collect();
            let text = Diagram { servers, marks: &some }.to_string();
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
        let text = Diagram { servers: 7, marks: &marks }.to_string();
        let row = text.lines().find(|line| line.contains("crash")).expect("it is shown");
        assert!(row.starts_with("    1.234567"), "{text}");
        let few: VecDeque<Mark> = marks.into_iter().take(3).collect();
        let text = Diagram { servers: 7, marks: &few }.to_string();
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("─")).skip(1).collect();
        assert!(rows[0].contains("│──") && rows[0].contains("─>│"), "{text}");
        assert!(rows[1].contains("│<─") && rows[1].contains("──│"), "{text}");
        assert!(rows[2].contains("x─"), "{text}");
    }
}
