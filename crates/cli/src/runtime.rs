//! The runtime that commands run on: one thread, since a client has little to do, and a demo must
//! start its servers on the thread that lives longest.

use std::future::Future;

use crate::exit::Exit;
use crate::failure::Failure;

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Unexpected, format!("cannot start the runtime: {error}"))
    })?;
    let result = runtime.block_on(future);
    // A thread that waits for standard input would hold up the end of the process for ever.
    runtime.shutdown_background();
    result
}
