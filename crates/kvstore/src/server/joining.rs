//! How a server that no cluster lists waits to be taken into one.

use std::fmt;

use raft::founding::{Door, Place, Seat};

/// What somebody must do so that a server can join.
pub(super) struct Invitation<'a>(pub(super) &'a Door);

impl Invitation<'_> {
    /// What the cluster knows of the server, in a word for programs.
    pub(super) fn place(&self) -> &'static str {
        match self.0.place {
            Place::NotListed => "not-listed",
            Place::OtherDisk => "other-disk",
            Place::Listed => "listed",
        }
    }
}

impl fmt::Display for Invitation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Door { name, me: Seat { id, address }, place, .. } = self.0;
        match place {
            Place::NotListed => write!(
                f,
                "cluster {name:?} does not list {id}; to take it in: kvctl member add {id} \
                 {address}"
            ),
            Place::OtherDisk => write!(
                f,
                "cluster {name:?} knows {id} by another disk; if that one is lost: kvctl member \
                 replace {id}"
            ),
            Place::Listed => write!(f, "cluster {name:?} lists {id}; its leader will send the log"),
        }
    }
}
