//! The way of one server from an empty directory into a cluster: what [`Founding`] says is to be
//! done, made durable in its [`Home`], in the order in which the server does it.

use raft::ClusterId;
use raft::founding::{Charter, Founding, Standing, Step};
use raft::node::{Member, Message};
use raft::storage::{Home, HomeError, LogOptions, Stage};

/// A server that belongs to no cluster yet, and its directory.
#[derive(Debug)]
pub(super) struct Entrance {
    founding: Founding,
    home: Home,
}

/// How far a server has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has durably agreed, and should say so to all others.
    Agreed,
    /// Its log has its first entry.
    Founded(Charter),
    /// Nothing can be done before others say more, or a person helps.
    Waits(Step),
    /// It belongs to a cluster, and its directory can be recovered from.
    Entered,
}

impl Entrance {
    /// Of a server that `founding` was made for, with what its directory says.
    pub(super) fn new(founding: Founding, home: Home) -> Self {
        Self { founding, home }
    }

    /// Takes the next step; to be called again until it waits or has entered.
    pub(super) fn advance(&mut self, options: &LogOptions) -> Result<Progress, HomeError> {
        match self.home.identity().stage {
            Stage::Founded { .. } => return Ok(Progress::Entered),
            // A crash interrupted the making of its log.
            Stage::Admitted(_) => {
                if let Some(charter) = self.home.charter().cloned() {
                    self.home.join(charter, options)?;
                }
                return Ok(Progress::Entered);
            }
            Stage::Drawn | Stage::Agreed(_) => {}
        }
        match self.founding.step() {
            Step::Agree(charter) => {
                self.home.agree(charter.clone())?;
                self.founding.on_agreed(charter);
                Ok(Progress::Agreed)
            }
            Step::Found(charter) => {
                self.home.found(charter.clone(), options)?;
                Ok(Progress::Founded(charter))
            }
            step => Ok(Progress::Waits(step)),
        }
    }

    /// Another server said this of itself.
    pub(super) fn hear(&mut self, from: Member, standing: Standing) {
        self.founding.hear(from, standing);
    }

    /// A message of Raft came, addressed to this very server, from one of this cluster. A part of a
    /// log makes it a member: the sender's configuration lists it. Returns the charter of the
    /// cluster that it belongs to from now on, if it does.
    pub(super) fn admit(
        &mut self,
        cluster: Option<ClusterId>,
        message: &Message,
        options: &LogOptions,
    ) -> Result<Option<Charter>, HomeError> {
        let admits = matches!(message, Message::Append { .. } | Message::SnapshotOffer { .. });
        let cluster = cluster.filter(|_| admits);
        let charter = cluster.and_then(|cluster| self.founding.admitted_to(cluster));
        let Some(charter) = charter else { return Ok(None) };
        self.home.join(charter.clone(), options)?;
        Ok(Some(charter))
    }

    /// What this server says of itself.
    pub(super) fn standing(&self) -> Standing {
        self.founding.standing()
    }

    /// What is to be done next.
    pub(super) fn step(&self) -> Step {
        self.founding.step()
    }

    /// Its directory.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Its directory, to note starts of others.
    pub(super) fn home_mut(&mut self) -> &mut Home {
        &mut self.home
    }

    /// Its directory, of a server that has entered.
    pub(super) fn into_home(self) -> Home {
        self.home
    }
}
