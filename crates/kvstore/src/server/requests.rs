//! Clients' requests from their arrival to their one answer. A request is checked whole before it
//! goes anywhere. One that needs a leader while there is none waits here, not at the client, until
//! a leader is known or its time is nearly over.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::driver::Input;
use raft::node::{Payload, ProposeError, ReadId, RoleName};
use raft::replica::{Completion, Replica, Token};
use tokio::time::Instant;

use super::admin::change_error;
use super::connection::Connection;
use super::core::{Core, Phase};
use crate::store::{Reply, Store, command};
use crate::wire::admin::{Change, Transfer};
use crate::wire::frame::{self, FRAME_BYTES_MAX, Frame, Message};
use crate::wire::request::{Consistency, Get, Request, Route, Scan, Write};
use crate::wire::response::{ErrorCode, ErrorReply, LeaderHint, ServerRole, ServerState};
use crate::wire::save::Save;

/// Memory that all requests under way may take; beyond it new ones are refused.
const PENDING_BYTES_MAX: u64 = 256 << 20;

/// What a request takes in memory beside its own bytes.
const PENDING_OVERHEAD_BYTES: u64 = 256;

/// A request that waits for a leader is answered so long before its client gives up, so that the
/// client hears why; or earlier, if it has little time.
const ANSWER_BEFORE_MAX: Duration = Duration::from_millis(200);

/// No request is waited for longer than this, whatever its client says.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Between two looks for requests that take too long.
const LOOK_THROUGH_EVERY: Duration = Duration::from_millis(100);

/// A request that the server still has to do with.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who waits for the answer; `None` once it was told that it will not come in time, or left.
    /// The entry itself stays until the replica is done with it, since its key is the replica's
    /// name for it.
    pub(super) connection: Option<Rc<Connection>>,
    pub(super) request_id: u64,
    pub(super) work: Work,
    pub(super) bytes: u64,
    /// When its client is told that no leader was found.
    give_up: Instant,
}

/// What needs the replica.
#[derive(Debug)]
pub(super) enum Work {
    Get(Get),
    Scan(Scan),
    Write(Write),
    Change(Change),
    Transfer(Transfer),
    Save(Save),
}

impl Work {
    fn route(&self) -> Route {
        match self {
            Work::Get(get) => get.route,
            Work::Scan(scan) => scan.route,
            Work::Write(write) => write.route,
            Work::Save(save) => save.route,
            Work::Change(_) | Work::Transfer(_) => Route::Any,
        }
    }

    fn timeout(&self) -> Duration {
        let milliseconds = match self {
            Work::Get(get) => get.timeout_ms,
            Work::Scan(scan) => scan.timeout_ms,
            Work::Write(write) => write.timeout_ms,
            Work::Change(change) => change.timeout_ms,
            Work::Transfer(transfer) => transfer.timeout_ms,
            Work::Save(save) => save.timeout_ms,
        };
        Duration::from_millis(milliseconds.into())
    }

    fn bytes(&self) -> u64 {
        let own = match self {
            Work::Get(get) => get.key.len(),
            Work::Scan(scan) => scan.bytes(),
            Work::Write(write) => write.command.len(),
            Work::Change(change) => change.bytes(),
            Work::Transfer(transfer) => transfer.to.as_ref().map_or(0, String::len),
            Work::Save(_) => 0,
        };
        PENDING_OVERHEAD_BYTES + own as u64
    }

    /// Lets go of the buffer that the request was read into. One that waits for long would keep
    /// all of it, whatever else came in it.
    pub(super) fn own_bytes(&mut self) {
        let own = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
        match self {
            Work::Get(get) => own(&mut get.key),
            Work::Scan(scan) => scan.each_bytes(own),
            Work::Write(write) => own(&mut write.command),
            Work::Change(_) | Work::Transfer(_) | Work::Save(_) => {}
        }
    }

    fn is_stale_read(&self) -> bool {
        match self {
            Work::Get(get) => get.consistency == Consistency::Stale,
            Work::Scan(scan) => scan.consistency == Consistency::Stale,
            Work::Save(save) => save.consistency == Consistency::Stale,
            Work::Write(_) | Work::Change(_) | Work::Transfer(_) => false,
        }
    }

    /// Whether it asks the leader to do something.
    fn is_read(&self) -> bool {
        matches!(self, Work::Get(_) | Work::Scan(_) | Work::Save(_))
    }
}

