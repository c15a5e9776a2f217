//! How much the exhaustive tests have tried, in lines that can be quoted: one a test, and the sum
//! of all that ran in this process so far. `cargo test -p wal --test suite -- --nocapture` ends
//! with the sum of everything.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static ALL: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());

fn line<'c>(counts: impl IntoIterator<Item = (&'c str, u64)>) -> String {
    let parts: Vec<String> =
        counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    parts.join(", ")
}

/// Prints what one test has tried.
pub(crate) fn tell(counts: &[(&'static str, u64)]) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    for (what, count) in counts {
        *all.entry(what).or_default() += count;
    }
    println!("tried {}", line(counts.iter().copied()));
    println!("tried in all so far {}", line(all.iter().map(|(what, count)| (*what, *count))));
}
