//! Every schedule of a small cluster of production nodes, see `verify::model`. What takes longer is
//! searched by `cargo run --release -p verify --bin explore`.

use verify::model::{Patience, Scope, explore};

#[test]
fn every_schedule_of_the_smallest_scope_is_safe() {
    let answer = explore(Scope::SMALLEST, Patience::Endless);
    assert!(answer.failures.is_empty(), "{answer}\n{}", answer.failures.join("\n"));
    assert!(answer.is_complete, "{answer}");
    assert!(answer.states > 10_000, "too few to be all: {answer}");
}

#[test]
fn a_removal_is_safe_in_every_schedule_in_which_one_leader_is_elected() {
    let scope = Scope { terms: 1, timeouts: 1, proposals: 0, changes: 1, ..Scope::SMALLEST };
    let answer = explore(scope, Patience::Endless);
    assert!(answer.failures.is_empty(), "{answer}\n{}", answer.failures.join("\n"));
    assert!(answer.is_complete, "{answer}");
}

#[test]
fn a_search_that_proves_nothing_says_so() {
    let nobody = Scope { timeouts: 0, proposals: 0, ..Scope::SMALLEST };
    let answer = explore(nobody, Patience::Endless);
    assert!(answer.is_complete && answer.failures.iter().any(|it| it.contains("is elected")));
}