impl Core {
    /// A frame of a client came.
    pub(super) fn on_request(&mut self, connection: &Rc<Connection>, frame: &Frame) {
        connection.on_request();
        let id = frame.request_id;
        match Request::decode(frame) {
            Err(error) => {
                let code = match error {
                    crate::wire::DecodeError::UnknownKind { .. } => ErrorCode::UnknownKind,
                    crate::wire::DecodeError::TooLarge { .. } => ErrorCode::TooLarge,
                    _ => ErrorCode::Invalid,
                };
                let refusal = ErrorReply::nothing_happened(code, error.to_string());
                self.answer(connection, id, &refusal);
            }
            Ok(Request::Status(_)) => {
                let report = self.status_report();
                self.answer(connection, id, &report);
            }
            Ok(Request::Log(log)) => match self.log_entries(&log) {
                Ok(entries) => self.answer(connection, id, &entries),
                Err(error) => self.answer(connection, id, &error),
            },
            Ok(Request::Get(get)) if get.key.is_empty() => {
                let text = command::Invalid::KeyEmpty.to_string();
                let refusal = ErrorReply::nothing_happened(ErrorCode::Invalid, text);
                self.answer(connection, id, &refusal);
            }
            Ok(Request::Get(get)) => self.begin(connection, id, Work::Get(get)),
            Ok(Request::Scan(scan)) => self.begin(connection, id, Work::Scan(scan)),
            Ok(Request::Change(change)) => self.begin(connection, id, Work::Change(change)),
            Ok(Request::Transfer(it)) => self.begin(connection, id, Work::Transfer(it)),
            Ok(Request::Save(save)) => self.begin(connection, id, Work::Save(save)),
            Ok(Request::Write(mut write)) => {
                match command::validate(&write.command, &self.settings.limits) {
                    Ok(()) => {
                        write.command = self.gathered.keep(&frame.body, &write.command);
                        self.begin(connection, id, Work::Write(write));
                    }
                    Err(invalid) => {
                        let code = match invalid {
                            command::Invalid::TooLarge { .. } => ErrorCode::TooLarge,
                            _ => ErrorCode::Invalid,
                        };
                        let refusal = ErrorReply::nothing_happened(code, invalid.to_string());
                        self.answer(connection, id, &refusal);
                    }
                }
            }
        }
    }

    fn begin(&mut self, connection: &Rc<Connection>, request_id: u64, work: Work) {
        let bytes = work.bytes();
        if self.pending_bytes + bytes > PENDING_BYTES_MAX {
            let text = format!(
                "overloaded: requests of {} bytes are under way, {PENDING_BYTES_MAX} may be; \
                 try again",
                self.pending_bytes
            );
            let refusal = ErrorReply::nothing_happened(ErrorCode::Overloaded, text);
            return self.answer(connection, request_id, &refusal);
        }
        let timeout = work.timeout().min(TIMEOUT_MAX);
        let give_up = Instant::now() + timeout.saturating_sub((timeout / 4).min(ANSWER_BEFORE_MAX));
        self.pending_bytes += bytes;
        let connection = Some(Rc::clone(connection));
        let key = self.pending.insert(Pending { connection, request_id, work, bytes, give_up });
        self.dispatch(key);
    }

    /// Gives a request to whoever can serve it: the replica, another server, or the wait for a
    /// leader.
    pub(super) fn dispatch(&mut self, key: usize) {
        let Some(pending) = self.pending.get(key) else { return };
        if self.stopping {
            let text = "this server is about to stop";
            let refusal = ErrorReply::nothing_happened(ErrorCode::ShuttingDown, text);
            return self.finish(key, &refusal);
        }
        if let Some(text) = self.takes_no_part() {
            let refusal = ErrorReply::nothing_happened(ErrorCode::NotReady, text);
            let server = Some(self.server_state());
            return self.finish(key, &ErrorReply { server, ..refusal });
        }
        let Phase::Running(running) = &self.phase else {
            return self.hold(key);
        };
        if pending.work.is_read()
            && !pending.work.is_stale_read()
            && let Some(text) = lacks_state(running.driver.replica())
        {
            let refusal = ErrorReply::nothing_happened(ErrorCode::NotReady, text);
            let server = Some(self.server_state());
            return self.finish(key, &ErrorReply { server, ..refusal });
        }
        let node = running.driver.replica().node();
        let leads = node.role() == RoleName::Leader;
        let route = pending.work.route();
        if pending.work.is_stale_read() {
            let Some(last) = running.unheard_to() else { return self.answer_read(key) };
            let text = format!(
                "this server has entries up to {last} and has not heard since its start which of \
                 them are committed; what it could show may lack them all"
            );
            let refusal = ErrorReply::nothing_happened(ErrorCode::NotReady, text);
            let server = Some(self.server_state());
            return self.finish(key, &ErrorReply { server, ..refusal });
        }
        let input = match &pending.work {
            _ if route == Route::LeaderOnly && !leads => return self.refuse_not_leader(key),
            work if !work.is_read() && !leads && node.leader().is_some() => {
                return self.refuse_not_leader(key);
            }
            _ if node.leader().is_none() => return self.hold(key),
            Work::Write(write) => {
                Input::Propose(Token(key as u64), Payload::new(write.command.clone()))
            }
            Work::Get(_) | Work::Scan(_) | Work::Save(_) => Input::Read(ReadId(key as u64)),
            work @ (Work::Change(_) | Work::Transfer(_)) => {
                match self.admin_input(Token(key as u64), work) {
                    Ok(input) => input,
                    Err(refusal) => return self.finish(key, &refusal),
                }
            }
        };
        self.inbox.push(input);
    }

