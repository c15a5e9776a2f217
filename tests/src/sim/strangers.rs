//! Voices that nobody may listen to: servers of another cluster, and starts of a server that are
//! over. They must be turned away; that they are is checked here.

use kvstore::wire::handshake::Age;
use raft::ClusterId;
use raft::founding::Seat;
use raft::node::{Boot, Entries, Index, Message, Position, Term};
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
