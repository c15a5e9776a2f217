//! Takes turns between the sides of a comparison, so that whatever else the machine does hits all
//! of them alike, and boils the slices down to medians.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// One side of a comparison: a thing that can be put to work for a while.
pub trait Side {
    /// Works for about `length` and tells what was done.
    ///
    /// # Errors
    /// Anything that makes the comparison worthless.
    fn work(&mut self, length: Duration) -> Result<Slice>;

    /// Brings everything to rest that still goes on in the background, so that the next side is
    /// not disturbed by it, and frees the space that is not needed any more. It is not timed.
    ///
    /// # Errors
    /// Anything that makes the comparison worthless.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What one side did in one turn.
#[derive(Clone, Debug)]
pub struct Slice {
    /// How many operations were completed.
    pub operations: u64,
    /// From the first operation's beginning to the last one's end.
    pub elapsed: Duration,
    /// How long the middle one of all operations took.
    pub p50: Duration,
    /// How long all but one in a hundred took at most.
    pub p99: Duration,
}

impl Slice {
    /// The same slice if each operation did `times` as much as was counted.
    #[must_use]
    pub fn times(self, times: u64) -> Slice {
        Slice { operations: self.operations * times, ..self }
    }

    /// A slice of one kind of work that was timed as a whole.
    pub fn whole(operations: u64, elapsed: Duration) -> Slice {
        Slice { operations, elapsed, p50: elapsed, p99: elapsed }
    }
}

/// All turns of one side.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    rates: Vec<f64>,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
    operations: u64,
    elapsed: Duration,
}

impl Samples {
    /// The median over all turns of operations per second.
    pub fn rate(&self) -> f64 {
        median(&self.rates)
    }

    /// Operations per second of all turns together: nothing that is slow now and then is left out.
    pub fn whole_rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// The median over all turns of what all but one operation in a hundred took at most, in
    /// microseconds.
    pub fn p99_us(&self) -> f64 {
        median(&self.p99s)
    }

    /// The median over all turns of the median operation, in microseconds.
    pub fn p50_us(&self) -> f64 {
        median(&self.p50s)
    }

    /// How far apart the turns were: the third quartile of the rates divided by the first. Far from
    /// one, something else kept the machine busy, and the medians are worth little.
    pub fn spread(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        let quarter = sorted.len() / 4;
        let at = |number: usize| sorted.get(number).copied().unwrap_or(f64::NAN);
        at(sorted.len().saturating_sub(1 + quarter)) / at(quarter)
    }

    fn add(&mut self, slice: &Slice) {
        self.rates.push(slice.operations as f64 / slice.elapsed.as_secs_f64());
        self.p50s.push(slice.p50.as_secs_f64() * 1e6);
        self.p99s.push(slice.p99.as_secs_f64() * 1e6);
        self.operations += slice.operations;
        self.elapsed += slice.elapsed;
    }
}

/// The middle of a set of numbers; of an even count, the mean of the two in the middle.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}

/// How long and how often the sides take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// How often each side works.
    pub rounds: u32,
    /// How long it works each time.
    pub slice: Duration,
}

/// Lets all sides work in turn, one first round uncounted. Who begins changes from round to round.
///
/// # Errors
/// The first error of any side.
pub fn take_turns(sides: &mut [&mut dyn Side], turns: Turns) -> Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); sides.len()];
    for side in &mut *sides {
        side.work(turns.slice)?;
        side.settle()?;
    }
    for round in 0..turns.rounds as usize {
        for turn in 0..sides.len() {
            let number = (round + turn) % sides.len();
            let (Some(side), Some(samples)) = (sides.get_mut(number), samples.get_mut(number))
            else {
                continue;
            };
            samples.add(&side.work(turns.slice)?);
            side.settle()?;
        }
    }
    Ok(samples)
}

/// Lets `writers` threads repeat an operation in a closed loop for about `length`. The operation is
/// told the number of its writer, from zero.
///
/// # Errors
/// The first error of the operation.
pub fn closed_loop(
    writers: usize,
    length: Duration,
    operation: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Slice> {
    let start = Barrier::new(writers);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let run = |writer| {
        start.wait();
        let mut times = Times::begin();
        while times.elapsed() < length {
            if let Err(error) = operation(writer) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                break;
            }
            times.lap();
        }
        times
    };
    let runs: Vec<Times> = thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || run(writer))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Times::join(runs),
    }
}

