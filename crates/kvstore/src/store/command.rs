//! Commands: what clients want changed, as it stands in the log. Everything about a command is
//! checked before it is proposed, so that applying it cannot fail.
//!
//! ```text
//! u8 version (1) | Option<SessionTag> | Operation          the last two in postcard
//! ```
//! The operation comes last, so that its bytes can be digested where they lie: a retry carries
//! the same operation behind another tag.

use crate::codec::{self, DecodeError};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// The version of the encoding that this build writes, and the only one that it reads.
pub const COMMAND_VERSION: u8 = 1;
/// A command in words is cut to about this many bytes.
const DESCRIPTION_BYTES_MAX: usize = 200;

/// One command, borrowed from the bytes that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Which request of which session it is; without one, a retry would be a second command.
    pub session: Option<SessionTag>,
    /// What is to be done.
    pub operation: Operation<'a>,
}

/// The name of a session. It needs no registration: a client makes it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// An index that was committed before the session sent anything, as a server told it.
    pub start: u64,
    /// A random number, so that no two sessions are the same.
    pub nonce: u64,
}

/// Which request of which session a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTag {
    /// The session.
    pub session: SessionId,
    /// The request's number in its session. A retry has the same.
    pub sequence: u64,
    /// The client has the answers to all sequences below this one, and will not ask again.
    pub lowest_unanswered: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation<'a> {
    /// Gives a key a value.
    Set {
        /// The key.
        #[serde(borrow, with = "codec::raw")]
        key: &'a [u8],
        /// The value.
        #[serde(borrow, with = "codec::raw")]
        value: &'a [u8],
        /// What must hold of the key.
        #[serde(borrow)]
        condition: Condition<'a>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        #[serde(borrow, with = "codec::raw")]
        key: &'a [u8],
        /// What must hold of the key.
        #[serde(borrow)]
        condition: Condition<'a>,
    },
    /// Removes all keys that begin with a prefix; all keys there are, if it is empty.
    DeletePrefix {
        /// The prefix.
        #[serde(borrow, with = "codec::raw")]
        prefix: &'a [u8],
    },
}

/// What must hold of a key for an operation on it to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition<'a> {
    /// Nothing.
    None,
    /// There is no such key.
    Absent,
    /// The key exists, and was last written at this revision.
    ModRevision(u64),
    /// The key exists and has this value.
    Value(#[serde(borrow, with = "codec::raw")] &'a [u8]),
}

/// Bytes that are not a command. In the log of a server this means that the log was written by a
/// newer version, or is damaged; the server must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// There is not even a version.
    #[error("the command is empty")]
    Empty,
    /// Another encoding than this build knows.
    #[error("the command has version {version}; this build knows version {COMMAND_VERSION}")]
    Version {
        /// The version of the command.
        version: u8,
    },
    /// The version is right, the rest is not.
    #[error(transparent)]
    Body(#[from] DecodeError),
}

/// The longest key that any server lets in; its configuration may only be stricter.
pub const KEY_BYTES_MAX: u32 = 4 * 1024;

/// How large the parts of a command may be. A server enforces these at its door, so servers may
/// differ in them without ever disagreeing about the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// The longest key.
    pub key_bytes_max: u32,
    /// The longest value.
    pub value_bytes_max: u32,
    /// The longest command, with everything in it.
    pub command_bytes_max: u32,
}

impl Default for CommandLimits {
    fn default() -> CommandLimits {
        CommandLimits {
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: 1024 * 1024,
            command_bytes_max: 2 * 1024 * 1024,
        }
    }
}

/// Why a command must not be proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is none.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A key without a byte.
    #[error("the key is empty; a key has at least one byte")]
    KeyEmpty,
    /// A part of it is too long.
    #[error("the {part} is too large: {bytes} bytes, limit {bytes_max}")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        bytes_max: u32,
    },
    /// The client says that it has the answer to the very request that it makes.
    #[error("sequence {sequence} is below {lowest_unanswered}, the lowest still unanswered")]
    BelowOwnMark {
        /// The sequence of the command.
        sequence: u64,
        /// The mark in the same command.
        lowest_unanswered: u64,
    },
}

/// A command and the bytes that its operation was decoded from.
pub(super) struct Decoded<'a> {
    pub(super) command: Command<'a>,
    pub(super) operation_bytes: &'a [u8],
}

