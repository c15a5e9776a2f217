//! The rules about single files.

use super::Violation;
use super::source::{Source, code, indentation};

/// The longest line, in characters.
const LINE_CHARS_MAX: usize = 100;
/// The longest file of Rust, in lines.
const FILE_LINES_MAX: usize = 600;
/// The longest function, in lines from its name to its last brace.
const FUNCTION_LINES_MAX: usize = 72;

/// No line is longer than a reader's window.
pub fn line_length(source: &Source) -> Vec<Violation> {
    let long = |line: &String| line.chars().count() > LINE_CHARS_MAX;
    let lines = source.lines().iter().enumerate().filter(|(_, line)| long(line));
    let what = format!("longer than {LINE_CHARS_MAX} characters");
    lines.map(|(at, _)| source.violation(at + 1, what.clone())).collect()
}

/// A file that grew too long holds more than one idea.
pub fn file_length(source: &Source) -> Vec<Violation> {
    let lines = source.lines().len();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![source.violation(lines, format!("{lines} lines, more than {FILE_LINES_MAX}: split it"))]
}

/// A function fits a screen. Its end is the first brace that is indented like its beginning, which
/// holds for every file that is formatted.
pub fn function_length(source: &Source) -> Vec<Violation> {
    let lines = source.lines();
    let mut violations = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let end = format!("{}}}", indentation(line));
        let Some(length) = lines[start..].iter().position(|line| *line == end) else {
            continue;
        };
        // A declaration without a body ends before the brace of what surrounds it.
        let declaration =
            lines[start..start + length].iter().find(|l| l.ends_with([';', '{', '}']));
        let has_body = declaration.is_some_and(|line| line.ends_with('{'));
        if has_body && length + 1 > FUNCTION_LINES_MAX {
            let what =
                format!("a function of {} lines, more than {FUNCTION_LINES_MAX}", length + 1);
            violations.push(source.violation(start + 1, what));
        }
    }
    violations
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let prefix = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word)
    };
    words.find(|word| !prefix(word)) == Some("fn")
}

/// A file opens by saying why it exists.
pub fn file_opening(source: &Source) -> Vec<Violation> {
    match source.lines().first() {
        Some(line) if line.starts_with("//!") => Vec::new(),
        _ => vec![source.violation(1, "does not open with a sentence on why the file exists")],
    }
}

/// What is public is documented. The compiler checks the libraries; this checks the rest alike.
pub fn docs_on_public_items(source: &Source) -> Vec<Violation> {
    let items = ["fn", "async", "const", "struct", "enum", "trait", "type", "static", "unsafe"];
    let lines = source.lines();
    let mut violations = Vec::new();
    for (at, line) in source.product_lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("pub") || !words.next().is_some_and(|word| items.contains(&word)) {
            continue;
        }
        let block = lines[..at - 1].iter().rev().take_while(|line| {
            !line.trim().is_empty() && !line.ends_with('}') && !line.ends_with('{')
        });
        // A macro that is handed its docs writes them as `$(#[$doc])*`.
        let docs = |line: &str| line.starts_with("///") || line.starts_with("$(#[$doc");
        if !block.map(|line| line.trim_start()).any(docs) {
            violations.push(source.violation(at, "public, and not documented"));
        }
    }
    violations
}