/// Repeats an operation on this thread for about `length`.
///
/// # Errors
/// The first error of the operation.
pub fn alone(length: Duration, mut operation: impl FnMut() -> Result<()>) -> Result<Slice> {
    let mut times = Times::begin();
    while times.elapsed() < length {
        operation()?;
        times.lap();
    }
    Times::join(vec![times])
}

/// Repeats an operation on this thread `count` times. It may be so short that a look at the clock
/// would count, so that only all of them together are timed.
///
/// # Errors
/// The first error of the operation.
pub fn counted(count: u64, mut operation: impl FnMut() -> Result<()>) -> Result<Slice> {
    let begin = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(Slice::whole(count, begin.elapsed()))
}

/// How long each operation of one thread took.
struct Times {
    begin: Instant,
    last: Instant,
    laps_ns: Vec<u32>,
}

impl Times {
    fn begin() -> Times {
        let now = Instant::now();
        Times { begin: now, last: now, laps_ns: Vec::with_capacity(1 << 12) }
    }

    fn elapsed(&self) -> Duration {
        self.last.duration_since(self.begin)
    }

    fn lap(&mut self) {
        let now = Instant::now();
        let lap = now.duration_since(self.last).as_nanos();
        self.laps_ns.push(u32::try_from(lap).unwrap_or(u32::MAX));
        self.last = now;
    }

    fn join(threads: Vec<Times>) -> Result<Slice> {
        let begin = threads.iter().map(|times| times.begin).min();
        let end = threads.iter().map(|times| times.last).max();
        let mut laps: Vec<u32> = threads.into_iter().flat_map(|times| times.laps_ns).collect();
        laps.sort_unstable();
        let at = |place: usize| laps.get(place).ok_or("no operation completed in a slice");
        let (p50, p99) = (at(laps.len() / 2)?, at(laps.len() * 99 / 100)?);
        let elapsed = begin.zip(end).map(|(begin, end)| end.duration_since(begin));
        Ok(Slice {
            operations: laps.len() as u64,
            elapsed: elapsed.unwrap_or_default(),
            p50: Duration::from_nanos(u64::from(*p50)),
            p99: Duration::from_nanos(u64::from(*p99)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    struct Steady {
        rate: u64,
        settled: u32,
    }

    impl Side for Steady {
        fn work(&mut self, _: Duration) -> Result<Slice> {
            Ok(Slice::whole(self.rate, Duration::from_secs(1)))
        }

        fn settle(&mut self) -> Result<()> {
            self.settled += 1;
            Ok(())
        }
    }

    #[test]
    fn every_side_works_and_settles_once_a_round() {
        let mut slow = Steady { rate: 10, settled: 0 };
        let mut fast = Steady { rate: 30, settled: 0 };
        let turns = Turns { rounds: 5, slice: Duration::ZERO };
        let samples = take_turns(&mut [&mut slow, &mut fast], turns).unwrap();
        assert_eq!(samples[0].rate(), 10.0);
        assert_eq!(samples[1].rate(), 30.0);
        assert_eq!((slow.settled, fast.settled), (6, 6));
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_spread_tells_a_quiet_machine_from_a_busy_one() {
        let rates = |rates: &[f64]| Samples { rates: rates.to_vec(), ..Samples::default() };
        assert_eq!(rates(&[5.0; 8]).spread(), 1.0);
        assert_eq!(rates(&[1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0]).spread(), 9.0);
    }

    #[test]
    fn every_writer_knows_its_number() {
        let seen = Mutex::new(BTreeSet::new());
        let note = |writer| {
            seen.lock().unwrap().insert(writer);
            Ok(())
        };
        let slice = closed_loop(3, Duration::from_millis(1), note).unwrap();
        assert!(slice.operations >= 3);
        assert_eq!(seen.into_inner().unwrap(), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn an_error_of_any_writer_ends_the_loop() {
        let slice = closed_loop(3, Duration::from_secs(60), |_| Err("broken".into()));
        assert_eq!(slice.unwrap_err().to_string(), "broken");
    }
}