    fn refuse_not_leader(&mut self, key: usize) {
        let hint = self.leader_hint();
        let mut refusal = ErrorReply::not_leader(self.server_state(), hint.clone());
        if let Some(hint) = hint.filter(|hint| hint.id == self.me.id.as_str()) {
            refusal.leader = None;
            refusal.text = format!(
                "Sorry, I am not the leader. I led until term {}, and have heard from no other \
                 leader since.",
                hint.term
            );
        }
        self.finish(key, &refusal);
    }

    /// Lets a request wait until there is a leader.
    pub(super) fn hold(&mut self, key: usize) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        pending.work.own_bytes();
        self.held.insert((pending.give_up, key));
    }

    /// Something changed that waiting requests may have waited for.
    pub(super) fn release_held(&mut self) {
        for (_, key) in std::mem::take(&mut self.held) {
            self.dispatch(key);
        }
    }

    /// Tells those who have waited long enough that there is no leader.
    pub(super) fn expire_held(&mut self) {
        let now = Instant::now();
        while let Some((_, key)) = self.held.first().copied().filter(|(at, _)| *at <= now) {
            self.held.pop_first();
            let refusal = match self.phase {
                Phase::Running(_) => ErrorReply::no_leader(self.server_state(), self.leader_hint()),
                _ => ErrorReply {
                    server: Some(self.server_state()),
                    ..ErrorReply::nothing_happened(
                        ErrorCode::NotReady,
                        "the cluster is not founded yet: not all of its servers were started",
                    )
                },
            };
            self.finish(key, &refusal);
        }
    }

    /// Tells those whose requests the replica has not ended in time what is known of them. Such
    /// are rare (a leader that keeps its quorum while nobody can append), so they are looked for
    /// now and then instead of being kept in order.
    pub(super) fn expire_overdue(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked_through) < LOOK_THROUGH_EVERY {
            return;
        }
        self.looked_through = now;
        let mut overdue = Vec::new();
        for (_, pending) in &mut self.pending {
            if pending.give_up <= now
                && let Some(connection) = pending.connection.take()
            {
                overdue.push((connection, pending.request_id, !pending.work.is_read()));
            }
        }
        if !overdue.is_empty() {
            self.give_up_confirmed();
        }
        for (connection, request_id, is_write) in overdue {
            let server = Some(self.server_state());
            let late = if is_write {
                let text = "it was not committed in time; it may or may not happen";
                ErrorReply { server, ..ErrorReply::unknown(ErrorCode::Timeout, text) }
            } else {
                let text = "the read could not be confirmed in time";
                ErrorReply { server, ..ErrorReply::nothing_happened(ErrorCode::Timeout, text) }
            };
            self.answer(&connection, request_id, &late);
        }
    }

    /// A client left: nobody waits for its answers any more.
    pub(super) fn forget(&mut self, connection: &Rc<Connection>) {
        for (_, pending) in &mut self.pending {
            pending.connection.take_if(|waiting| Rc::ptr_eq(waiting, connection));
        }
        while let Some(key) = connection.pop_confirmed() {
            self.take_pending(key);
        }
    }

    /// The replica has ended something.
    pub(super) fn on_completion(&mut self, completion: Completion<Reply>) {
        match completion {
            Completion::Applied(token, _, reply) => self.finish(key_of(token.0), &reply),
            Completion::Refused(token, error) => self.on_refused(key_of(token.0), &error),
            Completion::Unknown(token) => {
                let unknown = ErrorReply {
                    server: Some(self.server_state()),
                    leader: self.leader_hint(),
                    ..ErrorReply::unknown(
                        ErrorCode::NotLeader,
                        "this server stopped leading before the write was committed; it may or \
                         may not happen",
                    )
                };
                self.finish(key_of(token.0), &unknown);
            }
            Completion::ReadReady(id) => self.answer_read(key_of(id.0)),
            Completion::Changed(token, outcome) => self.on_changed(key_of(token.0), outcome),
            Completion::Transferred(token, ended) => self.on_transferred(key_of(token.0), ended),
            Completion::TransferRefused(token, error) => {
                self.on_transfer_refused(key_of(token.0), error);
            }
            // Nothing was read yet, so nothing is lost by asking again.
            Completion::ReadLost(id, _) | Completion::ReadRefused(id, _) => {
                self.dispatch(key_of(id.0));
            }
        }
    }

    fn on_refused(&mut self, key: usize, error: &ProposeError) {
        // Whom nobody waits for any more is not tried again.
        if self.pending.get(key).is_some_and(|pending| pending.connection.is_none()) {
            return drop(self.take_pending(key));
        }
        let code = match error {
            // It never entered the log, or was superseded there, so it goes the way of any request
            // to a follower.
            ProposeError::NotLeader { .. } => return self.dispatch(key),
            // Soon there is another leader, or this one goes on.
            ProposeError::Transferring { .. } => return self.hold(key),
            ProposeError::Membership(error) => change_error(error),
            ProposeError::Overloaded { .. } => ErrorCode::Overloaded,
            ProposeError::NoSpace { .. } => ErrorCode::NoSpace,
            ProposeError::TooLarge { .. } => ErrorCode::TooLarge,
        };
        let mut text = error.to_string();
        if code == ErrorCode::NoSpace {
            text = self.no_space();
        }
        let server = Some(self.server_state());
        let refusal = ErrorReply { server, ..ErrorReply::nothing_happened(code, text) };
        self.finish(key, &refusal);
    }

    /// Gives a pending request its answer.
    pub(super) fn finish<M: Message>(&mut self, key: usize, answer: &M) {
        if let Some(Pending { connection: Some(connection), request_id, .. }) =
            self.take_pending(key)
        {
            self.answer(&connection, request_id, answer);
        }
    }

    pub(super) fn take_pending(&mut self, key: usize) -> Option<Pending> {
        let pending = self.pending.try_remove(key)?;
        self.pending_bytes -= pending.bytes;
        Some(pending)
    }

    /// Queues an answer; it leaves at the end of the turn.
    pub(super) fn answer<M: Message>(
        &mut self,
        connection: &Rc<Connection>,
        request_id: u64,
        answer: &M,
    ) {
        self.answer_with(connection, |out| frame::encode(out, request_id, answer, FRAME_BYTES_MAX));
    }

    /// Queues an answer that `fill` appends. It leaves at the end of the turn, which whoever
    /// hands in requests asks for.
    pub(super) fn answer_with(
        &mut self,
        connection: &Rc<Connection>,
        fill: impl FnOnce(&mut BytesMut) -> Result<(), frame::FrameError>,
    ) {
        if connection.outbox.append(fill).is_err() {
            // Every answer is made to fit a frame; if one does not, its client must not wait.
            connection.outbox.close();
        }
        connection.on_answered();
        if !connection.dirty.replace(true) {
            self.dirty.push(Rc::clone(connection));
        }
    }

    pub(super) fn server_state(&self) -> ServerState {
        match &self.phase {
            Phase::Running(running) => {
                let status = running.driver.replica().status();
                ServerState { role: role_of(status.role), term: status.term.0 }
            }
            _ => ServerState { role: ServerRole::Joining, term: 0 },
        }
    }

    /// The last leader that was heard from, and where it listens.
    pub(super) fn leader_hint(&self) -> Option<LeaderHint> {
        let Phase::Running(running) = &self.phase else { return None };
        let node = running.driver.replica().node();
        let (id, term) = node.last_leader()?;
        let address = self.address_of(node.last_leading_member()?)?.to_string();
        Some(LeaderHint { id: id.to_string(), address, term: term.0 })
    }
}

/// Why a server answers no reads that has nothing to answer them from.
pub(super) const STATE_LOST: &str =
    "this server's state is lost, and was not fetched from another one yet";

/// Why reads of this server would have to wait for a snapshot that is still to come.
fn lacks_state(replica: &Replica<Store>) -> Option<&'static str> {
    if replica.machine().is_none() {
        return Some(STATE_LOST);
    }
    let is_behind = replica.receiving().is_some();
    is_behind.then_some("this server is so far behind that it fetches a snapshot; ask another one")
}

/// Tokens and read ids are keys of the table of pending requests.
fn key_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn role_of(role: RoleName) -> ServerRole {
    match role {
        RoleName::Follower => ServerRole::Follower,
        RoleName::PreCandidate => ServerRole::PreCandidate,
        RoleName::Candidate => ServerRole::Candidate,
        RoleName::Leader => ServerRole::Leader,
    }
}
