//! Each rule is shown to find what it looks for, and to leave alone what only looks like it.

use super::{
    Source, Violation, dependencies_point_down, docs_on_public_items, file_length, file_opening,
    function_length, ignored_tests, line_length, no_machine_paths, no_open_ends,
    no_printing_libraries, no_program_name, no_shortcuts, pure_rooms, unsafe_code,
};

fn lines(found: &[Violation]) -> Vec<usize> {
    found.iter().map(|violation| violation.line).collect()
}

fn product(content: &str) -> Source {
    Source::new("crates/wal/src/x.rs", content)
}

#[test]
fn a_violation_names_file_and_line() {
    let long = "x".repeat(101);
    let found = line_length(&product(&format!("short\n{long}")));
    assert_eq!(found[0].to_string(), "crates/wal/src/x.rs:2: longer than 100 characters");
}

#[test]
fn length_counts_characters_and_not_bytes() {
    assert!(line_length(&product(&"é".repeat(100))).is_empty());
    assert_eq!(lines(&line_length(&product(&"é".repeat(101)))), [1]);
}

#[test]
fn a_file_of_601_lines_is_too_long() {
    assert!(file_length(&product(&"\n".repeat(600))).is_empty());
    assert_eq!(lines(&file_length(&product(&"\n".repeat(601)))), [601]);
}

#[test]
fn a_function_is_measured_from_its_name_to_its_own_brace() {
    let fits = format!("    pub fn f() {{\n{}    }}", "        x;\n".repeat(70));
    let long = format!("    pub fn f() {{\n{}    }}", "        x;\n".repeat(71));
    assert!(function_length(&product(&fits)).is_empty());
    assert_eq!(lines(&function_length(&product(&long))), [1]);
    let declaration = format!("trait T {{\n    fn f();\n{}\n}}", "    const X: u8;\n".repeat(90));
    assert!(function_length(&product(&declaration)).is_empty());
}

#[test]
fn a_file_must_open_with_its_reason() {
    assert!(file_opening(&product("//! Why.\n")).is_empty());
    assert_eq!(lines(&file_opening(&product("// Why.\n"))), [1]);
    assert_eq!(lines(&file_opening(&product(""))), [1]);
}

#[test]
fn public_items_need_docs_even_behind_attributes() {
    let documented = "/// Doc.\n#[derive(Debug)]\n#[error(\n    \"x\"\n)]\npub struct S;\n";
    assert!(docs_on_public_items(&product(documented)).is_empty());
    let bare = "/// Doc.\nfn f() {}\n\n#[derive(Debug)]\npub struct S;\npub(crate) fn g() {}\n";
    assert_eq!(lines(&docs_on_public_items(&product(bare))), [5]);
}

#[test]
fn shortcuts_are_found_in_product_code_only() {
    let code = "\
let a = b.unwrap();
let a = b.unwrap_or_default(); // never .unwrap()
#[cfg(test)]
mod tests {
    fn f() {
        b.unwrap();
    }
}
panic!(\"x\");
#[cfg(test)]
mod other;
b.expect(\"x\");
";
    assert_eq!(lines(&no_shortcuts(&product(code))), [1, 9, 12]);
    assert!(no_shortcuts(&Source::new("crates/wal/src/log/tests.rs", code)).is_empty());
    assert!(no_shortcuts(&Source::new("tests/x.rs", code)).is_empty());
}

#[test]
fn nothing_is_left_for_another_day() {
    let mark = concat!("TO", "DO");
    assert_eq!(lines(&no_open_ends(&product(&format!("fine\n// {mark}: later\n")))), [2]);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let path = concat!("/wo", "rk/main");
    assert_eq!(lines(&no_machine_paths(&product(&format!("// see {path}\n")))), [1]);
}

#[test]
fn an_ignored_test_says_why() {
    let bare = concat!("#[ig", "nore]");
    let reasoned = concat!("#[ig", "nore = \"needs root\"]");
    assert_eq!(lines(&ignored_tests(&product(&format!("{bare}\n{reasoned}\n")))), [1]);
}

#[test]
fn only_the_command_line_prints() {
    let code = "println!(\"x\");\n";
    assert_eq!(lines(&no_printing_libraries(&product(code))), [1]);
    assert!(no_printing_libraries(&Source::new("crates/cli/src/x.rs", code)).is_empty());
}

#[test]
fn a_pure_room_knows_no_clock_and_no_hash_order() {
    let code = "use std::time::Duration;\nlet m: HashMap<A, B>;\nlet m: MyHashMap;\n// HashMap\n";
    let node = Source::new("crates/raft/src/node/log.rs", code);
    assert_eq!(lines(&pure_rooms(&node)), [1, 2]);
    let replica = Source::new("crates/raft/src/replica.rs", code);
    assert!(pure_rooms(&replica).is_empty());
}

#[test]
fn the_store_knows_nothing_of_the_wire_and_the_wire_nothing_of_sockets() {
    let code = "use crate::wire::Frame;\nuse raft::node::Index;\nuse std::io;\n";
    let store = Source::new("crates/kvstore/src/store/command.rs", code);
    assert_eq!(lines(&pure_rooms(&store)), [1, 2, 3]);
    let code = "use std::net::SocketAddr;\nuse tokio::io;\nlet s: TcpStream;\nuse crate::wire;\n";
    let wire = Source::new("crates/kvstore/src/wire/frame.rs", code);
    assert_eq!(lines(&pure_rooms(&wire)), [1, 2, 3]);
}

#[test]
fn what_cannot_be_is_said_with_an_error_outside_the_log() {
    let code = "_ => unreachable!(\"x\"),\n";
    assert_eq!(lines(&no_shortcuts(&product(code))), Vec::<usize>::new());
    let server = Source::new("crates/kvstore/src/server/core.rs", code);
    assert_eq!(lines(&no_shortcuts(&server)), [1]);
}

#[test]
fn a_library_does_not_name_the_program_to_its_callers() {
    let code = "// kvctl\nlet kvctl = \"a\";\nlet text = \"run kvctl help\";\n";
    assert_eq!(lines(&no_program_name(&product(code))), [3]);
    assert!(no_program_name(&Source::new("crates/cli/src/x.rs", code)).is_empty());
}

#[test]
fn unsafe_code_is_allowed_in_one_room() {
    let code = "unsafe { x() }\n#[allow(unsafe_code, reason = \"x\")]\n";
    assert_eq!(lines(&unsafe_code(&product(code))), [1, 2]);
    assert!(unsafe_code(&Source::new("crates/wal/src/reader.rs", code)).is_empty());
}

#[test]
fn a_crate_may_not_use_the_one_above_it() {
    let manifest = |path: &str, name: &str| {
        Source::new(
            path,
            &format!("[package]\nname = \"x\"\n[dependencies]\n{name}.workspace = true\n"),
        )
    };
    let wrong = manifest("crates/raft/Cargo.toml", "kvstore");
    assert_eq!(lines(&dependencies_point_down(&wrong)), [4]);
    assert!(dependencies_point_down(&manifest("crates/raft/Cargo.toml", "wal")).is_empty());
    let dev = Source::new("crates/wal/Cargo.toml", "[dev-dependencies]\nraft = { path = \"x\" }\n");
    assert_eq!(lines(&dependencies_point_down(&dev)), [2], "tests are no excuse");
}
