//! What operators do to a cluster: they change who belongs to it, and who leads.

use super::call::{Ask, Call};
use super::error::ClientError;
use super::{Client, survey};
use crate::wire::Response;
use crate::wire::admin::{Change, Changed, MemberChange, Transfer, Transferred};
use crate::wire::request::Request;

impl Client {
    /// Changes who belongs to the cluster. While another change is under way, or a server that is
    /// to be taken in is not there yet, this waits. It returns once the change is committed; a new
    /// server that is meant to vote does so later, when it has caught up.
    ///
    /// # Errors
    /// [`ClientError::InDoubt`] if the leader did not answer: the members tell what became of it.
    pub async fn change_members(&self, change: MemberChange) -> Result<Changed, ClientError> {
        let request = Request::Change(Change { timeout_ms: 0, change });
        match self.administer(request).await? {
            Response::Changed(changed) => Ok(changed),
            other => Err(ClientError::Invalid(survey::unexpected(other).to_string())),
        }
    }

    /// Hands leadership to a voter, or to whichever holds most of the log. It returns once a later
    /// term has begun.
    ///
    /// # Errors
    /// It was refused, the new leader did not take over in time, or nobody answered.
    pub async fn transfer_leadership(&self, to: Option<&str>) -> Result<Transferred, ClientError> {
        let to = to.map(str::to_owned);
        let request = Request::Transfer(Transfer { timeout_ms: 0, to });
        match self.administer(request).await? {
            Response::Transferred(transferred) => Ok(transferred),
            other => Err(ClientError::Invalid(survey::unexpected(other).to_string())),
        }
    }

    async fn administer(&self, request: Request) -> Result<Response, ClientError> {
        Call::new(&self.inner, Ask::Admin(request), self.inner.options.timeout).run().await
    }
}
