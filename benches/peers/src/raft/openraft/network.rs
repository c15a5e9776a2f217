//! The network of openraft's nodes: calls.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};

use super::Node;
use super::store::Types;

/// Knows every node.
#[derive(Clone, Default)]
pub(super) struct Router(Arc<RwLock<BTreeMap<u64, Node>>>);

impl Router {
    pub(super) fn add(&self, id: u64, node: Node) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, node);
    }
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _: &()) -> Way {
        Way { router: self.clone(), target }
    }
}

/// The way to one node.
pub(super) struct Way {
    router: Router,
    target: u64,
}

impl Way {
    fn node(&self) -> Result<Node, Unreachable<Types>> {
        let nodes = self.router.0.read().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.get(&self.target).cloned();
        node.ok_or_else(|| Unreachable::from_string("it is not there yet"))
    }
}

fn failed(error: impl std::fmt::Display) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(error))
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.node()?.append_entries(rpc).await.map_err(failed)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let answers = self.node()?.stream_append(input).map(|answer| answer.map_err(failed));
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.node()?.vote(rpc).await.map_err(failed)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let answer = self.node()?.install_full_snapshot(vote, snapshot).await;
        answer.map_err(|error| Unreachable::from_string(error).into())
    }
}
