//! Whether a history of concurrent operations could have happened one at a time.
//!
//! A history is *linearizable* if every operation can be given one moment between its call and its
//! return, so that, carried out in the order of these moments, each gives the answer that it gave
//! (Herlihy and Wing, "Linearizability", 1990). An operation whose outcome is unknown may have its
//! moment at any time after its call, or never.
//!
//! The search is that of Wing and Gong: try each operation that could be the next, carry it out,
//! go on, and go back where that ends. What makes it quick enough is Lowe's addition ("Testing for
//! linearizability", 2017): the same operations carried out to the same state, in whatever order,
//! need to be tried only once.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

/// What an object does, one operation at a time.
pub trait Model {
    /// What the object is.
    type State: Clone + Eq + Hash;
    /// What is asked of it.
    type Input;
    /// What it answers.
    type Output: PartialEq;

    /// The object before the first operation.
    fn initial(&self) -> Self::State;

    /// Carries out one operation, which changes `state`, and gives its answer.
    fn apply(&self, state: &mut Self::State, input: &Self::Input) -> Self::Output;
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// When it was called. Calls and returns are numbered together, in any order that agrees with
    /// what was seen; equal numbers count as concurrent.
    pub call: u64,
    /// When it returned and what it answered; `None` if nobody knows what became of it.
    pub end: Option<(u64, O)>,
    /// What was asked.
    pub input: I,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order: the operations, by their place in the history, that took effect.
    Linearizable(Vec<usize>),
    /// There is none.
    Violation(Violation),
    /// It was given up after so many steps. That is no answer, and counts as a failure.
    GivenUp {
        /// Operations that were tried.
        steps: u64,
    },
}

/// The most that could be explained, and where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The longest order that was found, by place in the history.
    pub explained: Vec<usize>,
    /// The operation that returned while none of the orders had room for it.
    pub unexplained: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { explained, unexplained } = self;
        let count = explained.len();
        write!(formatter, "operation {unexplained} fits nowhere; {count} others could be ordered")
    }
}

/// Looks for an order, carrying out at most `steps_max` operations.
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    steps_max: u64,
) -> Verdict {
    Search::new(model, history).run(steps_max)
}

/// Whether this order, by place in the history, explains it. Somebody who saw more than the clients
/// did may know such an order; if it is not one, that says nothing, and the history is searched.
pub fn is_explained_by<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    order: &[usize],
) -> bool {
    let mut is_left = vec![true; history.len()];
    let mut state = model.initial();
    // No operation may have returned before one that comes earlier in the order was called.
    let mut latest_call = 0;
    for place in order {
        let Some(operation) = history.get(*place) else { return false };
        if !std::mem::replace(&mut is_left[*place], false) {
            return false;
        }
        latest_call = operation.call.max(latest_call);
        let output = model.apply(&mut state, &operation.input);
        if let Some((returned, answered)) = &operation.end
            && (*returned < latest_call || *answered != output)
        {
            return false;
        }
    }
    history.iter().zip(is_left).all(|(operation, is_left)| !is_left || operation.end.is_none())
}

/// A call or a return in a list that operations are taken out of and put back into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Call(usize),
    Return(usize),
}

/// The moments that are left, as a list by positions in `moments`. Position 0 is its head, and what
/// was taken out still knows its neighbours, so that it can be put back in the opposite order.
struct Timeline {
    moments: Vec<Moment>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation's call stands, and its return, if it has one.
    places: Vec<(usize, Option<usize>)>,
}

const HEAD: usize = 0;

