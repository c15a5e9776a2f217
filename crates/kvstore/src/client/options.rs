//! How a client is set up, and what can be chosen for a single call.

use super::session::RequestId;
use crate::config::Config;
use std::time::Duration;

/// How a client finds and treats its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Servers to begin with; one that can be reached is enough, the others are learned of.
    pub endpoints: Vec<Endpoint>,
    /// The name of the cluster. A server of another one is not talked to.
    pub cluster: Option<String>,
    /// How long a call may take altogether.
    pub timeout: Duration,
    /// Whether calls are led to the leader.
    pub redirect: Redirect,
}

/// Where a server is, and which one it is if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The server's id. One that answers with another id is not talked to.
    pub id: Option<String>,
    /// Where it listens, as `host:port`.
    pub address: String,
}

/// What to do when the server that was asked does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Ask the one that does.
    Follow,
    /// Fail. Only the first endpoint is ever asked, and reads too are served only if it leads.
    Never,
}

/// What can be chosen for a single write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The name of an earlier attempt at the same write, whose outcome is unknown.
    pub request: Option<RequestId>,
    /// How long this write may take, if not as long as any.
    pub timeout: Option<Duration>,
}

impl Default for ClientOptions {
    /// One server on 127.0.0.1:10000, five seconds for each call.
    fn default() -> ClientOptions {
        ClientOptions {
            endpoints: vec![Endpoint::from("127.0.0.1:10000")],
            cluster: None,
            timeout: Duration::from_secs(5),
            redirect: Redirect::Follow,
        }
    }
}

impl From<&str> for Endpoint {
    fn from(address: &str) -> Endpoint {
        Endpoint { id: None, address: address.to_owned() }
    }
}

impl From<&Config> for ClientOptions {
    /// All servers of a configuration, and the name of their cluster.
    fn from(config: &Config) -> ClientOptions {
        let servers = config.servers.iter();
        let endpoints = servers.map(|server| Endpoint {
            id: Some(server.id.clone()),
            address: server.address.clone(),
        });
        ClientOptions {
            endpoints: endpoints.collect(),
            cluster: Some(config.cluster.clone()),
            ..ClientOptions::default()
        }
    }
}
