//! A note in a server's directory that another server takes the directory for an older copy of what
//! it was. One voice can be wrong, or not be that server's at all, so it does not cost the server
//! its life. But the server cannot tell, and must not count its starts up to where it is believed
//! again. So it takes no part from there on, in this start or in later ones, until a second member
//! says the same, which settles it, or a person looks into it and removes the note.
//!
//! ```text
//! accused    text for people: a line with the version, a line with the term that was durable, then
//!            a line for each server that said so, its id first
//! ```
//!
//! The term goes into what the server says of itself while it asks the others, since its log is not
//! opened: a term that is too low would be a proof against it. That the file is there is what
//! counts; one that rotted names nobody and holds the server back all the same.

use std::io;

use wal::Disk;

use super::directory::{read_note, replace_file};
use crate::node::{NodeId, Term};

/// The file's name, in the server's directory.
pub(super) const NAME: &str = "accused";
const FIRST_LINE: &str = "accused, version 1";
const TERM: &str = "term ";

/// The longest that one server's account may be.
const ACCOUNT_BYTES_MAX: usize = 512;

/// What is noted of those who take a directory for an older copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accused {
    /// The latest term that was durable in the directory; `None` if the note does not tell.
    pub term: Option<Term>,
    /// Who says so, each once.
    pub accusations: Vec<Accusation>,
}

/// One server's word that the directory is an older copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// Who says so.
    pub by: String,
    /// What it says.
    pub account: String,
}

impl Accused {
    /// Adds the word of a server, in place of an earlier one of the same.
    pub(super) fn hear(&mut self, by: NodeId, account: &str) {
        self.accusations.retain(|it| it.by != by.as_str());
        self.accusations.push(Accusation { by: by.to_string(), account: account.to_string() });
    }
}

/// What the note in a directory says; `None` if there is none.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<Accused>> {
    let note = read_note(disk, NAME)?;
    Ok(note.map(|text| decode(&text.unwrap_or_default()).unwrap_or_default()))
}

fn decode(text: &str) -> Option<Accused> {
    let mut lines = text.lines();
    lines.next().filter(|line| *line == FIRST_LINE)?;
    let term = lines.next()?.strip_prefix(TERM)?.parse().ok()?;
    let said = lines.filter_map(|line| line.split_once(' '));
    let accusation =
        |(by, account): (&str, &str)| Accusation { by: by.into(), account: account.into() };
    Some(Accused { term: Some(Term(term)), accusations: said.map(accusation).collect() })
}

/// Notes, durably, who says so. Every later start finds it.
pub(super) fn write(disk: &dyn Disk, accused: &Accused) -> io::Result<()> {
    let mut text = format!("{FIRST_LINE}\n");
    // Without the line the next start reads nothing of it, as this one did.
    if let Some(term) = accused.term {
        text.push_str(&format!("{TERM}{}\n", term.0));
    }
    for Accusation { by, account } in &accused.accusations {
        let account: String = account.chars().filter(|it| !it.is_control()).collect();
        let account = account.get(..account.floor_char_boundary(ACCOUNT_BYTES_MAX));
        text.push_str(&format!("{by} {}\n", account.unwrap_or_default()));
    }
    let write = |file: &dyn wal::File| wal::disk::write_all_at(file, text.as_bytes(), 0);
    replace_file(disk, NAME, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::sim_disk::SimDisk;

    fn says(by: &str, account: &str) -> Accusation {
        Accusation { by: by.to_owned(), account: account.to_owned() }
    }

    #[test]
    fn a_note_survives_a_power_cut_in_these_very_bytes() {
        let medium = SimDisk::new();
        assert_eq!(read(medium.disk().as_ref()).unwrap(), None);
        let said = vec![says("s2", "start 7\nof it"), says("s3", "start 9 was seen")];
        let accused = Accused { term: Some(Term(4)), accusations: said };
        write(medium.disk().as_ref(), &accused).unwrap();
        medium.crash(1);
        let bytes = b"accused, version 1\nterm 4\ns2 start 7of it\ns3 start 9 was seen\n";
        assert_eq!(medium.contents(NAME).unwrap(), bytes);
        let found = read(medium.disk().as_ref()).unwrap().unwrap();
        assert_eq!(found.term, Some(Term(4)));
        assert_eq!(found.accusations, [says("s2", "start 7of it"), says("s3", "start 9 was seen")]);
    }

    #[test]
    fn a_note_that_rotted_is_one_all_the_same() {
        let medium = SimDisk::new();
        let accused = Accused { term: Some(Term(4)), accusations: vec![says("s2", "start 7")] };
        write(medium.disk().as_ref(), &accused).unwrap();
        medium.spoil_sector(NAME, 0);
        assert_eq!(read(medium.disk().as_ref()).unwrap(), Some(Accused::default()));
        medium.corrupt(NAME, |bytes| bytes.fill(b'x'));
        assert_eq!(read(medium.disk().as_ref()).unwrap(), Some(Accused::default()));
    }
}