impl Timeline {
    fn new<I, O>(history: &[Operation<I, O>]) -> Timeline {
        // Of equal times calls come first, so that neither operation precedes the other.
        let mut order: Vec<(u64, bool, Moment)> = Vec::new();
        for (number, operation) in history.iter().enumerate() {
            order.push((operation.call, false, Moment::Call(number)));
            if let Some((returned, _)) = operation.end {
                assert!(operation.call <= returned, "operation {number} returns before its call");
                order.push((returned, true, Moment::Return(number)));
            }
        }
        order.sort_by_key(|(time, is_return, _)| (*time, *is_return));
        let mut places = vec![(HEAD, None); history.len()];
        for (position, (_, _, moment)) in (1..).zip(&order) {
            match *moment {
                Moment::Call(number) => places[number].0 = position,
                Moment::Return(number) => places[number].1 = Some(position),
            }
        }
        let count = order.len() + 1;
        let next = (1..=count).map(|position| position % count).collect();
        let previous = (0..count).map(|position| (position + count - 1) % count).collect();
        // The head stands for nothing; its moment is never looked at.
        let head = Moment::Call(usize::MAX);
        let moments = std::iter::once(head).chain(order.into_iter().map(|(_, _, it)| it)).collect();
        Timeline { moments, next, previous, places }
    }

    fn take_out(&mut self, number: usize) {
        let (call, end) = self.places[number];
        for position in std::iter::once(call).chain(end) {
            let (before, behind) = (self.previous[position], self.next[position]);
            self.next[before] = behind;
            self.previous[behind] = before;
        }
    }

    /// Undoes the last [`take_out`](Self::take_out) that is not undone yet.
    fn put_back(&mut self, number: usize) {
        let (call, end) = self.places[number];
        for position in end.into_iter().chain(std::iter::once(call)) {
            let (before, behind) = (self.previous[position], self.next[position]);
            self.next[before] = position;
            self.previous[behind] = position;
        }
    }
}

/// Which operations were carried out.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn set(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn clear(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }
}

