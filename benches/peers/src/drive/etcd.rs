//! etcd, by gRPC. Reads are linearizable, as they are unless one asks for less.

use bytes::Bytes;
use load::Result;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::system::System;

/// A connection of its own.
pub(crate) struct Etcd(Grpc<Channel>);

const PUT: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Put");
const RANGE: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.KV/Range");
const STATUS: PathAndQuery = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    found: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

impl Etcd {
    async fn ask<Q, A>(&self, path: PathAndQuery, request: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(Request::new(request), path, codec).await?.into_inner())
    }
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("bench/{key:010}"))
}

impl System for Etcd {
    async fn leader(endpoints: &[String]) -> Result<Option<usize>> {
        for (at, endpoint) in endpoints.iter().enumerate() {
            let status = Etcd::connect(endpoint).await?.ask(STATUS, StatusRequest {}).await;
            let StatusResponse { header, leader } = status?;
            if leader != 0 && header.is_some_and(|header| header.member_id == leader) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    async fn connect(endpoint: &str) -> Result<Etcd> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?.tcp_nodelay(true);
        Ok(Etcd(Grpc::new(endpoint.connect().await?)))
    }

    async fn put(&self, key: u64, value: &[u8]) -> Result<()> {
        let value = Bytes::copy_from_slice(value);
        let PutResponse {} = self.ask(PUT, PutRequest { key: name(key), value }).await?;
        Ok(())
    }

    async fn get(&self, key: u64) -> Result<Option<Bytes>> {
        let answer: RangeResponse = self.ask(RANGE, RangeRequest { key: name(key) }).await?;
        Ok(answer.found.into_iter().next().map(|found| found.value))
    }
}
