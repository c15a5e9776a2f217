//! What a human should look at, as a server's status says it. What the start found holds for as
//! long as the server runs. Everything else is looked up when somebody asks, in what is remembered
//! of the members or in the replica, so that nothing is told that is over. How much that can be
//! does not depend on what others say.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use raft::founding::Seat;
use raft::node::{Bar, Index, MachineState, Member, NodeId};

use super::core::{Core, Phase};
use super::event::Event;

/// Findings of the start that are remembered.
const FACTS_MAX: usize = 32;

/// The longest warning in a status.
const TEXT_BYTES_MAX: usize = 1024;

/// Warnings in a status; an answer must fit a frame.
const WARNINGS_MAX: usize = 128;

/// Servers outside the cluster of which it is remembered when they were heard.
const STRANGERS_MAX: usize = 64;

/// What is remembered to be warned of.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// What the start found.
    facts: Vec<String>,
    /// What is odd about other servers of the cluster.
    oddities: BTreeMap<(Member, Oddity), String>,
    /// What was heard of another cluster of the same name.
    other_cluster: Option<String>,
    /// The entry since which this server is no member of the cluster any more.
    pub(super) removed_since: Option<Index>,
}

/// What can be odd about another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Oddity {
    /// It counts time in another way.
    Times,
    /// Its directory is older than what it once said.
    RolledBack,
    /// It introduces itself, and is not met where the cluster says that it listens.
    Unmet,
}

impl Core {
    /// Tells what the start found, and repeats it in every status.
    pub(super) fn warn_of_start(&mut self, text: String) {
        if self.warnings.facts.len() < FACTS_MAX {
            self.warnings.facts.push(text.clone());
        }
        self.tell(&Event::Warning { text });
    }

    /// Tells once what is odd about another server, and repeats it in every status until it is
    /// [over](Self::note_usual). Of servers that do not belong to the cluster nothing is told:
    /// anybody can claim any name.
    pub(super) fn note_oddity(&mut self, about: Member, oddity: Oddity, text: String) {
        if !self.belongs(about) {
            return;
        }
        match self.warnings.oddities.entry((about, oddity)) {
            Entry::Occupied(mut known) => *known.get_mut() = text,
            Entry::Vacant(new) => {
                new.insert(text.clone());
                self.tell(&Event::Warning { text });
            }
        }
    }

    /// A server of another cluster of the same name knows this one by another disk.
    pub(super) fn note_other_cluster(&mut self, server: NodeId) {
        if self.warnings.other_cluster.is_some() {
            return;
        }
        let text = format!(
            "{server} belongs to another cluster that is also called {:?} and knows {} by another \
             disk: one of the two clusters is left over, or was founded because the other was \
             lost; stop that one, after looking at what it holds",
            self.settings.cluster, self.me.id
        );
        self.tell(&Event::Warning { text: text.clone() });
        self.warnings.other_cluster = Some(text);
    }

    /// Nothing of the kind is odd about another server any more.
    pub(super) fn note_usual(&mut self, about: Member, oddity: Oddity) {
        self.warnings.oddities.remove(&(about, oddity));
    }

    /// The members have changed: what was odd about those that went is over.
    pub(super) fn forget_oddities(&mut self) {
        let mut oddities = std::mem::take(&mut self.warnings.oddities);
        oddities.retain(|(about, _), _| self.belongs(*about));
        self.warnings.oddities = oddities;
    }

    /// Whether a server is a member of the cluster, or one of those that are to found it. Before
    /// the founding any of the lives of such a server may be meant, but only one at a time.
    fn belongs(&self, other: Member) -> bool {
        match self.knows_members() {
            true => self.is_member(other),
            false => {
                let is_other_life =
                    |(about, _): &&(Member, Oddity)| about.id == other.id && *about != other;
                self.settings.seats.iter().any(|seat| seat.id == other.id)
                    && !self.warnings.oddities.keys().any(|key| is_other_life(&key))
            }
        }
    }

    /// Everything that holds at this moment.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut texts = self.warnings.facts.clone();
        texts.extend(self.own_troubles());
        texts.extend(self.other_members());
        texts.extend(self.warnings.other_cluster.clone());
        texts.extend(self.warnings.oddities.values().cloned());
        let more = texts.len().saturating_sub(WARNINGS_MAX);
        texts.truncate(WARNINGS_MAX);
        for text in &mut texts {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        texts.extend((more > 0).then(|| format!("and {more} more")));
        texts
    }

    /// What keeps this server from doing all that it is there for.
    fn own_troubles(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.removed().into_iter().chain(self.accused()).collect();
        let Phase::Running(running) = &self.phase else { return texts };
        let replica = running.driver.replica();
        let status = replica.status();
        if status.damaged > 0 {
            texts.push(format!(
                "{} entries of its log are damaged on its disk; it asks the others for them",
                status.damaged
            ));
        }
        if status.machine == MachineState::Lost {
            texts.push("it has no state to serve, and waits for a snapshot".to_owned());
        }
        if status.bar == Some(Bar::SlowDisk) {
            let text = "its disk is slow; it does not lead before a write is in time";
            texts.push(text.to_owned());
        }
        if replica.node().lacks_room() {
            texts.push(self.no_space());
        }
        texts
    }

    /// What to do with a server that was removed while it was away.
    pub(super) fn removed(&self) -> Option<String> {
        let (id, address) = (self.me.id, &self.settings.address);
        let since = self.warnings.removed_since?;
        Some(format!(
            "{id} is no member of the cluster since entry {since}: stop it; to bring it back, \
             start it with an empty directory and --join, then: kvctl member add {id} {address}"
        ))
    }

    /// What to do about a disk that is full.
    pub(super) fn no_space(&self) -> String {
        format!(
            "no space: the log of {} in {} cannot grow, since its next segment does not fit on the \
             disk; free some space there",
            self.me.id,
            self.settings.data.display()
        )
    }

    /// The configuration file's list of servers is for founding the cluster; afterwards the
    /// cluster's own counts, and a difference is rarely meant.
    pub(super) fn other_members(&self) -> Option<String> {
        let members = self.members()?;
        let mut listed: Vec<Seat> = members
            .addresses()
            .map(|(member, address)| Seat { id: member.id, address: address.to_string() })
            .collect();
        listed.sort();
        let seats = &self.settings.seats;
        if listed.is_empty() || seats.is_empty() || listed == *seats {
            return None;
        }
        let list = |seats: &[Seat]| {
            let seat = |seat: &Seat| format!("{} {}", seat.id, seat.address);
            seats.iter().map(seat).collect::<Vec<_>>().join(", ")
        };
        Some(format!(
            "the configuration lists {}, but the members of the cluster are {}; the cluster's own \
             list counts",
            list(seats),
            list(&listed)
        ))
    }

    /// Another server has said something.
    pub(super) fn note_heard(&mut self, id: NodeId) {
        let now = tokio::time::Instant::now();
        if let Some(at) = self.heard.get_mut(&id) {
            *at = now;
            return;
        }
        if !self.is_listed(id) {
            let strangers = self.heard.keys().filter(|other| !self.is_listed(**other));
            if strangers.count() >= STRANGERS_MAX {
                self.heard.retain(|_, at| now.duration_since(*at) < super::others::SILENCE_MAX);
                return;
            }
        }
        self.heard.insert(id, now);
    }
}
