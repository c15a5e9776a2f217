//! The cluster as its members see it: every server is asked about itself, and together they tell
//! who leads.

use super::directory::ServerIndex;
use super::error::ServerCondition;
use super::options::Endpoint;
use super::survey::{self, PATIENCE};
use super::{Client, Inner};
use crate::store::Revision;
use crate::wire::response::{ServerRole, StatusReport};
use std::sync::Arc;

/// What every known server says of itself, at about the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The servers, in the order of their ids; those whose id is not known come first.
    pub servers: Vec<ServerStatus>,
}

/// A server, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Which one.
    pub endpoint: Endpoint,
    /// What it says of itself, or why it does not.
    pub report: Result<Box<StatusReport>, ServerCondition>,
}

impl Client {
    /// Asks all known servers about themselves at the same time, then those that these know of.
    /// Needs no leader.
    pub async fn cluster_status(&self) -> ClusterStatus {
        let inner = &self.inner;
        let mut servers = ask(inner, 0).await;
        for report in servers.iter().filter_map(|server| server.report.as_ref().ok()) {
            for member in &report.members {
                let (id, address) = (Some(member.id.clone()), member.address.clone());
                // A directory that is full asks nobody else.
                let _ = inner.directory.find_or_add(&Endpoint { id, address });
            }
        }
        servers.extend(ask(inner, servers.len()).await);
        servers.sort_by(|left, right| left.endpoint.id.cmp(&right.endpoint.id));
        ClusterStatus { servers }
    }
}

/// Asks all servers that are known from this place on.
async fn ask(inner: &Arc<Inner>, first: ServerIndex) -> Vec<ServerStatus> {
    let patience = PATIENCE.min(inner.options.timeout);
    let found = survey::status_from(inner, first, patience).await.into_iter();
    let server = |(endpoint, report): (Endpoint, Result<StatusReport, ServerCondition>)| {
        ServerStatus { endpoint, report: report.map(Box::new) }
    };
    found.map(server).collect()
}

impl ClusterStatus {
    /// What those that answered say.
    pub fn reports(&self) -> impl Iterator<Item = &StatusReport> {
        self.servers.iter().filter_map(|server| server.report.as_deref().ok())
    }

    /// The report of the leader: of those that say they lead, the one of the highest term. There
    /// is none if somebody has heard of a higher term, in which nobody leads yet.
    pub fn leader(&self) -> Option<&StatusReport> {
        let leaders = self.reports().filter(|report| report.role == ServerRole::Leader);
        let latest = leaders.max_by_key(|report| report.term)?;
        (latest.term == self.term()).then_some(latest)
    }

    /// The id of the leader, if there is one.
    pub fn leader_id(&self) -> Option<&str> {
        self.leader().map(|report| report.node.as_str())
    }

    /// A server that plays this part. Whoever says that it leads does so only in the latest term.
    pub fn find(&self, role: ServerRole) -> Option<&Endpoint> {
        let node = match role {
            ServerRole::Leader => self.leader_id()?,
            other => self.reports().find(|report| report.role == other)?.node.as_str(),
        };
        let is_it =
            |server: &&ServerStatus| server.report.as_ref().is_ok_and(|report| report.node == node);
        self.servers.iter().find(is_it).map(|server| &server.endpoint)
    }

    /// The highest term that anybody has heard of; 0 if nobody answered.
    pub fn term(&self) -> u64 {
        self.reports().map(|report| report.term).max().unwrap_or(0)
    }

    /// The latest revision that anybody has; 0 if nobody answered.
    pub fn revision(&self) -> Revision {
        self.reports().map(|report| report.revision).max().unwrap_or(Revision(0))
    }

    /// The name of the cluster, if anybody answered.
    pub fn cluster(&self) -> Option<&str> {
        self.reports().next().map(|report| report.cluster.as_str())
    }
}
