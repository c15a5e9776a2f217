//! What clients asked and were told, and whether that could have happened one at a time.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::node::Index;

use crate::check::linearizability::{Model, Operation, Verdict, check, is_explained_by};

use super::agenda::Moment;

/// What is asked of one key. Values are names, and no two writes write the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get,
    Set(u64),
    SetIfAbsent(u64),
    /// From the first value to the second.
    SetIf(u64, u64),
    Delete,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Value(Option<u64>),
    Done,
    /// The condition did not hold.
    Failed,
    /// Whether there was something to delete.
    Deleted(bool),
    /// Every attempt was refused: it must not show anywhere.
    NothingHappened,
}

/// One key.
struct Key;

impl Model for Key {
    type State = Option<u64>;
    type Input = Ask;
    type Output = Told;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn apply(&self, state: &mut Option<u64>, input: &Ask) -> Told {
        match *input {
            Ask::Get => Told::Value(*state),
            Ask::Set(value) => {
                *state = Some(value);
                Told::Done
            }
            Ask::SetIfAbsent(value) if state.is_none() => {
                *state = Some(value);
                Told::Done
            }
            Ask::SetIf(from, to) if *state == Some(from) => {
                *state = Some(to);
                Told::Done
            }
            Ask::SetIfAbsent(_) | Ask::SetIf(..) => Told::Failed,
            Ask::Delete => Told::Deleted(state.take().is_some()),
        }
    }
}

/// Operations tried before a search counts as failed.
const STEPS_MAX: u64 = 2_000_000;

/// Where something took effect, as an omniscient observer sees it: a write at its index, a read
/// behind the index that its server had applied.
type Rank = (Index, Effect);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Write,
    Read,
}

struct Event {
    key: u64,
    client: usize,
    ask: Ask,
    begun: Moment,
    ended: Option<(Moment, Option<Told>)>,
    rank: Option<Rank>,
}

/// Everything that clients asked, in the order in which they did.
#[derive(Default)]
pub(super) struct History {
    events: Vec<Event>,
    /// Which request each command belongs to.
    commands: BTreeMap<Bytes, usize>,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
}

impl History {
    pub(super) fn begin(&mut self, client: usize, key: u64, ask: Ask, now: Moment) -> usize {
        self.events.push(Event { key, client, ask, begun: now, ended: None, rank: None });
        self.events.len() - 1
    }

    /// `told` is `None` if nobody will ever know.
    pub(super) fn end(&mut self, place: usize, told: Option<Told>, now: Moment) {
        let ended = self.events[place].ended.replace((now, told));
        assert!(ended.is_none(), "a request ends once");
    }

    /// A request is sent as this command.
    pub(super) fn note_command(&mut self, place: usize, command: &Bytes) {
        self.commands.insert(command.clone(), place);
    }

    /// A read is answered by a server that has applied everything up to here.
    pub(super) fn note_read(&mut self, place: usize, applied: Index) {
        self.events[place].rank = Some((applied, Effect::Read));
    }

    /// A command was applied, here for the first time.
    fn note_applied(&mut self, index: Index, command: &Bytes) {
        if let Some(place) = self.commands.get(command) {
            let rank = &mut self.events[*place].rank;
            rank.get_or_insert((index, Effect::Write));
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for event in &self.events {
            match event.ended {
                Some((_, Some(Told::NothingHappened))) => tally.refused += 1,
                Some((_, Some(_))) => tally.answered += 1,
                Some((_, None)) | None => tally.unknown += 1,
            }
        }
        tally
    }

    /// `commands` is what was carried out, in order. It only helps to find an order quickly.
    ///
    /// # Errors
    /// What is wrong, told for people.
    pub(super) fn judge<'a>(
        &mut self,
        commands: impl Iterator<Item = (Index, &'a Bytes)>,
    ) -> Result<(), String> {
        commands.for_each(|(index, command)| self.note_applied(index, command));
        let mut keys: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            if !matches!(event.ended, Some((_, Some(Told::NothingHappened)))) {
                keys.entry(event.key).or_default().push(event);
            }
        }
        keys.iter().try_for_each(|(key, events)| judge_key(*key, events))
    }
}

fn judge_key(key: u64, events: &[&Event]) -> Result<(), String> {
    let operation = |event: &&Event| Operation {
        call: event.begun.0,
        end: event.ended.and_then(|(at, told)| Some((at.0, told?))),
        input: event.ask,
    };
    let operations: Vec<Operation<Ask, Told>> = events.iter().map(operation).collect();
    let mut order: Vec<usize> =
        (0..events.len()).filter(|place| events[*place].rank.is_some()).collect();
    order.sort_by_key(|place| events[*place].rank);
    if is_explained_by(&Key, &operations, &order) {
        return Ok(());
    }
    match check(&Key, &operations, STEPS_MAX) {
        Verdict::Linearizable(_) => Ok(()),
        Verdict::GivenUp { steps } => Err(format!("key {key}: no verdict after {steps} steps")),
        Verdict::Violation(violation) => {
            let told = describe(events, violation.unexplained);
            Err(format!("key {key} is not linearizable: {violation}\n{told}"))
        }
    }
}

/// The operations around one of them.
fn describe(events: &[&Event], around: usize) -> String {
    let first = around.saturating_sub(12);
    let shown = events.iter().enumerate().skip(first).take(20);
    let lines = shown.map(|(place, event)| {
        let mark = if place == around { ">" } else { " " };
        let Event { client, ask, begun, ended, .. } = event;
        let end = match ended {
            Some((at, Some(told))) => format!("{} us: {told:?}", at.0),
            Some((at, None)) => format!("{} us: unknown", at.0),
            None => "never".to_string(),
        };
        format!("{mark} {place:>4} client {client} {} us {ask:?} .. {end}", begun.0)
    });
    lines.collect::<Vec<_>>().join("\n")
}
