//! What is answered out of the state machine, the log and the replica's own state, without
//! changing any of them.

use std::rc::Rc;

use bytes::Bytes;
use raft::node::{self, Configuration, EntryKind, Index, Intent, RoleName, SnapshotId};
use tokio::time::Instant;

use super::connection::Connection;
use super::core::{Core, Phase};
use super::event::Members;
use super::requests::{Pending, STATE_LOST, Work, role_of};
use crate::store::{EntryRef, View, command};
use crate::wire::frame::FrameError;
use crate::wire::request::{Content, Log, Order, Scan};
use crate::wire::response;
use crate::wire::response::{
    ChunkEnd, ErrorCode, ErrorReply, Feed, LogEntries, LogEntry, Member, MemberKind, ServerRole,
    SnapshotProgress, StatusReport, encode_scan_chunk, encode_scan_count, encode_value,
};

/// Entries in one answer to a request for the log, in bytes.
const LOG_BYTES_MAX: u64 = 256 << 10;

/// Keys that are counted before others get their turn.
const COUNT_PORTION: usize = 10_000;

/// What an entry takes in an answer beside its text, and what all of them may take: an answer
/// fits a frame.
const LOG_ENTRY_BYTES: usize = 32;
const LOG_TEXTS_BYTES_MAX: usize = 1 << 20;

/// The longest text of an entry in such an answer; longer commands are cut.
const LOG_TEXT_BYTES_MAX: usize = 1024;

impl Core {
    /// Answers a read that may be answered now.
    pub(super) fn answer_read(&mut self, key: usize) {
        let Phase::Running(running) = &self.phase else { return };
        let Some(store) = running.driver.replica().machine() else {
            let refusal = ErrorReply::nothing_happened(ErrorCode::NotReady, STATE_LOST);
            return self.finish(key, &refusal);
        };
        if let Some(Pending { connection: Some(connection), work, .. }) = self.pending.get_mut(key)
            && !connection.has_room()
        {
            work.own_bytes();
            return connection.push_confirmed(key);
        }
        let view = store.view();
        let Some(Pending { connection: Some(connection), request_id, work, .. }) =
            self.take_pending(key)
        else {
            return;
        };
        match work {
            Work::Get(get) => self.answer_with(&connection, |out| {
                let found = view.get(&get.key).map(|entry| (entry.state, entry.value));
                encode_value(out, request_id, view.revision(), found)
            }),
            Work::Scan(_) if !connection.begin_stream() => {
                let text = "too many scans of this connection are under way; read some first";
                let refusal = ErrorReply::nothing_happened(ErrorCode::Overloaded, text);
                self.answer(&connection, request_id, &refusal);
            }
            Work::Scan(scan) if scan.content == Content::CountOnly => {
                tokio::task::spawn_local(count_keys(connection, request_id, scan, view));
            }
            Work::Scan(scan) => {
                tokio::task::spawn_local(stream_scan(connection, request_id, scan, view));
            }
            Work::Save(_) => self.save(&connection, request_id),
            // A write is answered by what applying it gives.
            Work::Write(_) | Work::Change(_) | Work::Transfer(_) => {}
        }
    }

    /// Answers reads that have waited for their client to take the answers before them, until
    /// there is no more room. What they see is later than what they were confirmed for, which is
    /// what a read may see that has not ended yet.
    pub(super) fn answer_confirmed(&mut self, connection: &Rc<Connection>) {
        while connection.has_room()
            && let Some(key) = connection.pop_confirmed()
        {
            self.answer_read(key);
        }
        self.flush();
    }

