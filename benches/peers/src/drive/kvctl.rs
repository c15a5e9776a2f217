//! Ours, through its client library as any program uses it.

use std::time::Duration;

use bytes::Bytes;
use kvstore::client::{Client, ClientOptions, Endpoint};
use kvstore::wire::response::ServerRole;
use load::Result;

use crate::system::System;

/// A client of its own, which has a connection of its own.
pub(crate) struct Kvctl(Client);

fn client(endpoints: Vec<Endpoint>) -> Result<Client> {
    let timeout = Duration::from_secs(10);
    Ok(Client::new(ClientOptions { endpoints, timeout, ..ClientOptions::default() })?)
}

fn name(key: u64) -> String {
    format!("bench/{key:010}")
}

impl System for Kvctl {
    async fn leader(endpoints: &[String]) -> Result<Option<usize>> {
        let client = client(endpoints.iter().map(|it| Endpoint::from(it.as_str())).collect())?;
        let status = client.cluster_status().await;
        let leader = status.find(ServerRole::Leader).map(|endpoint| endpoint.address.clone());
        Ok(leader.and_then(|leader| endpoints.iter().position(|endpoint| *endpoint == leader)))
    }

    async fn connect(endpoint: &str) -> Result<Kvctl> {
        let client = client(vec![Endpoint::from(endpoint)])?;
        // It connects with the first request.
        client.get(name(0)).await?;
        Ok(Kvctl(client))
    }

    async fn put(&self, key: u64, value: &[u8]) -> Result<()> {
        self.0.set(name(key), value).await?;
        Ok(())
    }

    async fn get(&self, key: u64) -> Result<Option<Bytes>> {
        Ok(self.0.get(name(key)).await?.found.map(|found| found.value))
    }
}
