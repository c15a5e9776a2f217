//! Reads the log on the disk again, slowly and for ever, so that what rots is found while the other
//! servers still have it. What is found is repaired by the replica; this only sets the pace.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Failures;
use super::core::SharedCore;

/// Between two segments. With segments of 64 MiB, a little more than 2 MB a second.
const PAUSE: Duration = Duration::from_secs(30);

/// Reads one full segment after the other, with pauses, on a thread of its own.
pub(super) async fn run(core: SharedCore, failures: Failures) {
    loop {
        sleep(PAUSE).await;
        let Some(scrub) = core.borrow_mut().scrub() else { continue };
        // Should the thread not be there, the next segment is read at its time.
        let Ok(scrubbed) = spawn_blocking(|| scrub.run()).await else { continue };
        let result = core.borrow_mut().on_scrubbed(scrubbed);
        if let Err(error) = result {
            failures.report(error);
            return;
        }
    }
}
