//! The style of this repository, as far as a program can check it. Every violation is printed with
//! its file and line.

use verify::tidy::{self, Source, Violation};

/// Applies a rule to files and fails with all that it found.
fn check(files: &[Source], rule: impl Fn(&Source) -> Vec<Violation>) {
    let mut violations: Vec<Violation> = files.iter().flat_map(rule).collect();
    violations.sort();
    let report: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "{} violations:\n{}", report.len(), report.join("\n"));
}

fn rust() -> Vec<Source> {
    let files = tidy::text_files(&[".rs"]);
    assert!(files.len() > 10, "the sources of the repository were not found");
    files
}

fn all_text() -> Vec<Source> {
    tidy::text_files(&[".rs", ".toml", ".md", ".txt", ".sh", ".patch"])
}

#[test]
fn lines_fit_a_window() {
    check(&rust(), tidy::line_length);
}

#[test]
fn files_hold_one_idea() {
    check(&rust(), tidy::file_length);
}

#[test]
fn functions_fit_a_screen() {
    check(&rust(), tidy::function_length);
}

#[test]
fn every_file_opens_with_its_reason() {
    check(&rust(), tidy::file_opening);
}

#[test]
fn what_is_public_is_documented() {
    check(&rust(), tidy::docs_on_public_items);
}

#[test]
fn product_code_takes_no_shortcuts() {
    check(&rust(), tidy::no_shortcuts);
}

#[test]
fn nothing_is_left_for_another_day() {
    check(&all_text(), tidy::no_open_ends);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    check(&all_text(), tidy::no_machine_paths);
}

#[test]
fn ignored_tests_say_why() {
    check(&rust(), tidy::ignored_tests);
}

#[test]
fn libraries_do_not_print() {
    check(&rust(), tidy::no_printing_libraries);
}

#[test]
fn libraries_do_not_name_the_program() {
    check(&rust(), tidy::no_program_name);
}

#[test]
fn the_deterministic_rooms_know_no_clock_no_thread_and_no_hash_order() {
    check(&rust(), tidy::pure_rooms);
}

#[test]
fn unsafe_code_stays_in_its_room() {
    check(&rust(), tidy::unsafe_code);
}

#[test]
fn dependencies_point_down_only() {
    check(&tidy::text_files(&["Cargo.toml"]), tidy::dependencies_point_down);
}

#[test]
fn every_golden_script_is_run() {
    let folder = tidy::repository().join("crates/raft/tests/scripts");
    assert_eq!(tidy::scripts_that_are_not_run(&folder), []);
}

#[test]
fn every_suite_is_run() {
    assert_eq!(tidy::suites_that_are_not_run(&tidy::repository().join("tests")), []);
}