    pub(super) fn status_report(&self) -> StatusReport {
        let settings = &self.settings;
        let uptime = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut report = StatusReport {
            node: self.me.id.to_string(),
            address: settings.address.clone(),
            cluster: settings.cluster.clone(),
            cluster_id: self.cluster_id(),
            incarnation: self.me.incarnation.0,
            boot: self.boot.0,
            uptime_ms: uptime,
            role: ServerRole::Joining,
            term: 0,
            leader: None,
            revision: crate::store::Revision(0),
            keys: 0,
            live_bytes: 0,
            sessions: 0,
            commit: 0,
            applied: 0,
            durable: 0,
            last: 0,
            snapshot: 0,
            timing: settings.timing,
            members: Vec::new(),
            joint: false,
            members_committed: false,
            receiving: None,
            warnings: self.warnings(),
        };
        let Phase::Running(running) = &self.phase else { return report };
        let status = running.driver.replica().status();
        let configuration = running.driver.replica().node().configuration();
        report.role = match role_of(status.role) {
            ServerRole::Follower if configuration.learner(self.me).is_some() => ServerRole::Learner,
            ServerRole::Follower | ServerRole::PreCandidate if self.was_removed() => {
                ServerRole::Removed
            }
            ServerRole::Follower if !configuration.lists(self.me) => ServerRole::Joining,
            role => role,
        };
        report.term = status.term.0;
        report.leader = self.leader_hint().filter(|_| status.leader.is_some());
        if let Some(store) = running.driver.replica().machine() {
            let size = store.size();
            report.revision = store.revision();
            (report.keys, report.live_bytes, report.sessions) =
                (size.keys, size.live_bytes, size.sessions);
        }
        (report.commit, report.applied) = (status.commit.0, status.applied.0);
        (report.durable, report.last) = (status.durable.0, status.last.0);
        report.snapshot = status.snapshot.0;
        report.members = self.members_report(&status);
        report.joint = configuration.is_joint();
        let since = running.driver.replica().node().configuration_index();
        report.members_committed = since <= status.commit;
        let receiving = running.driver.replica().receiving();
        report.receiving = receiving.map(|(from, snapshot, done_bytes)| response::Receiving {
            from: from.id.to_string(),
            progress: progress_of(snapshot, done_bytes),
        });
        report
    }

    /// The members, and those that wait to be.
    fn members_report(&self, status: &node::Status) -> Vec<Member> {
        let Phase::Running(running) = &self.phase else { return Vec::new() };
        let configuration = running.driver.replica().node().configuration();
        let sending = running.driver.replica().sending();
        let listed = configuration.addresses().map(|(member, address)| {
            let matched = status.followers.iter().find(|other| other.member == member);
            let leads = member == self.me && status.role == RoleName::Leader;
            let sending = sending.iter().find(|it| it.to == member);
            Member {
                feed: matched.map(|it| feed_of(it.feed)),
                sending: sending.map(|it| progress_of(it.snapshot, it.sent_bytes)),
                matched: matched.map(|it| it.matched.0).or(leads.then_some(status.durable.0)),
                ..self.seen(member, address, kind_of(configuration, member))
            }
        });
        let waiting = self.joiners.iter();
        let waiting =
            waiting.map(|joiner| self.seen(joiner.member, &joiner.address, MemberKind::Joining));
        let mut members: Vec<Member> = listed.chain(waiting).collect();
        members.sort_by(|left, right| left.id.cmp(&right.id));
        members
    }

    fn seen(&self, member: node::Member, address: &str, kind: MemberKind) -> Member {
        let heard = self.heard.get(&member.id).map(|at| Instant::now().duration_since(*at));
        Member {
            id: member.id.to_string(),
            address: address.to_string(),
            incarnation: member.incarnation.0,
            kind,
            matched: None,
            feed: None,
            sending: None,
            heard_ms_ago: heard.and_then(|ago| u64::try_from(ago.as_millis()).ok()),
        }
    }

    /// Entries of this server's own log.
    pub(super) fn log_entries(&mut self, request: &Log) -> Result<LogEntries, ErrorReply> {
        let Phase::Running(running) = &mut self.phase else {
            let text = "the cluster is not founded yet, so this server has no log";
            return Err(ErrorReply::nothing_happened(ErrorCode::NotReady, text));
        };
        let status = running.driver.replica().status();
        let entries = running
            .driver
            .replica_mut()
            .log_entries(Index(request.from), request.limit, LOG_BYTES_MAX)
            .map_err(|error| {
                ErrorReply::nothing_happened(ErrorCode::Internal, error.to_string())
            })?;
        let mut text_bytes = 0;
        let entries = entries.into_iter().map(|entry| {
            let payload = &entry.payload.bytes;
            let (kind, mut text) = match entry.kind {
                EntryKind::Empty => (response::EntryKind::Empty, String::new()),
                EntryKind::Command => (response::EntryKind::Command, command::describe(payload)),
                EntryKind::Configuration => {
                    (response::EntryKind::Configuration, describe_configuration(payload))
                }
            };
            text.truncate(text.floor_char_boundary(LOG_TEXT_BYTES_MAX));
            LogEntry { index: entry.index.0, term: entry.term.0, kind, text }
        });
        let fits = |entry: &LogEntry| {
            text_bytes += entry.text.len() + LOG_ENTRY_BYTES;
            text_bytes <= LOG_TEXTS_BYTES_MAX
        };
        Ok(LogEntries {
            first: status.compacted.0 + 1,
            last: status.durable.0,
            commit: status.commit.0,
            entries: entries.take_while(fits).collect(),
        })
    }
}

