//! What operators ask of a leader: changes of the membership, and handing leadership over. A server
//! that is to be taken in is named by its id alone; the pair comes from the server itself, which
//! must be running, so that nobody has to type an incarnation and none can be mistyped.

use raft::driver::Input;
use raft::node::{
    self, ChangeError, ChangeOutcome, InvalidNodeId, Member, NodeId, RoleName, Target,
    TransferEnded, TransferError, TransferOutcome,
};
use raft::replica::Token;

use super::core::{Core, Phase};
use super::requests::Work;
use crate::wire::admin::{Changed, MemberChange, Transferred};
use crate::wire::response::{ErrorCode, ErrorReply};

/// Nobody waits for the end of the transfer with which a server stops.
const STOPPING: Token = Token(u64::MAX);

/// The kind of a refused change. What only has to wait for something else is tried again.
pub(super) fn change_error(error: &ChangeError) -> ErrorCode {
    match error {
        ChangeError::Pending | ChangeError::TermNotCommitted => ErrorCode::Busy,
        _ => ErrorCode::Invalid,
    }
}

impl Core {
    /// What the replica is asked, in the terms of the replica.
    pub(super) fn admin_input(&self, token: Token, work: &Work) -> Result<Input, ErrorReply> {
        let invalid = |error: InvalidNodeId| {
            ErrorReply::nothing_happened(ErrorCode::Invalid, error.to_string())
        };
        match work {
            Work::Transfer(transfer) => match &transfer.to {
                None => Ok(Input::HandOver(token)),
                Some(to) => Ok(Input::Transfer(token, NodeId::new(to).map_err(invalid)?)),
            },
            Work::Change(request) => {
                let named = |id: &String| NodeId::new(id).map_err(invalid);
                let change = match &request.change {
                    MemberChange::AddVoter { id, address } => {
                        let (member, address) = self.newcomer(named(id)?, address.as_ref())?;
                        node::Change::AddVoter { member, address }
                    }
                    MemberChange::AddLearner { id, address } => {
                        let (member, address) = self.newcomer(named(id)?, address.as_ref())?;
                        node::Change::AddLearner { member, address }
                    }
                    MemberChange::Promote { id } => node::Change::Promote(named(id)?),
                    MemberChange::Remove { id } => node::Change::Remove(named(id)?),
                    MemberChange::Replace { old, new, address } => {
                        let (member, address) = self.newcomer(named(new)?, address.as_ref())?;
                        node::Change::Replace { old: named(old)?, member, address }
                    }
                };
                Ok(Input::Change(token, change))
            }
            Work::Get(_) | Work::Scan(_) | Work::Write(_) | Work::Save(_) => {
                let text = "that is no request of an operator";
                Err(ErrorReply::nothing_happened(ErrorCode::Internal, text))
            }
        }
    }

    /// The server of this name that waits to be taken in, or one that learns already, and its
    /// address.
    fn newcomer(
        &self,
        id: NodeId,
        address: Option<&String>,
    ) -> Result<(Member, String), ErrorReply> {
        if let Some(joiner) = self.joiners.find(id) {
            if let Some(other) = address.filter(|address| **address != joiner.address) {
                let text = format!(
                    "{id} says that it listens at {}, not at {other}, where the others would look \
                     for it; name that address, or start {id} with --addr {other}",
                    joiner.address
                );
                return Err(ErrorReply::nothing_happened(ErrorCode::Invalid, text));
            }
            return Ok((joiner.member, joiner.address.clone()));
        }
        if let Phase::Running(running) = &self.phase {
            let configuration = running.driver.replica().node().configuration();
            let learner = configuration.learners().iter().find(|it| it.member.id == id);
            if let Some(learner) = learner {
                return Ok((learner.member, address.unwrap_or(&learner.address).clone()));
            }
            let voter = configuration.voters().iter().find(|it| it.member.id == id);
            if let Some(voter) = voter.filter(|_| address.is_some()) {
                // The replica says what is wrong with it.
                return Ok((voter.member, address.unwrap_or(&voter.address).clone()));
            }
        }
        let (here, at) = (self.settings.address.as_str(), "HOST:PORT");
        let address = address.map_or(at, String::as_str);
        let text = format!(
            "{id} is not waiting to be taken in; start it with an empty directory: kvctl serve \
             --id {id} --join {here} --addr {address}"
        );
        Err(ErrorReply::nothing_happened(ErrorCode::NotAnnounced, text))
    }

    /// A change of the membership ended.
    pub(super) fn on_changed(&mut self, key: usize, outcome: ChangeOutcome) {
        let commit = match &self.phase {
            Phase::Running(running) => running.driver.replica().node().commit().0,
            _ => 0,
        };
        match outcome {
            ChangeOutcome::Finished | ChangeOutcome::Certain => {
                self.finish(key, &Changed { commit });
            }
            ChangeOutcome::Unknown => {
                let text = "this server stopped leading before the change was committed; look at \
                            the members before asking again";
                let unknown = ErrorReply::unknown(ErrorCode::NotLeader, text);
                let leader = self.leader_hint();
                self.finish(key, &ErrorReply { leader, ..unknown });
            }
        }
    }

    /// A transfer of leadership ended.
    pub(super) fn on_transferred(&mut self, key: usize, ended: TransferEnded) {
        let TransferEnded { to, outcome, target } = ended;
        let me = self.me.id;
        let text = match outcome {
            TransferOutcome::HandedOver => {
                return self.finish(key, &Transferred { to: to.to_string() });
            }
            TransferOutcome::TimedOut => {
                format!("{to} did not take over within an election timeout; {me} leads on")
            }
            TransferOutcome::LeadershipLost => {
                format!("{me} stopped leading before it heard that {to} took over")
            }
        };
        let leader = self.leader_hint();
        let refusal = match target {
            Target::Untold => ErrorReply::nothing_happened(ErrorCode::Timeout, text),
            Target::Told => {
                let text = format!("{text}, but {to} was told to and still may");
                ErrorReply::unknown(ErrorCode::Timeout, text)
            }
        };
        self.finish(key, &ErrorReply { leader, ..refusal });
    }

    /// A transfer of leadership was not begun.
    pub(super) fn on_transfer_refused(&mut self, key: usize, error: TransferError) {
        let code = match error {
            TransferError::NotLeader { .. } => return self.dispatch(key),
            TransferError::Pending { .. } => ErrorCode::Busy,
            _ => ErrorCode::Invalid,
        };
        self.finish(key, &ErrorReply::nothing_happened(code, error.to_string()));
    }

    /// Asks for leadership to be handed to whoever is fit for it, if this server has it: others
    /// should not have to notice that it is gone. Says whether there is anything to wait for.
    pub(super) fn begin_hand_over(&mut self) -> bool {
        let Phase::Running(running) = &self.phase else { return false };
        let leads = running.driver.replica().node().role() == RoleName::Leader;
        if leads {
            self.inbox.push(Input::HandOver(STOPPING));
        }
        leads
    }

    /// Whether this server need not wait for another one to lead any more.
    pub(super) fn has_handed_over(&self) -> bool {
        let Phase::Running(running) = &self.phase else { return true };
        let node = running.driver.replica().node();
        match node.role() {
            // The transfer was refused, or given up.
            RoleName::Leader => node.transferring_to().is_none(),
            // Requests that wait are told who leads.
            RoleName::Follower => node.leader().is_some(),
            RoleName::PreCandidate | RoleName::Candidate => false,
        }
    }
}
