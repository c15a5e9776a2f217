//! Leaves out of a failing run what its failure does not need, as long as the same invariant
//! breaks: servers, faults, requests, mishaps of frames, time. What is left is a [`Script`] for
//! people to read.
//!
//! It goes over one list after another, and tries to do without a half, a quarter, and so on down
//! to single ones (Zeller's ddmin, without its first half: what is left out is tried, not what is
//! kept). Every run that still fails is recorded, and what came after its failure goes with it.
//! Nothing here looks at a clock, so the same failure shrinks to the same script.

use crate::check::Switches;

use super::course::{Mishap, Strike, Wish};
use super::run::{Failure, Watch, run_script};
use super::script::Script;

/// So many events are simulated, at most, before it takes what it has.
const EVENTS_MAX: u64 = 60_000_000;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left.
    pub script: Script,
    /// How it fails.
    pub failure: Failure,
    /// How many runs that took.
    pub runs: u64,
}

/// Runs a script; how many events that took if nothing fails.
type Run<'a> = dyn Fn(&Script) -> Result<u64, Failure> + 'a;

/// A run that fails, on its way to a smaller one.
struct Shrinking<'a> {
    run: &'a Run<'a>,
    best: Script,
    failure: Failure,
    runs: u64,
    events: u64,
    tell: &'a mut dyn FnMut(&str),
}

/// Shrinks a failing run; `None` if it does not fail. `tell` hears how far that is.
pub fn minimise(
    script: &Script,
    switches: &Switches,
    tell: &mut dyn FnMut(&str),
) -> Option<Shrunk> {
    let run = |script: &Script| {
        let outcome = run_script(script, switches.clone(), Watch::Course)?;
        Ok(outcome.events)
    };
    minimise_by(script, &run, tell)
}

fn minimise_by(script: &Script, run: &Run<'_>, tell: &mut dyn FnMut(&str)) -> Option<Shrunk> {
    let failure = run(script).err()?;
    let best = recorded(script, &failure);
    let (runs, events) = (1, failure.events);
    let mut shrinking = Shrinking { run, best, failure, runs, events, tell };
    shrinking.report("as it failed");
    let mut before = usize::MAX;
    // What is found earlier needs less.
    let mut closely = shrinking.best.clone();
    closely.plan.looks_closely = true;
    shrinking.accept(&closely);
    // What was needed for something that is gone by now is needed no more.
    while shrinking.size() < before && !shrinking.is_spent() {
        before = shrinking.size();
        shrinking.pass();
    }
    let mut seldom = shrinking.best.clone();
    seldom.plan.looks_closely = script.plan.looks_closely;
    shrinking.accept(&seldom);
    let Shrinking { best, failure, runs, .. } = shrinking;
    Some(Shrunk { script: best, failure, runs })
}

/// The run as it happened up to its failure: everything that chance decided is listed.
fn recorded(script: &Script, failure: &Failure) -> Script {
    let mut script = script.clone();
    let at = failure.at_micros;
    script.strikes.retain(|strike| strike.at <= at && strike.at < script.plan.length);
    script.wishes = Some(failure.course.wishes.clone());
    let mut mishaps = failure.course.mishaps.clone();
    mishaps.dedup_by_key(|mishap| mishap.frame);
    script.mishaps = Some(mishaps);
    script.plan.length = script.plan.length.min(at + 1);
    script
}

fn strikes(script: &mut Script) -> &mut Vec<Strike> {
    &mut script.strikes
}

fn wishes(script: &mut Script) -> &mut Vec<Wish> {
    script.wishes.get_or_insert_default()
}

fn mishaps(script: &mut Script) -> &mut Vec<Mishap> {
    script.mishaps.get_or_insert_default()
}

