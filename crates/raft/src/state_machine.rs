//! What Raft replicates: anything that turns a sequence of commands into states, the same on every
//! server.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::node::Index;

/// A deterministic state machine. Given the same commands at the same indexes it must end in the
/// same state and give the same replies, on every server and in every run: it may look at nothing
/// but its own state and the command.
///
/// # Example
///
/// The last command, as a state machine.
///
/// ```
/// use std::io::{self, Read, Write};
///
/// use bytes::Bytes;
/// use raft::node::Index;
/// use raft::{StateMachine, Undecodable};
///
/// #[derive(Clone, Debug, Default, PartialEq)]
/// struct Register {
///     value: Bytes,
///     applied: Index,
/// }
///
/// impl StateMachine for Register {
///     /// The value before.
///     type Reply = Bytes;
///     // Cloning shares the bytes, so this takes no time however many there are.
///     type Image = Register;
///
///     fn apply(&mut self, index: Index, command: &Bytes) -> Result<Bytes, Undecodable> {
///         self.applied = index;
///         Ok(std::mem::replace(&mut self.value, command.clone()))
///     }
///
///     fn advance(&mut self, index: Index) {
///         self.applied = index;
///     }
///
///     fn applied(&self) -> Index {
///         self.applied
///     }
///
///     fn image(&self) -> Register {
///         self.clone()
///     }
///
///     fn write(image: Register, out: &mut dyn Write) -> io::Result<()> {
///         out.write_all(&image.applied.0.to_be_bytes())?;
///         out.write_all(&image.value)
///     }
///
///     fn restore(input: &mut dyn Read) -> io::Result<Register> {
///         let (mut applied, mut value) = ([0; 8], Vec::new());
///         input.read_exact(&mut applied)?;
///         input.read_to_end(&mut value)?;
///         let applied = Index(u64::from_be_bytes(applied));
///         Ok(Register { value: value.into(), applied })
///     }
/// }
///
/// let mut register = Register::default();
/// register.apply(Index(1), &"old".into())?;
/// assert_eq!(register.apply(Index(2), &"new".into())?, "old");
///
/// let mut bytes = Vec::new();
/// Register::write(register.image(), &mut bytes)?;
/// assert_eq!(Register::restore(&mut bytes.as_slice())?, register);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateMachine: Sized + Send + 'static {
    /// What applying a command answers to whoever proposed it.
    type Reply;

    /// The state at one moment, which later commands do not change. Long work is done on it, on
    /// another thread.
    type Image: Send + 'static;

    /// Applies a committed command. A command that the machine does not like is a reply; an error
    /// says that this program cannot know what the command means.
    ///
    /// # Errors
    /// The command cannot be decoded. The server stops: skipping it would make its state differ
    /// from the others'.
    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Self::Reply, Undecodable>;

    /// The entry at `index` is committed and holds no command. The machine keeps its own count of
    /// what it has applied, so that state and count can never part.
    fn advance(&mut self, index: Index);

    /// The last entry that was applied, or noted by [`advance`](Self::advance). It is part of the
    /// state.
    fn applied(&self) -> Index;

    /// The state as it is now. It should take no time in proportion to its size: commands wait.
    fn image(&self) -> Self::Image;

    /// Writes a state, all of it, as a stream. Equal states must give equal bytes.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(image: Self::Image, out: &mut dyn Write) -> io::Result<()>;

    /// Reads back what [`write`](Self::write) wrote, up to its end.
    ///
    /// # Errors
    /// Those of `input`, or what is read is no state; [`io::ErrorKind::InvalidData`] then.
    fn restore(input: &mut dyn Read) -> io::Result<Self>;
}

/// A committed command that this program cannot decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the committed entry {index} cannot be decoded ({reason}); another version of this program \
     proposed it, so run that version"
)]
pub struct Undecodable {
    /// The entry.
    pub index: Index,
    /// What the decoder says.
    pub reason: String,
}