/// Invariant: `order` holds what was taken out of `timeline`, in that order, and `done` holds the
/// same as a set; the state behind all of them is `state`.
struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Input, M::Output>],
    timeline: Timeline,
    state: M::State,
    done: Done,
    /// Each operation that was carried out, with the state before it.
    order: Vec<(usize, M::State)>,
    tried: HashSet<(Done, M::State)>,
    /// Operations with an answer that are still to be explained.
    definite: usize,
    best: Violation,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Input, M::Output>]) -> Self {
        Search {
            model,
            history,
            timeline: Timeline::new(history),
            state: model.initial(),
            done: Done(vec![0; history.len().div_ceil(64)]),
            order: Vec::new(),
            tried: HashSet::new(),
            definite: history.iter().filter(|operation| operation.end.is_some()).count(),
            best: Violation { explained: Vec::new(), unexplained: usize::MAX },
        }
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut steps = 0;
        let mut position = self.timeline.next[HEAD];
        // What is unknown and was not needed need not have happened.
        while self.definite > 0 {
            let moment = (position != HEAD).then(|| self.timeline.moments[position]);
            match moment {
                Some(Moment::Call(number)) => {
                    if steps == steps_max {
                        return Verdict::GivenUp { steps };
                    }
                    steps += 1;
                    position = match self.carry_out(number) {
                        true => self.timeline.next[HEAD],
                        false => self.timeline.next[position],
                    };
                }
                // Somebody has the answer of an operation that was not carried out: too late for
                // it, so something before was wrong.
                Some(Moment::Return(number)) => {
                    self.note_best(number);
                    match self.go_back() {
                        Some(undone) => position = self.timeline.next[undone],
                        None => return Verdict::Violation(self.best),
                    }
                }
                None => unreachable!("a definite operation has a return, and it is in the list"),
            }
        }
        Verdict::Linearizable(self.order.into_iter().map(|(number, _)| number).collect())
    }

    /// Carries out an operation, if it then gives its answer, and leads to where the search has not
    /// been.
    fn carry_out(&mut self, number: usize) -> bool {
        let Operation { input, end, .. } = &self.history[number];
        let mut state = self.state.clone();
        let output = self.model.apply(&mut state, input);
        if end.as_ref().is_some_and(|(_, answered)| *answered != output) {
            return false;
        }
        self.done.set(number);
        if !self.tried.insert((self.done.clone(), state.clone())) {
            self.done.clear(number);
            return false;
        }
        self.definite -= usize::from(end.is_some());
        self.timeline.take_out(number);
        let before = std::mem::replace(&mut self.state, state);
        self.order.push((number, before));
        true
    }

    /// Undoes the last operation; returns where its call stands.
    fn go_back(&mut self) -> Option<usize> {
        let (number, before) = self.order.pop()?;
        self.state = before;
        self.done.clear(number);
        self.definite += usize::from(self.history[number].end.is_some());
        self.timeline.put_back(number);
        Some(self.timeline.places[number].0)
    }

    fn note_best(&mut self, unexplained: usize) {
        if self.best.unexplained == usize::MAX || self.order.len() > self.best.explained.len() {
            let explained = self.order.iter().map(|(number, _)| *number).collect();
            self.best = Violation { explained, unexplained };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of small numbers.
    struct Register;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Ask {
        Read,
        Write(u8),
        /// From the first to the second; answers what was there.
        Swap(u8, u8),
    }

    impl Model for Register {
        type State = u8;
        type Input = Ask;
        type Output = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn apply(&self, state: &mut u8, input: &Ask) -> u8 {
            let before = *state;
            match *input {
                Ask::Write(value) => *state = value,
                Ask::Swap(from, to) if before == from => *state = to,
                Ask::Read | Ask::Swap(..) => {}
            }
            if matches!(input, Ask::Write(_)) { 0 } else { before }
        }
    }

    type Step = Operation<Ask, u8>;

    fn done(call: u64, input: Ask, returned: u64, output: u8) -> Step {
        Operation { call, end: Some((returned, output)), input }
    }

    fn unknown(call: u64, input: Ask) -> Step {
        Operation { call, end: None, input }
    }

    fn verdict(history: &[Step]) -> Verdict {
        check(&Register, history, u64::MAX)
    }

    #[test]
    fn a_read_may_see_a_write_that_goes_on_and_then_all_do() {
        let history = [
            done(0, Ask::Write(1), 9, 0),
            done(1, Ask::Read, 2, 0),
            done(3, Ask::Read, 4, 1),
            done(5, Ask::Read, 6, 1),
        ];
        assert_eq!(verdict(&history), Verdict::Linearizable(vec![1, 0, 2, 3]));
        let back_again = [history[0].clone(), history[2].clone(), done(5, Ask::Read, 6, 0)];
        let Verdict::Violation(violation) = verdict(&back_again) else { panic!("a stale read") };
        assert_eq!(violation.unexplained, 2);
        assert_eq!(violation.explained, [0, 1]);
    }

    #[test]
    fn what_is_unknown_may_happen_late_or_never_but_not_before_it_was_asked() {
        let write = unknown(0, Ask::Write(1));
        let never = [write.clone(), done(5, Ask::Read, 6, 0), done(8, Ask::Read, 9, 0)];
        assert!(matches!(verdict(&never), Verdict::Linearizable(_)));
        let late = [write.clone(), done(5, Ask::Read, 6, 0), done(8, Ask::Read, 9, 1)];
        assert!(matches!(verdict(&late), Verdict::Linearizable(_)));
        let twice = [write, done(1, Ask::Read, 2, 1), done(5, Ask::Read, 6, 0)];
        assert!(matches!(verdict(&twice), Verdict::Violation(_)));
        let early = [done(0, Ask::Read, 1, 1), unknown(2, Ask::Write(1))];
        assert!(matches!(verdict(&early), Verdict::Violation(_)));
    }

    #[test]
    fn equal_times_count_as_concurrent() {
        let history = [done(0, Ask::Write(1), 5, 0), done(5, Ask::Read, 6, 0)];
        assert!(matches!(verdict(&history), Verdict::Linearizable(_)));
    }

    #[test]
    fn a_search_that_is_cut_short_says_so() {
        let history = [done(0, Ask::Write(1), 5, 0), done(6, Ask::Read, 7, 1)];
        assert_eq!(check(&Register, &history, 1), Verdict::GivenUp { steps: 1 });
        assert!(matches!(check(&Register, &history, 2), Verdict::Linearizable(_)));
    }

    /// Tries every order of every subset that holds all definite operations.
    fn by_brute_force(history: &[Step], order: &mut Vec<usize>, state: u8) -> bool {
        let is_left = |number: &usize| !order.contains(number);
        let left: Vec<usize> = (0..history.len()).filter(is_left).collect();
        if left.iter().all(|number| history[*number].end.is_none()) {
            return true;
        }
        left.iter().any(|number| {
            let operation = &history[*number];
            let precedes = |other: &&usize| {
                let end = &history[**other].end;
                end.is_some_and(|(returned, _)| returned < operation.call)
            };
            if left.iter().find(precedes).is_some() {
                return false;
            }
            let mut after = state;
            let output = Register.apply(&mut after, &operation.input);
            if operation.end.is_some_and(|(_, answered)| answered != output) {
                return false;
            }
            order.push(*number);
            let found = by_brute_force(history, order, after);
            order.pop();
            found
        })
    }

    /// A small history that is often nearly right.
    fn drawn(seed: u64) -> Vec<Step> {
        let mut state = seed;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let count = 2 + below(5);
        (0..count)
            .map(|_| {
                let mut value = || u8::try_from(below(3)).unwrap();
                let values = (value(), value(), value());
                let input = match below(3) {
                    0 => Ask::Read,
                    1 => Ask::Write(values.0),
                    _ => Ask::Swap(values.0, values.1),
                };
                let call = below(12);
                let output = if matches!(input, Ask::Write(_)) { 0 } else { values.2 };
                let is_known = below(5) > 0;
                let end = is_known.then(|| (call + below(8), output));
                Operation { call, end, input }
            })
            .collect()
    }

    #[test]
    fn an_order_explains_a_history_only_if_it_gives_the_answers_and_keeps_the_times() {
        let history = [
            done(0, Ask::Write(1), 2, 0),
            done(3, Ask::Read, 4, 1),
            unknown(5, Ask::Write(2)),
            done(6, Ask::Read, 7, 1),
        ];
        let explains = |order: &[usize]| is_explained_by(&Register, &history, order);
        assert!(explains(&[0, 1, 3]) && explains(&[0, 1, 3, 2]));
        assert!(!explains(&[0, 3, 1]), "the second read had returned before");
        assert!(!explains(&[0, 1, 2, 3]), "another answer");
        assert!(!explains(&[0, 1]), "something definite is left out");
        assert!(!explains(&[0, 1, 3, 3]) && !explains(&[0, 1, 3, 9]));
    }

    #[test]
    fn it_agrees_with_brute_force_on_small_histories() {
        let (mut yes, mut no) = (0, 0);
        for seed in 0..20_000 {
            let history = drawn(seed);
            let expected = by_brute_force(&history, &mut Vec::new(), 0);
            match verdict(&history) {
                Verdict::Linearizable(order) if expected => {
                    assert!(is_explained_by(&Register, &history, &order), "{history:?} {order:?}");
                    yes += 1;
                }
                Verdict::Violation(_) if !expected => no += 1,
                other => panic!("{other:?}, but brute force says {expected}: {history:?}"),
            }
        }
        assert!(yes > 2000 && no > 2000, "{yes} linearizable and {no} not");
    }

    #[test]
    fn thousands_of_operations_of_many_clients_are_checked_at_once() {
        // Ten clients; of each ten operations that overlap the writes take effect in order.
        let mut history = Vec::new();
        for round in 0..300_u64 {
            let value = u8::try_from(round % 200).unwrap() + 1;
            let before = if round == 0 { 0 } else { u8::try_from((round - 1) % 200).unwrap() + 1 };
            let at = round * 10;
            history.push(done(at, Ask::Write(value), at + 9, 0));
            for client in 0..9 {
                let seen = if client < 4 { before } else { value };
                history.push(done(at + client / 3, Ask::Read, at + 9, seen));
            }
        }
        let verdict = check(&Register, &history, 1_000_000);
        assert!(matches!(verdict, Verdict::Linearizable(order) if order.len() == 3000));
    }
}