/// Product code has no way to end a server by accident.
pub fn no_shortcuts(source: &Source) -> Vec<Violation> {
    const SHORTCUTS: [&str; 7] =
        [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!(", "unreachable!("];
    // The log says with it what its own locks exclude.
    let is_log = source.path().starts_with("crates/wal/");
    source.check_product(|line| {
        let mut shortcuts = SHORTCUTS.iter().filter(|it| !(is_log && **it == "unreachable!("));
        let shortcut = shortcuts.find(|shortcut| code(line).contains(**shortcut))?;
        Some(format!("`{shortcut}` in product code"))
    })
}

/// Nothing is left for another day.
pub fn no_open_ends(source: &Source) -> Vec<Violation> {
    // Written in two pieces, so that this file does not break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let lines = source.lines().iter().enumerate();
    lines
        .filter_map(|(at, line)| {
            let mark = marks.iter().find(|mark| line.contains(**mark))?;
            Some(source.violation(at + 1, format!("`{mark}`: do it or leave it")))
        })
        .collect()
}

/// The repository knows no machine but the reader's.
pub fn no_machine_paths(source: &Source) -> Vec<Violation> {
    let marks = [concat!("/wo", "rk/"), concat!("shared/", "design"), concat!("/ro", "ot/")];
    let lines = source.lines().iter().enumerate();
    lines
        .filter_map(|(at, line)| {
            let mark = marks.iter().find(|mark| line.contains(**mark))?;
            Some(source.violation(at + 1, format!("`{mark}` exists on one machine only")))
        })
        .collect()
}

/// A test that does not run says why.
pub fn ignored_tests(source: &Source) -> Vec<Violation> {
    let lines = source.lines().iter().enumerate();
    let bare = concat!("#[ig", "nore]");
    let ignored = lines.filter(|(_, line)| line.trim() == bare);
    ignored.map(|(at, _)| source.violation(at + 1, "ignored without a reason")).collect()
}

/// Libraries tell their callers; only the command line prints, and examples do.
pub fn no_printing_libraries(source: &Source) -> Vec<Violation> {
    if source.path().starts_with("crates/cli/") || source.path().contains("/examples/") {
        return Vec::new();
    }
    source.check_product(|line| {
        let prints = ["println!(", "eprintln!(", "print!(", "eprint!("];
        let print = prints.iter().find(|print| code(line).contains(**print))?;
        Some(format!("`{print}` in a library"))
    })
}

/// A rule about a room: what the code there must not name, and why.
struct Room {
    path: &'static str,
    forbidden: &'static [&'static str],
    why: &'static str,
}

const ROOMS: [Room; 4] = [
    Room {
        path: "crates/raft/src/node/",
        forbidden: &[
            "HashMap",
            "HashSet",
            "std::thread",
            "std::time",
            "std::fs",
            "std::net",
            "std::env",
            "std::io",
            "tokio",
            "getrandom",
            "wal::",
            "crate::storage",
            "crate::replica",
            "crate::driver",
        ],
        why: "the protocol is a function of its inputs",
    },
    Room {
        path: "crates/kvstore/src/store/",
        forbidden: &[
            "HashMap",
            "HashSet",
            "std::thread",
            "std::time",
            "std::fs",
            "std::net",
            "std::env",
            "std::io",
            "tokio",
            "getrandom",
            "raft::",
            "crate::wire",
            "crate::server",
            "crate::client",
        ],
        why: "every replica must reach the same state",
    },
    Room {
        path: "crates/kvstore/src/wire/",
        forbidden: &[
            "tokio",
            "std::net",
            "std::os",
            "rustix",
            "TcpStream",
            "TcpListener",
            "crate::server",
            "crate::client",
        ],
        why: "the protocol is bytes in and bytes out",
    },
    Room { path: "crates/wal/", forbidden: &["tokio"], why: "the log is usable without a runtime" },
];

/// The deterministic rooms stay deterministic, and each room keeps to its own.
pub fn pure_rooms(source: &Source) -> Vec<Violation> {
    let rooms = ROOMS.iter().filter(|room| source.path().starts_with(room.path));
    rooms
        .flat_map(|room| {
            source.check_product(|line| {
                let name = room.forbidden.iter().find(|name| names(code(line), name))?;
                Some(format!("`{name}`: {}", room.why))
            })
        })
        .collect()
}

/// Whether the code contains the name, and not only as the end of a longer one.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The lower libraries do not know the program that they are part of: what they say holds for any.
pub fn no_program_name(source: &Source) -> Vec<Violation> {
    let libraries = ["crates/raft/", "crates/wal/"];
    if !libraries.iter().any(|library| source.path().starts_with(library)) {
        return Vec::new();
    }
    source.check_product(|line| {
        let mut literals = code(line).split('"').skip(1).step_by(2);
        let named = literals.any(|literal| literal.contains("kvctl"));
        named.then(|| "`kvctl` in the words of a library".to_owned())
    })
}

/// Unsafe code is allowed in one place of the product.
pub fn unsafe_code(source: &Source) -> Vec<Violation> {
    if source.path().starts_with("crates/wal/src/reader") {
        return Vec::new();
    }
    source.check_product(|line| {
        let allowed = code(line).contains("allow(unsafe_code") || names(code(line), "unsafe {");
        allowed.then(|| "unsafe code outside the log's mapped reader".to_owned())
    })
}
