//! What a server keeps on its disk: who it is ([`Identity`]), what its cluster was founded with
//! ([`Home`]), its log ([`LogStore`]) and its snapshots ([`SnapshotStore`]).
//!
//! A data directory:
//!
//! ```text
//! LOCK        held while a server runs on it
//! identity    two sectors: name, incarnation, boot, how far founding has come
//! founding    the pairs that its cluster is founded with, once it agreed to them or was taken in
//! log/        the write-ahead log
//! boots       the latest start of each other server that was seen
//! suspect     only after a read of the log failed: segments that the next start reads in full
//! lost-history    only after a lossy repair: the server must not start with what is left
//! snapshots/  the state machine at some indexes, each a file of its own
//! ```
//!
//! After a recovery ([`Rescue`]) all but lock and identity lies in `recovered-N/`.
//!
//! [`Survey`] looks at all of it without touching anything.

mod boots;
mod compaction;
mod damaged;
mod entrance;
mod entry;
mod flusher;
mod hard_state;
mod home;
mod identity;
mod log_store;
mod lost_history;
mod recovery;
mod rescue;
mod room;
mod saved;
mod snapshot_file;
mod snapshot_store;
mod survey;
mod suspect;

pub use boots::{Boots, Sighting};
pub use damaged::ReadBack;
pub use entrance::{Entrance, Progress};
pub use entry::entry_kind;
pub use flusher::{Flushes, Waker};
pub use hard_state::decode_hard_state;
pub use home::{Home, HomeError, refuse_if_noted};
pub use identity::{Identity, IdentityError, Stage};
pub use log_store::{LogError, LogOptions, LogStore, Opened, Successors, TornTail};
pub use lost_history::{GiveUpError, give_up_history, lost_history, note_lost_history};
pub use recovery::{FoundSnapshots, Recovered};
pub use rescue::{Account, Rescue, RescueError, Wanted};
pub use saved::{FLAWS_MAX, Flaw, Saving, SnapshotFacts, SnapshotFile};
pub use snapshot_file::{SnapshotError, StateHasher, StopFlag};
pub use snapshot_store::{SnapshotOptions, SnapshotStore};
pub use survey::Survey;
pub use wal::{Disk, RealDisk};
