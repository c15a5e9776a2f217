//! What every system must be able to do to be compared.

use bytes::Bytes;
use clap::ValueEnum;
use load::Result;

/// A connection to one server of a system.
pub(crate) trait System: Sized + 'static {
    /// The place of the endpoint that leads, if somebody does.
    async fn leader(endpoints: &[String]) -> Result<Option<usize>>;

    /// Connects to one server.
    async fn connect(endpoint: &str) -> Result<Self>;

    /// Makes what keys lie in, where a system needs that.
    async fn found(&self) -> Result<()> {
        Ok(())
    }

    /// Gives a key its first value.
    async fn create(&self, key: u64, value: &[u8]) -> Result<()> {
        self.put(key, value).await
    }

    /// Gives a key a value.
    async fn put(&self, key: u64, value: &[u8]) -> Result<()>;

    /// Reads a key.
    async fn get(&self, key: u64) -> Result<Option<Bytes>>;
}

/// Which servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// The one that leads.
    Leader,
    /// All others, in turn.
    Followers,
    /// The one that was named first, whatever it is.
    First,
}

impl Target {
    /// The endpoints to connect to; none as long as nobody leads.
    pub(crate) async fn find<S: System>(self, endpoints: &[String]) -> Result<Vec<String>> {
        if self == Target::First {
            return Ok(endpoints.first().cloned().into_iter().collect());
        }
        let Some(leader) = S::leader(endpoints).await? else { return Ok(Vec::new()) };
        let chosen = endpoints.iter().enumerate().filter(|(at, _)| match self {
            Target::Followers => *at != leader,
            Target::Leader | Target::First => *at == leader,
        });
        Ok(chosen.map(|(_, endpoint)| endpoint.clone()).collect())
    }
}