impl Shrinking<'_> {
    fn size(&self) -> usize {
        let Script { plan, strikes, wishes, mishaps, .. } = &self.best;
        let lists = strikes.len() + wishes.iter().flatten().count();
        plan.servers + lists + mishaps.iter().flatten().count()
    }

    fn is_spent(&self) -> bool {
        self.events >= EVENTS_MAX
    }

    fn report(&mut self, stage: &str) {
        let Script { plan, strikes, wishes, mishaps, .. } = &self.best;
        let (requests, mishaps) =
            (wishes.iter().flatten().count(), mishaps.iter().flatten().count());
        (self.tell)(&format!(
            "{stage}: {} servers, {} faults, {requests} requests, {mishaps} mishaps, {} ms; \
             {} runs",
            plan.servers,
            strikes.len(),
            self.failure.at_micros / 1000,
            self.runs
        ));
    }

    /// Takes a smaller run in place of the present one if the same invariant breaks in it.
    fn accept(&mut self, candidate: &Script) -> bool {
        if self.is_spent() {
            return false;
        }
        self.runs += 1;
        match (self.run)(candidate) {
            Ok(events) => {
                self.events += events;
                false
            }
            Err(failure) => {
                self.events += failure.events;
                let is_same = failure.broken.invariant == self.failure.broken.invariant;
                if is_same {
                    self.best = recorded(candidate, &failure);
                    self.failure = failure;
                }
                is_same
            }
        }
    }

    /// Over everything once.
    fn pass(&mut self) {
        self.shrink_list(mishaps);
        self.report("mishaps of frames");
        self.shrink_list(strikes);
        self.report("faults");
        for client in (0..self.best.plan.clients).rev() {
            let mut candidate = self.best.clone();
            wishes(&mut candidate).retain(|wish| wish.client != client);
            if wishes(&mut candidate).len() < wishes(&mut self.best).len() {
                self.accept(&candidate);
            }
        }
        self.shrink_list(wishes);
        self.report("requests");
        self.shrink_servers();
        self.report("servers");
        self.calm();
        self.shorten();
        self.report("time");
    }

    /// Does without as much of a list as it can.
    fn shrink_list<T: Clone>(&mut self, list: fn(&mut Script) -> &mut Vec<T>) {
        let mut chunk = list(&mut self.best).len();
        while chunk > 0 {
            // From the end: what comes later less often matters to what is before it.
            let mut end = list(&mut self.best).len();
            while end > 0 {
                let begin = end.saturating_sub(chunk);
                let mut candidate = self.best.clone();
                list(&mut candidate).drain(begin..end);
                self.accept(&candidate);
                end = begin.min(list(&mut self.best).len());
            }
            chunk /= 2;
        }
    }

    /// Fewer servers: first of those outside, then of those that found the cluster.
    fn shrink_servers(&mut self) {
        for servers in 1..self.best.plan.servers {
            for founders in [self.best.plan.founders.min(servers), servers.min(3)] {
                let mut candidate = self.best.clone();
                (candidate.plan.servers, candidate.plan.founders) = (servers, founders);
                candidate.strikes.retain(|strike| strike.server < servers);
                let exists = |it: &Mishap| it.frame.from.max(it.frame.to) < servers;
                mishaps(&mut candidate).retain(exists);
                if self.accept(&candidate) {
                    return;
                }
            }
        }
    }

    /// Does without what goes wrong at all times, and with one client where that will do.
    fn calm(&mut self) {
        type Change = fn(&mut Script);
        let changes: [Change; 4] = [
            |it| it.plan.faults.drift_ppm_max = 0,
            |it| it.plan.disk.is_beside = false,
            |it| it.plan.network.delay_max = it.plan.network.delay_min.max(1000),
            |it| it.plan.disk.sync_max = it.plan.disk.sync_min,
        ];
        for change in changes {
            let mut candidate = self.best.clone();
            change(&mut candidate);
            if candidate.to_string() != self.best.to_string() {
                self.accept(&candidate);
            }
        }
        let last = wishes(&mut self.best).iter().map(|wish| wish.client).max();
        self.best.plan.clients = last.map_or(0, |last| last + 1);
    }

    /// Lets faults end earlier, where the failure comes after them.
    fn shorten(&mut self) {
        for _ in 0..8 {
            let mut candidate = self.best.clone();
            let length = candidate.plan.length / 2;
            candidate.plan.length = length;
            candidate.strikes.retain(|strike| strike.at < length);
            wishes(&mut candidate).retain(|wish| wish.at < length);
            if !self.accept(&candidate) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Broken;
    use crate::sim::Allowed;
    use crate::sim::course::{FrameName, Record};
    use crate::sim::history::Ask;
    use crate::sim::plan::FaultKind;

    const CLIENTS: usize = 3;

    fn drawn_wishes() -> Vec<Wish> {
        let wish = |at: usize| {
            let (at, client) = (at as u64, at % CLIENTS);
            Wish { at: at * 1000, client, key: 0, ask: Ask::Set(at) }
        };
        (0..300).map(wish).collect()
    }

    fn drawn_mishaps() -> Vec<Mishap> {
        let frame = |number| FrameName { from: 0, to: 1, number };
        (0..100).map(|number| Mishap { at: number * 7, frame: frame(number) }).collect()
    }

    /// A run that fails if two faults, one request and one mishap are there, and two servers.
    fn run(script: &Script, needs: &[Strike]) -> Result<u64, Failure> {
        let wishes = script.wishes.clone().unwrap_or_else(drawn_wishes);
        let mishaps = script.mishaps.clone().unwrap_or_else(drawn_mishaps);
        let fails = needs.iter().all(|it| script.strikes.contains(it))
            && wishes.iter().any(|it| it.ask == Ask::Set(77))
            && mishaps.iter().any(|it| it.frame.number == 5)
            && script.plan.servers >= 2;
        if !fails {
            return Ok(1000);
        }
        let broken = Broken::new("made up", "it is so");
        let at_micros = needs.iter().map(|it| it.at).max().unwrap_or(0).max(77_000);
        Err(Failure {
            seed: script.seed,
            broken,
            story: "".into(),
            diagram: "".into(),
            at_micros,
            events: 1000,
            trace_hash: 0,
            course: Box::new(Record { wishes, mishaps }),
        })
    }

    #[test]
    fn what_a_failure_does_not_need_is_left_out_and_the_rest_stays() {
        let drawn = (1..)
            .map(|seed| Script::draw(seed, &Allowed::ALL))
            .find(|it| it.strikes.len() > 60 && it.plan.servers > 4 && it.plan.clients >= CLIENTS)
            .expect("there are many seeds");
        let on_first_two = |it: &&Strike| it.server < 2 && it.kind != FaultKind::Membership;
        let few: Vec<Strike> = drawn.strikes.iter().filter(on_first_two).copied().collect();
        let needs = [few[2], few[few.len() / 2]];
        let shrink = || {
            let run = |script: &Script| run(script, &needs);
            minimise_by(&drawn, &run, &mut |_| {}).expect("it fails")
        };
        let Shrunk { script, failure, .. } = shrink();
        assert_eq!(script.strikes, needs);
        assert_eq!(script.wishes.as_ref().map(Vec::len), Some(1));
        assert_eq!(script.mishaps.as_ref().map(Vec::len), Some(1));
        assert_eq!(script.plan.servers, 2);
        assert_eq!(failure.broken.invariant, "made up");
        let text = script.to_string();
        assert_eq!(shrink().script.to_string(), text, "it is the same every time");
        let again = Script::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        assert!(run(&again, &needs).is_err(), "what was written fails too");
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        let script = Script::draw(1, &Allowed::ALL);
        assert!(minimise_by(&script, &|_| Ok(1), &mut |_| {}).is_none());
    }
}
