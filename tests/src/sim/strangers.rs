//! Voices that nobody may listen to: servers of another cluster, starts of a server that are over,
//! and what was meant for another life of the one that hears it. They must be turned away; that
//! they are is checked here.

use kvstore::wire::handshake::Age;
use raft::ClusterId;
use raft::driver::Input;
use raft::founding::Seat;
use raft::node::{
    Boot, Cause, Entries, Envelope, Incarnation, Index, Member, Message, Position, Term,
};
use raft::storage::{Seen, Sighting, Start};

use crate::check::Broken;

use super::meeting::{Host, Noted};
use super::server::address;
use super::world::World;

/// Another cluster of the same name.
const OTHER_CLUSTER: [u8; 16] = [0xee; 16];

impl World {
    /// A server of another cluster that has the name of one of ours connects, and speaks. True if
    /// there was somebody to hear it.
    pub(super) fn speak_as_a_stranger(
        &mut self,
        server: usize,
        other: usize,
    ) -> Result<bool, Broken> {
        let me = self.servers[other].member();
        let Some(host) = self.servers[server].host().filter(|_| server != other) else {
            return Ok(false);
        };
        let age = Age { boot: 1_000_000, nonce: 1, term: 1_000_000 };
        let stranger = Host { me, age, cluster_id: Some(OTHER_CLUSTER), members: None };
        let to = Seat { id: host.me.id, address: address(server) };
        let verdict = host.check_peer(&stranger.hello_to(&to));
        let is_member = host.cluster_id.is_some();
        let is_refused = verdict.is_none();
        let is_heard = host.is_for_me(host.addressee(), stranger.cluster_id);
        if is_member && (!is_refused || is_heard) {
            let what = format!("{} listens to a server of another cluster", host.me);
            return Err(Broken::new("one cluster", what));
        }
        let options = self.servers[server].log_options(&self.plan);
        let Some(entrance) = &mut self.servers[server].entrance else { return Ok(true) };
        // It belongs to no cluster, and would listen; but it was never told of that one.
        let previous = Position { index: Index(5), term: Term(5) };
        let message =
            Message::Append { previous, entries: Entries::default(), commit: Index(5), round: 1 };
        match entrance.admit(Some(ClusterId(OTHER_CLUSTER)), &message, &options) {
            Ok(None) => Ok(true),
            other => {
                Err(Broken::new("one cluster", format!("it is taken into another: {other:?}")))
            }
        }
    }

    /// A message reaches a server that was meant for another life of it, of which its directory
    /// knows nothing. True if there was somebody to hear it.
    pub(super) fn speak_to_another_life(
        &mut self,
        server: usize,
        other: usize,
    ) -> Result<bool, Broken> {
        let (me, from) = (self.servers[server].member(), self.servers[other].member());
        let is_awake = self.servers[server].busy_until <= self.now();
        let Some(process) = self.servers[server].process.as_mut().filter(|_| is_awake) else {
            return Ok(false);
        };
        if server == other {
            return Ok(false);
        }
        // No server has it: lives are counted by sixteens.
        let to = Member { incarnation: Incarnation(me.incarnation.0 + 8), ..me };
        let term = Term(process.node().term().0 + 1000);
        let last = Position { index: Index(1 << 40), term };
        let message = Message::VoteRequest { last, cause: Cause::Transfer };
        process.inbox.push(Input::Message(Envelope { from, to, term, message }));
        self.trace.count_event();
        self.take_turn(server)?;
        let process = self.servers[server].process.as_ref();
        if process.is_some_and(|process| process.node().term() >= term) {
            let what = format!("{me} takes what was meant for {to}");
            return Err(Broken::new("a message is for one life", what));
        }
        Ok(true)
    }

    /// A copy of a server's directory from before its last start connects to one that has seen
    /// this. True if there was somebody to hear it.
    pub(super) fn speak_as_an_earlier_start(
        &mut self,
        server: usize,
        other: usize,
    ) -> Result<bool, Broken> {
        let way = ((other, server), super::network::Purpose::Raft);
        let Some(up) = self.network.up(way).copied() else { return Ok(false) };
        let speaker = self.servers[other].host();
        let Some((age, cluster)) = speaker.map(|host| (host.age, host.cluster_id)) else {
            return Ok(false);
        };
        let it = &mut self.servers[server];
        let (me, ours) = (it.member(), it.host().and_then(|host| host.cluster_id));
        let is_sound = !self.budget.is_harmed(me);
        // Only of its own cluster does a member keep account.
        if up.cluster != ours || cluster != ours || up.life != it.life {
            return Ok(false);
        }
        let earlier = Age { boot: age.boot.saturating_sub(1), nonce: 1, ..age };
        let Some((met, home)) = it.accounts() else { return Ok(false) };
        let start = Start { boot: Boot(earlier.boot), nonce: earlier.nonce };
        let seen = Seen { start, term: Term(earlier.term) };
        let on_disk = home.boots().compare(up.from, seen);
        let noted = met.note(home.boots_mut(), (up.from, earlier), (ours, cluster), |_| true);
        match (noted, on_disk) {
            (Ok(Noted::RolledBack), Sighting::RolledBack { .. }) => Ok(true),
            (Ok(_), _) if is_sound => {
                let what = format!("{me} listens to a start of {} that is over", up.from);
                Err(Broken::new("no start is counted twice", what))
            }
            _ => Ok(false),
        }
    }
}
