//! The style rules that a program can check. Each rule is a function from a source file to the
//! lines that break it; `tests/tidy.rs` applies them to the repository.

mod dependencies;
mod rules;
mod scripts;
mod source;

pub use dependencies::dependencies_point_down;
pub use rules::{
    docs_on_public_items, file_length, file_opening, function_length, ignored_tests, line_length,
    no_machine_paths, no_open_ends, no_printing_libraries, no_program_name, no_shortcuts,
    pure_rooms, unsafe_code,
};
pub use scripts::{scripts_that_are_not_run, suites_that_are_not_run};
pub use source::{Source, repository, text_files};

/// A line that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, relative to the root of the repository.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[cfg(test)]
mod tests;
