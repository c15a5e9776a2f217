//! A transfer of leadership ends with one of the two leading: whoever campaigns because a leader
//! told it to holds all that the leader's log held then (dissertation 3.10). With less it would
//! lose, and the cluster with it the leader that it had.

use std::collections::{BTreeMap, VecDeque};

use raft::node::{Cause, Member, Message, Position};

use super::Broken;

/// Of what each member was told lately, so much is kept.
const TOLD_MAX: usize = 64;

/// Where the logs of leaders ended when they told others to campaign.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    told: BTreeMap<Member, VecDeque<Position>>,
    /// How often it was checked.
    pub checked: u64,
}

impl Transfers {
    /// A message leaves a server.
    ///
    /// # Errors
    /// Its sender campaigns at a leader's word, and with a log that is not the leader's.
    pub fn on_spoken(&mut self, from: Member, to: Member, message: &Message) -> Result<(), Broken> {
        match message {
            Message::TimeoutNow { last } => {
                let told = self.told.entry(to).or_default();
                if told.back() != Some(last) {
                    told.push_back(*last);
                    let excess = told.len().saturating_sub(TOLD_MAX);
                    told.drain(..excess);
                }
                Ok(())
            }
            Message::VoteRequest { last, cause: Cause::Transfer } => {
                self.checked += 1;
                let told = self.told.get(&from);
                if told.is_some_and(|told| told.contains(last)) {
                    return Ok(());
                }
                let what = format!("{from} campaigns for a leader with {last}: {told:?}");
                Err(Broken::new("whoever takes over holds the leader's log", what))
            }
            _ => Ok(()),
        }
    }
}
