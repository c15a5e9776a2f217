//! The section about the protocol.

mod node;
mod step;

use benches::Result;

use crate::Session;

/// Measures everything about the protocol.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    node::measure(session)?;
    step::measure(session)
}
