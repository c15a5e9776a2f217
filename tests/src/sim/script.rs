//! A run as a text that people can read and change: its seed, what its world is like, and what
//! happens in it, in order. What a script does not say follows from its seed.

use std::fmt;

use super::course::{FrameName, Mishap, Strike, Wish};
use super::dice::Dice;
use super::history::Ask;
use super::onlooker::words;
use super::plan::{Allowed, CLIENTS_MAX, FaultKind, Plan, SERVERS_MAX};

/// A run that is to happen.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) seed: u64,
    pub(super) plan: Plan,
    pub(super) strikes: Vec<Strike>,
    /// `None` if what clients want is drawn.
    pub(super) wishes: Option<Vec<Wish>>,
    /// `None` if every frame may meet with a mishap.
    pub(super) mishaps: Option<Vec<Mishap>>,
}

/// A number of a plan, by its name.
pub(super) enum Field<'a> {
    Number(&'a mut u64),
    Short(&'a mut u32),
    Count(&'a mut usize),
    Flag(&'a mut bool),
}

impl Field<'_> {
    fn get(&self) -> u64 {
        match self {
            Field::Number(it) => **it,
            Field::Short(it) => u64::from(**it),
            Field::Count(it) => **it as u64,
            Field::Flag(it) => u64::from(**it),
        }
    }

    /// False if it cannot be that much.
    fn set(&mut self, value: u64) -> bool {
        match self {
            Field::Number(it) => **it = value,
            Field::Short(it) => match u32::try_from(value) {
                Ok(value) => **it = value,
                Err(_) => return false,
            },
            Field::Count(it) => match usize::try_from(value) {
                Ok(value) => **it = value,
                Err(_) => return false,
            },
            Field::Flag(it) => **it = value != 0,
        }
        true
    }
}

/// What a script says of its world, by name. Times are in microseconds.
pub(super) fn fields(plan: &mut Plan) -> Vec<(&'static str, Field<'_>)> {
    use Field::{Count, Flag, Number, Short};
    let Plan { servers, founders, clients, reads_anywhere_permille, keys, length, .. } = plan;
    let Plan { looks_closely, network, disk, faults, limits, .. } = plan;
    let mut fields = vec![
        ("servers", Count(servers)),
        ("founders", Count(founders)),
        ("clients", Count(clients)),
        ("reads_anywhere_permille", Number(reads_anywhere_permille)),
        ("keys", Number(keys)),
        ("length", Number(length)),
        ("looks_closely", Flag(looks_closely)),
        ("delay_min", Number(&mut network.delay_min)),
        ("delay_max", Number(&mut network.delay_max)),
        ("late_permille", Number(&mut network.late_permille)),
        ("lost_permille", Number(&mut network.lost_permille)),
        ("repeated_permille", Number(&mut network.repeated_permille)),
        ("flipped_permille", Number(&mut network.flipped_permille)),
        ("outlives_permille", Number(&mut network.outlives_permille)),
        ("disk_beside", Flag(&mut disk.is_beside)),
        ("sync_min", Number(&mut disk.sync_min)),
        ("sync_max", Number(&mut disk.sync_max)),
        ("job_max", Number(&mut disk.job_max)),
        ("fault_lasts_max", Number(&mut faults.lasts_max)),
        ("drift_ppm_max", Number(&mut faults.drift_ppm_max)),
        ("hasty_permille", Number(&mut faults.hasty_permille)),
        ("snapshot_cut_permille", Number(&mut faults.snapshot_cut_permille)),
    ];
    let snapshots = &mut limits.snapshots;
    fields.extend([
        ("segment_bytes", Number(&mut limits.segment_bytes)),
        ("cache_bytes", Number(&mut limits.cache_bytes)),
        ("window_bytes_max", Number(&mut limits.window_bytes_max)),
        ("message_bytes_max", Number(&mut limits.message_bytes_max)),
        ("in_flight_bytes_max", Number(&mut limits.in_flight_bytes_max)),
        ("apply_bytes_max", Number(&mut limits.apply_bytes_max)),
        ("snapshot_every_bytes", Number(&mut limits.snapshot_every_bytes)),
        ("tail_bytes", Number(&mut limits.tail_bytes)),
        ("pinned_bytes_max", Number(&mut limits.pinned_bytes_max)),
        ("snapshot_block_bytes", Short(&mut snapshots.block_bytes)),
        ("snapshot_piece_bytes_max", Number(&mut snapshots.piece_bytes_max)),
        ("snapshot_chunk_bytes_max", Number(&mut snapshots.chunk_bytes_max)),
        ("snapshot_bytes_per_heartbeat", Number(&mut snapshots.bytes_per_heartbeat)),
    ]);
    fields
}

/// How a script says that it tells all there is of something.
const LISTED: &str = "as below";

/// What is listed.
#[derive(Clone, Copy)]
enum List {
    Faults,
    Requests,
    Mishaps,
}

impl Script {
    /// The run that follows from a seed, with nothing but what may happen.
    #[must_use]
    pub fn draw(seed: u64, allowed: &Allowed) -> Script {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice.plan, allowed);
        let strikes = Strike::draw_all(&plan, &mut dice);
        Script { seed, plan, strikes, wishes: None, mishaps: None }
    }

    /// The seed that all chance in it follows from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Reads what [`Display`](fmt::Display) writes. Lines that begin with `#` are for people.
    ///
    /// # Errors
    /// A line cannot be understood.
    pub fn parse(text: &str) -> Result<Script, String> {
        let lines = || {
            let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        };
        let seed = lines().find_map(|(_, line)| line.strip_prefix("seed "));
        let seed = seed.ok_or("a script names its seed")?;
        let seed = seed.trim().parse().map_err(|_| format!("`{seed}` is no seed"))?;
        let mut script = Script::draw(seed, &Allowed::ALL);
        for (at, line) in lines().filter(|(_, line)| !line.starts_with("seed ")) {
            let read = script.read(line);
            read.ok_or_else(|| format!("line {at} cannot be understood: {line}"))?;
        }
        script.check()?;
        Ok(script)
    }

    /// Takes one line; `None` if it says nothing.
    fn read(&mut self, line: &str) -> Option<()> {
        let list = match line.strip_suffix(LISTED).map(str::trim) {
            Some("faults") => Some(List::Faults),
            Some("requests") => Some(List::Requests),
            Some("mishaps") => Some(List::Mishaps),
            _ => None,
        };
        match list {
            Some(List::Faults) => self.strikes.clear(),
            Some(List::Requests) => self.wishes = Some(Vec::new()),
            Some(List::Mishaps) => self.mishaps = Some(Vec::new()),
            None => {
                let words: Vec<&str> = line.split_whitespace().collect();
                return match words.as_slice() {
                    ["at", time, what @ ..] => self.read_event(time.parse().ok()?, what),
                    [name, value] => {
                        let mut fields = fields(&mut self.plan);
                        let (_, field) = fields.iter_mut().find(|(known, _)| known == name)?;
                        let value =
                            if *value == "never" { u64::MAX } else { value.parse().ok()? };
                        field.set(value).then_some(())
                    }
                    _ => None,
                };
            }
        }
        Some(())
    }

    fn read_event(&mut self, at: u64, words: &[&str]) -> Option<()> {
        match words {
            ["client", client, ask @ ..] => {
                let (key, ask) = read_ask(ask)?;
                let client = client.parse().ok()?;
                let wishes = self.wishes.get_or_insert_default();
                wishes.push(Wish { at, client, key, ask });
            }
            ["frame", number, from, to] => {
                let (from, to, number) = (server(from)?, server(to)?, number.parse().ok()?);
                let frame = FrameName { from, to, number };
                self.mishaps.get_or_insert_default().push(Mishap { at, frame });
            }
            [kind, at_server, "lasts", lasts, "chance", chance] => {
                let kind = FaultKind::ALL.into_iter().find(|known| known.name() == *kind)?;
                let (server, lasts) = (server(at_server)?, lasts.parse().ok()?);
                let chance = chance.parse().ok()?;
                self.strikes.push(Strike { at, kind, server, lasts, chance });
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether it can happen.
    fn check(&self) -> Result<(), String> {
        let Plan { servers, founders, clients, keys, network, disk, .. } = &self.plan;
        let are_few = (1..=SERVERS_MAX).contains(servers) && *clients <= CLIENTS_MAX;
        if !are_few || *founders == 0 || founders > servers || *keys == 0 {
            return Err("there cannot be so many servers, clients or keys".into());
        }
        if network.delay_min > network.delay_max || disk.sync_min > disk.sync_max {
            return Err("the least is more than the most".into());
        }
        match self.wishes.iter().flatten().find(|wish| wish.client >= *clients) {
            Some(wish) => Err(format!("there is no client {}", wish.client)),
            None => Ok(()),
        }
    }

    /// What happens in it, by time.
    fn events(&self) -> Vec<(u64, String)> {
        let strike = |it: &Strike| {
            let Strike { at, kind, server, lasts, chance } = *it;
            let (name, server) = (kind.name(), server + 1);
            (at, format!("{name} s{server} lasts {lasts} chance {chance}"))
        };
        let wish = |it: &Wish| (it.at, format!("client {} {}", it.client, words(it.key, it.ask)));
        let mishap = |it: &Mishap| {
            let FrameName { from, to, number } = it.frame;
            (it.at, format!("frame {number} s{} s{}", from + 1, to + 1))
        };
        let mut events: Vec<(u64, String)> = self.strikes.iter().map(strike).collect();
        events.extend(self.wishes.iter().flatten().map(wish));
        events.extend(self.mishaps.iter().flatten().map(mishap));
        events.sort_by_key(|(at, _)| *at);
        events
    }
}

fn server(name: &str) -> Option<usize> {
    let number: usize = name.strip_prefix('s')?.parse().ok()?;
    (1..=SERVERS_MAX).contains(&number).then(|| number - 1)
}

fn read_ask(words: &[&str]) -> Option<(u64, Ask)> {
    let number = |word: &str| word.parse::<u64>().ok();
    Some(match words {
        ["get", "key", key] => (number(key)?, Ask::Get),
        ["delete", "key", key] => (number(key)?, Ask::Delete),
        ["set", "key", key, "to", value] => (number(key)?, Ask::Set(number(value)?)),
        ["set", "absent", "key", key, "to", value] => {
            (number(key)?, Ask::SetIfAbsent(number(value)?))
        }
        ["set", "key", key, "from", from, "to", to] => {
            (number(key)?, Ask::SetIf(number(from)?, number(to)?))
        }
        _ => return None,
    })
}

impl fmt::Display for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}", self.seed)?;
        for (name, field) in fields(&mut self.plan.clone()) {
            match field.get() {
                u64::MAX => writeln!(formatter, "{name} never")?,
                value => writeln!(formatter, "{name} {value}")?,
            }
        }
        writeln!(formatter, "faults {LISTED}")?;
        if self.wishes.is_some() {
            writeln!(formatter, "requests {LISTED}")?;
        }
        if self.mishaps.is_some() {
            writeln!(formatter, "mishaps {LISTED}")?;
        }
        let mut events = self.events().into_iter();
        events.try_for_each(|(at, what)| writeln!(formatter, "at {at} {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for seed in 1..20 {
            let mut script = Script::draw(seed, &Allowed::ALL);
            let asks = [Ask::Get, Ask::Set(1), Ask::SetIfAbsent(2), Ask::SetIf(1, 3), Ask::Delete];
            let wish = |(at, ask)| Wish { at: at as u64, client: 0, key: 0, ask };
            script.wishes = Some(asks.into_iter().enumerate().map(wish).collect());
            let frame = FrameName { from: 0, to: 1, number: 7 };
            script.mishaps = Some(vec![Mishap { at: 3, frame }]);
            let text = script.to_string();
            let again = Script::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
            assert_eq!(again.to_string(), text);
            assert_eq!((again.strikes, again.wishes), (script.strikes, script.wishes));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_line() {
        let broken = ["nothing 7", "servers many", "at 7", "at 7 kill s9 lasts 1 chance 1"];
        for line in broken {
            let told = Script::parse(&format!("# why\nseed 7\n{line}\n")).err();
            assert!(told.as_ref().is_some_and(|it| it.starts_with("line 3")), "{line}: {told:?}");
        }
        assert!(Script::parse("servers 3").is_err());
        assert!(Script::parse("seed 7\nservers 0").is_err());
        assert!(Script::parse("seed 7\nclients 1\nat 7 client 1 get key 0").is_err());
    }
}
