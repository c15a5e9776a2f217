//! The grammar of the command line: what can be said, and what is caught before anything is tried.

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};

use super::{Cli, Command, GROUPS, Line, ValueSource, command};
use crate::output::Format;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = ["kvctl"].into_iter().chain(line.split_whitespace());
    Cli::from_arg_matches(&command().try_get_matches_from(words)?)
}

fn error(line: &str) -> ErrorKind {
    parse(line).unwrap_err().kind()
}

#[test]
fn the_parser_contradicts_itself_nowhere() {
    command().debug_assert();
    Line::command().debug_assert();
}

#[test]
fn every_command_is_in_one_group_and_has_an_example() {
    let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let command = command();
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        let times = grouped.iter().filter(|grouped| **grouped == name).count();
        assert_eq!(times, 1, "{name} stands {times} times in the overview");
        let after = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Example"), "{name} has no example");
        assert!(after.contains(&format!("kvctl {name}")) || name == "completions", "{name}");
    }
    assert_eq!(command.get_subcommands().count(), grouped.len());
}

#[test]
fn what_a_command_can_do_has_an_example_each() {
    let command = command();
    for subcommand in command.get_subcommands() {
        for part in subcommand.get_subcommands() {
            let words = format!("kvctl {} {} ", subcommand.get_name(), part.get_name());
            let after = part.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example") && after.contains(&words), "{words}has no example");
        }
    }
}

#[test]
fn the_lines_of_help_fit_a_terminal() {
    let mut command = command();
    command.build();
    let parts = command.get_subcommands().flat_map(clap::Command::get_subcommands);
    for subcommand in command.get_subcommands().chain(parts) {
        let after = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in after.lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", subcommand.get_name());
        }
    }
}

#[test]
fn delete_is_another_word_for_del() {
    assert!(matches!(parse("delete d").unwrap().command, Command::Del(_)));
}

#[test]
fn a_value_can_be_a_negative_number_but_not_a_misspelt_option() {
    let Command::Set(args) = parse("set d -8").unwrap().command else { panic!("not a set") };
    assert_eq!(args.value, ValueSource::Inline("-8".into()));
    assert_eq!(error("set d --if-absnet"), ErrorKind::UnknownArgument);
}

#[test]
fn a_value_can_come_from_elsewhere() {
    for (line, expected) in [
        ("set d -", ValueSource::Stdin),
        ("set d @file", ValueSource::File("file".into())),
        ("set d @", ValueSource::Inline("@".into())),
    ] {
        let Command::Set(args) = parse(line).unwrap().command else { panic!("not a set") };
        assert_eq!(args.value, expected);
    }
}

#[test]
fn what_excludes_each_other_is_not_taken_together() {
    for line in [
        "set a 1 --if-absent --if-rev 3",
        "get a --prefix b",
        "get a --count",
        "get --prefix a --range b c",
        "get --prefix a --count --keys-only",
        "del a --prefix b",
        "del --prefix a --if-rev 3",
        "get a -q -v",
    ] {
        assert_eq!(error(line), ErrorKind::ArgumentConflict, "{line}");
    }
    assert_eq!(error("get"), ErrorKind::MissingRequiredArgument);
    assert_eq!(error("get --prefix a --limit 0"), ErrorKind::ValueValidation);
}

#[test]
fn a_log_is_named_by_its_directory_or_its_server() {
    for line in ["wal verify", "wal stat", "wal dump --from 3", "wal repair --accept-data-loss"] {
        assert_eq!(error(line), ErrorKind::MissingRequiredArgument, "{line}");
        assert!(
            parse(&format!("{line} --data d")).is_ok() && parse(&format!("{line} --id s1")).is_ok()
        );
    }
}

#[test]
fn global_options_stand_anywhere() {
    let cli = parse("get a -o json -e h:1,h:2 -e h:3 --timeout 1s").unwrap();
    assert_eq!(cli.global.output, Format::Json);
    assert_eq!(cli.global.endpoints, ["h:1", "h:2", "h:3"]);
    assert_eq!(cli.global.timeout.as_secs(), 1);
    assert_eq!(parse("-o value get a").unwrap().global.output, Format::Value);
}

#[test]
fn a_line_of_the_shell_is_a_command_without_the_program() {
    let line = Line::try_parse_from(["get", "ana", "-o", "json"]).unwrap();
    assert_eq!(line.output, Some(Format::Json));
    assert!(matches!(line.command, Command::Get(_)));
    assert!(Line::try_parse_from(["kvctl", "get", "ana"]).is_err());
}