impl<'a> Command<'a> {
    /// Appends the command to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(COMMAND_VERSION);
        codec::append(out, &self.session);
        codec::append(out, &self.operation);
    }

    /// The command as bytes of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.operation.payload_bytes() + 64);
        self.encode(&mut out);
        out.freeze()
    }

    /// Reads a command; its byte strings lie in `input`.
    pub fn decode(input: &'a [u8]) -> Result<Command<'a>, Undecodable> {
        decode(input).map(|decoded| decoded.command)
    }
}

pub(super) fn decode(input: &[u8]) -> Result<Decoded<'_>, Undecodable> {
    let (version, body) = input.split_first().ok_or(Undecodable::Empty)?;
    if *version != COMMAND_VERSION {
        return Err(Undecodable::Version { version: *version });
    }
    let (session, operation_bytes) = codec::take("a command", body)?;
    let operation = codec::exact("a command", operation_bytes)?;
    Ok(Decoded { command: Command { session, operation }, operation_bytes })
}

/// Checks a command whole, before it is proposed. What passes can be applied.
pub fn validate(input: &[u8], limits: &CommandLimits) -> Result<(), Invalid> {
    let check = |part, bytes: &[u8], bytes_max: u32| match bytes.len() as u64 {
        bytes if bytes > u64::from(bytes_max) => Err(Invalid::TooLarge { part, bytes, bytes_max }),
        _ => Ok(()),
    };
    let check_key = |key: &[u8]| match key.is_empty() {
        true => Err(Invalid::KeyEmpty),
        false => check("key", key, limits.key_bytes_max),
    };
    let check_condition = |condition| match condition {
        Condition::Value(value) => check("value to compare with", value, limits.value_bytes_max),
        Condition::None | Condition::Absent | Condition::ModRevision(_) => Ok(()),
    };

    let command = Command::decode(input)?;
    match command.operation {
        Operation::Set { key, value, condition } => {
            check_key(key)?;
            check("value", value, limits.value_bytes_max)?;
            check_condition(condition)?;
        }
        Operation::Delete { key, condition } => {
            check_key(key)?;
            check_condition(condition)?;
        }
        Operation::DeletePrefix { prefix } => check("prefix", prefix, limits.key_bytes_max)?,
    }
    check("request", input, limits.command_bytes_max)?;
    match command.session {
        Some(SessionTag { sequence, lowest_unanswered, .. }) if sequence < lowest_unanswered => {
            Err(Invalid::BelowOwnMark { sequence, lowest_unanswered })
        }
        _ => Ok(()),
    }
}

impl Operation<'_> {
    /// The bytes of keys and values in it.
    fn payload_bytes(&self) -> usize {
        let of_condition = |condition: &Condition<'_>| match condition {
            Condition::Value(value) => value.len(),
            Condition::None | Condition::Absent | Condition::ModRevision(_) => 0,
        };
        match self {
            Operation::Set { key, value, condition } => {
                key.len() + value.len() + of_condition(condition)
            }
            Operation::Delete { key, condition } => key.len() + of_condition(condition),
            Operation::DeletePrefix { prefix } => prefix.len(),
        }
    }
}

/// A command in the words of the shell, as a log shows it: `set ana 4`.
pub fn describe(input: &[u8]) -> String {
    match Command::decode(input) {
        Ok(command) => command.operation.to_string(),
        Err(error) => format!("undecodable: {error}"),
    }
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Operation::Set { key, value, condition } => {
                write!(formatter, "set {} {}{condition}", Words(key), Words(value))
            }
            Operation::Delete { key, condition } => {
                write!(formatter, "del {}{condition}", Words(key))
            }
            Operation::DeletePrefix { prefix } => {
                write!(formatter, "del --prefix {}", Words(prefix))
            }
        }
    }
}

impl fmt::Display for Condition<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Condition::None => Ok(()),
            Condition::Absent => formatter.write_str(" --if-absent"),
            Condition::ModRevision(revision) => write!(formatter, " --if-rev {revision}"),
            Condition::Value(value) => write!(formatter, " --if-value {}", Words(value)),
        }
    }
}

/// Bytes as a human reads them on one line: text as it is, anything else escaped, long ones cut.
struct Words<'a>(&'a [u8]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..DESCRIPTION_BYTES_MAX).unwrap_or(self.0);
        for chunk in shown.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character.is_control() {
                    true => write!(formatter, "{}", character.escape_default())?,
                    false => formatter.write_char(character)?,
                }
            }
            write!(formatter, "{}", chunk.invalid().escape_ascii())?;
        }
        match self.0.len() - shown.len() {
            0 => Ok(()),
            left => write!(formatter, "... ({left} more bytes)"),
        }
    }
}
