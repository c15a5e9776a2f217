//! `kvctl help`: the overview, the help of each command, and topics that need more than a line.
//! Nothing here needs a server.

use std::fmt::Write as _;

use crate::args;
use crate::exit::Exit;
use crate::failure::Failure;

/// A topic: its name, one line about it, and its text.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: fn() -> String,
}

/// The topics, in the order in which they are listed.
const TOPICS: [Topic; 7] = [
    Topic {
        name: "consistency",
        about: "what a read may return, and what an acknowledged write is worth",
        text: || include_str!("consistency.txt").to_owned(),
    },
    Topic { name: "exit-codes", about: "what a script can branch on", text: exit_codes },
    Topic {
        name: "retries",
        about: "done, refused, unknown, and how to repeat a write safely",
        text: || include_str!("retries.txt").to_owned(),
    },
    Topic {
        name: "output",
        about: "the formats of -o, and what goes where",
        text: || include_str!("output.txt").to_owned(),
    },
    Topic {
        name: "config",
        about: "the configuration file, and what overrides what",
        text: || include_str!("config.txt").to_owned(),
    },
    Topic {
        name: "membership",
        about: "how servers come, go and lose their disks",
        text: || include_str!("membership.txt").to_owned(),
    },
    Topic {
        name: "recovery",
        about: "starting, stopping, damage, and what to do when a majority is lost",
        text: || include_str!("recovery.txt").to_owned(),
    },
];

/// The names of all topics and commands, for completion.
pub(crate) fn names() -> Vec<&'static str> {
    let commands = args::GROUPS.into_iter().flat_map(|(_, names)| names.iter().copied());
    TOPICS.iter().map(|topic| topic.name).chain(["topics"]).chain(commands).collect()
}

/// What `kvctl help` prints about a topic, or about a command, whose words these are.
pub(crate) fn explain(words: &[impl AsRef<str>]) -> Result<String, Failure> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    if words == ["topics"] {
        return Ok(list());
    }
    if let Some(topic) = TOPICS.iter().find(|topic| words == [topic.name]) {
        return Ok((topic.text)());
    }
    let mut command = args::command();
    command.build();
    let mut found = &mut command;
    for word in &words {
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            Failure::usage(format!("there is no help on `{}`", words.join(" ")))
                .detail("commands: kvctl help")
                .detail("topics:   kvctl help topics")
        })?;
    }
    Ok(found.render_long_help().to_string())
}

fn list() -> String {
    let mut text = "Topics:\n".to_owned();
    for topic in &TOPICS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<12} {}", topic.name, topic.about);
    }
    text.push_str("\nRead one with: kvctl help TOPIC\n");
    text
}

fn exit_codes() -> String {
    let mut text = "EXIT CODES\n\n".to_owned();
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:>3}  {:<16} {}", exit.code(), exit.name(), exit.meaning());
    }
    text.push_str(
        "\nThe name is what `-o json` prints as error.kind. 3, 6 and 7 are definite:\n\
         nothing has happened and nothing will. 8 is not: see kvctl help retries.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::{TOPICS, explain, names};
    use crate::exit::Exit;

    #[test]
    fn everything_that_has_a_name_can_be_explained() {
        for name in names() {
            let text = explain(&[name]).unwrap();
            assert!(text.lines().count() > 2, "the help on {name} says next to nothing");
        }
    }

    #[test]
    fn topics_fit_a_terminal() {
        for topic in &TOPICS {
            let text = (topic.text)();
            let long = text.lines().find(|line| line.chars().count() > 80);
            assert!(long.is_none(), "{}: {long:?} is longer than 80", topic.name);
            assert!(text.ends_with('\n'), "{} does not end its last line", topic.name);
        }
    }

    #[test]
    fn the_topic_on_exit_codes_lists_every_code() {
        let text = explain(&["exit-codes"]).unwrap();
        for exit in Exit::ALL {
            assert!(text.contains(exit.meaning()), "{exit:?} is missing");
        }
    }

    #[test]
    fn the_topic_on_the_configuration_lists_every_key() {
        let text = explain(&["config"]).unwrap();
        for key in kvstore::config::keys() {
            let stands = text.contains(&format!("{key} = ")) || text.contains(&format!("[{key}]"));
            assert!(stands, "{key} is missing");
        }
    }

    #[test]
    fn the_words_of_a_command_lead_to_its_help() {
        let text = explain(&["wal", "verify"]).unwrap();
        assert!(text.contains("kvctl wal verify --data"), "{text}");
        assert!(explain(&["wal", "nothing"]).is_err() && explain(&["topics", "x"]).is_err());
        assert!(explain(&[""; 0]).unwrap().contains("Every command explains itself"));
    }

    #[test]
    fn an_unknown_topic_says_where_to_look() {
        let failure = explain(&["nothing"]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("kvctl help topics"), "{failure}");
    }
}
