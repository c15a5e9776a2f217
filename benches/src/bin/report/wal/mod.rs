//! The section about the write-ahead log.

mod append;
mod read;

use benches::Result;

use crate::Session;

/// Measures everything about the log.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    append::synced(session)?;
    append::unsynced(session)?;
    read::measure(session)
}
