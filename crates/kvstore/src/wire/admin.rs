//! What operators ask of a cluster: to change who belongs to it, and to hand leadership over. Only
//! the leader can do either; the answers and outcomes are those of writes, but no session makes a
//! repetition safe, so whoever hears nothing looks at the members before asking again.

use super::frame::{Kind, Message};
use super::handshake::{check_address, check_id};
use crate::codec::{self, DecodeError};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Asks for a change of the membership. It is answered once the change is committed; a new server
/// that is meant to vote goes on catching up after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
    /// What is to change.
    pub change: MemberChange,
}

/// A change of the membership. A new server is named by its id: which of its lives is meant, the
/// leader knows from the server itself, which must be running and waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// A new server receives the log, and votes as soon as it has caught up.
    AddVoter {
        /// The server.
        id: String,
        /// Where the others reach it; `None` if that is what it says itself.
        address: Option<String>,
    },
    /// A new server receives the log and does not vote until it is promoted.
    AddLearner {
        /// The server.
        id: String,
        /// Where the others reach it; `None` if that is what it says itself.
        address: Option<String>,
    },
    /// A learner votes as soon as it has caught up.
    Promote {
        /// The server.
        id: String,
    },
    /// A server goes.
    Remove {
        /// The server.
        id: String,
    },
    /// A new server takes the place of an old one, in one change.
    Replace {
        /// Who goes.
        old: String,
        /// Who comes; the same id if the old server lost its disk.
        new: String,
        /// Where the others reach it; `None` if that is what it says itself.
        address: Option<String>,
    },
}

/// Asks for leadership to be handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
    /// To whom; `None` for whichever voter holds most of the log.
    pub to: Option<String>,
}

/// The change is committed, or can no longer be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The index up to which the leader knew the log to be committed when it said so.
    pub commit: u64,
}

/// Leadership was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// To whom.
    pub to: String,
}

impl Change {
    /// The texts in it: ids, and an address if there is one.
    fn texts(&self) -> ([&str; 2], Option<&str>) {
        match &self.change {
            MemberChange::AddVoter { id, address } | MemberChange::AddLearner { id, address } => {
                ([id, ""], address.as_deref())
            }
            MemberChange::Promote { id } | MemberChange::Remove { id } => ([id, ""], None),
            MemberChange::Replace { old, new, address } => ([old, new], address.as_deref()),
        }
    }

    /// The bytes of all texts in it.
    pub fn bytes(&self) -> usize {
        let (ids, address) = self.texts();
        ids.iter().map(|id| id.len()).sum::<usize>() + address.map_or(0, str::len)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let (ids, address) = self.texts();
        ids.iter().try_for_each(|id| check_id(id))?;
        check_address(address.unwrap_or_default())
    }
}

impl Transfer {
    fn check(&self) -> Result<(), DecodeError> {
        check_id(self.to.as_deref().unwrap_or_default())
    }
}

/// Messages that are encoded as they are.
macro_rules! plain {
    ($($message:ident $kind:ident $check:expr,)*) => {$(
        impl Message for $message {
            const KIND: Kind = Kind::$kind;

            fn encode_body(&self, out: &mut BytesMut) {
                codec::append(out, self);
            }

            fn decode_body(body: &Bytes) -> Result<$message, DecodeError> {
                let message: $message = codec::exact(stringify!($message), body)?;
                let check: fn(&$message) -> Result<(), DecodeError> = $check;
                check(&message).map(|()| message)
            }
        }
    )*};
}

plain! {
    Change CHANGE Change::check,
    Transfer TRANSFER Transfer::check,
    Changed CHANGED |_| Ok(()),
    Transferred TRANSFERRED |_| Ok(()),
}