fn progress_of(snapshot: SnapshotId, done_bytes: u64) -> SnapshotProgress {
    SnapshotProgress { index: snapshot.position.index.0, bytes: snapshot.bytes, done_bytes }
}

fn feed_of(feed: node::Feed) -> Feed {
    match feed {
        node::Feed::Probes => Feed::Probes,
        node::Feed::Entries => Feed::Entries,
        node::Feed::Heartbeats => Feed::Heartbeats,
        node::Feed::Snapshot => Feed::Snapshot,
    }
}

/// What part a member has in its cluster.
fn kind_of(configuration: &Configuration, member: node::Member) -> MemberKind {
    if configuration.will_vote(member) {
        return MemberKind::Voter;
    }
    match configuration.learner(member).map(|learner| learner.intent) {
        None => MemberKind::Outgoing,
        Some(Intent::Stay) => MemberKind::Learner,
        Some(Intent::Promote { replaces }) => {
            MemberKind::Promoting { replaces: replaces.map(|old| old.id.to_string()) }
        }
    }
}

/// What a scan shows of an entry.
fn visible(entry: EntryRef<'_>, content: Content) -> EntryRef<'_> {
    match content {
        Content::KeysOnly => EntryRef { value: &[], ..entry },
        Content::KeysAndValues | Content::CountOnly => entry,
    }
}

fn describe_configuration(payload: &Bytes) -> String {
    match Configuration::decode(payload) {
        Ok(configuration) => format!("members {}", Members(&configuration)),
        Err(error) => error.to_string(),
    }
}

/// Sends the answer to a scan, a frame at a time, as fast as the client takes it. The view is
/// what the store was at one moment, however long this lasts.
async fn stream_scan(connection: Rc<Connection>, request_id: u64, scan: Scan, view: View) {
    let mut range = scan.range();
    let mut left = scan.limit;
    loop {
        connection.drained().await;
        if connection.outbox.is_closed() {
            break;
        }
        let step = connection.outbox.append(|out| -> Result<_, FrameError> {
            let visible = |entry| visible(entry, scan.content);
            let revision = view.revision();
            let entries = view.range(&range);
            let chunk = match scan.order {
                Order::Ascending => {
                    encode_scan_chunk(out, request_id, revision, entries.map(visible), left)?
                }
                Order::Descending => {
                    let entries = entries.rev().map(visible);
                    encode_scan_chunk(out, request_id, revision, entries, left)?
                }
            };
            let last_key = chunk.last_key.map(Bytes::copy_from_slice);
            Ok((chunk.end, chunk.entries, last_key))
        });
        connection.outbox.flush();
        match step {
            Ok((ChunkEnd::Continues, sent, Some(last_key))) => {
                left = left.map(|left| left.saturating_sub(sent));
                range = match scan.order {
                    Order::Ascending => range.above(last_key),
                    Order::Descending => range.below(last_key),
                };
            }
            Ok(_) => break,
            Err(_) => {
                connection.outbox.close();
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    connection.end_stream();
}

/// Answers how many keys a scan would return. It counts in portions, so that other requests do
/// not wait for a large count.
async fn count_keys(connection: Rc<Connection>, request_id: u64, scan: Scan, view: View) {
    let limit = usize::try_from(scan.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let mut range = scan.range();
    let mut counted = 0;
    while counted < limit && !connection.outbox.is_closed() {
        let portion = (limit - counted).min(COUNT_PORTION);
        let mut last = None;
        let mut found = 0;
        for entry in view.range(&range).take(portion) {
            found += 1;
            last = Some(entry.key);
        }
        counted += found;
        match last.filter(|_| found == portion) {
            Some(key) => range = range.above(Bytes::copy_from_slice(key)),
            None => break,
        }
        tokio::task::yield_now().await;
    }
    let encoded = connection
        .outbox
        .append(|out| encode_scan_count(out, request_id, view.revision(), counted as u64));
    match encoded {
        Ok(()) => connection.outbox.flush(),
        Err(_) => connection.outbox.close(),
    }
    connection.end_stream();
}
