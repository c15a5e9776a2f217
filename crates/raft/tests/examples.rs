//! The examples run as they stand, so that what a newcomer reads first is true.

#[path = "../examples/counter.rs"]
mod counter;

#[test]
fn a_counter_survives_the_death_of_its_leader() {
    counter::main().expect("the example works");
}
