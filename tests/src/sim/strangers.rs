//! Voices that nobody may listen to: servers of another cluster, and starts of a server that are
//! over. Production code must turn them away; that it does is checked here.

use kvstore::server::meeting::Host;
use kvstore::wire::handshake::RefusedReason;
use raft::ClusterId;
use raft::node::{Boot, Entries, Index, Message, Position, Term};
use raft::storage::Sighting;

use crate::check::Broken;

use super::server::CLUSTER;
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
        let (me, address) = (self.servers[other].member(), super::server::address(other));
        let Some(host) = self.servers[server].host().filter(|_| server != other) else {
            return Ok(false);
        };
        let stranger = Host {
            me,
            boot: Boot(1_000_000),
            cluster: CLUSTER,
            cluster_id: Some(OTHER_CLUSTER),
            address: &address,
            timing: host.timing,
        };
        let verdict = host.check_peer(&stranger.hello_to(Some(host.me.id)));
        let is_member = host.cluster_id.is_some();
        let is_refused = verdict.is_err_and(|it| it.reason == RefusedReason::Cluster);
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
        let Some((boot, cluster)) = speaker.map(|host| (host.boot, host.cluster_id)) else {
            return Ok(false);
        };
        let earlier = Boot(boot.0.saturating_sub(1));
        let it = &mut self.servers[server];
        let ours = it.host().and_then(|host| host.cluster_id);
        let is_sound = !self.budget.is_harmed(it.member());
        // Only of its own cluster does a member keep account.
        if up.cluster != ours || cluster != ours || up.life != it.life {
            return Ok(false);
        }
        let Some(home) = it.home_mut() else { return Ok(false) };
        let sighting = kvstore::server::meeting::sight(
            home.boots_mut(),
            (ours, cluster),
            (None, &[]),
            (up.from, earlier),
        );
        match sighting {
            Ok(Sighting::RolledBack { .. }) => Ok(true),
            Ok(Sighting::Current) if is_sound => {
                let what =
                    format!("{} listens to a start of {} that is over", it.member(), up.from);
                Err(Broken::new("no start is counted twice", what))
            }
            _ => Ok(false),
        }
    }
}
