//! What lies between two turns: the server waits until something comes or time has passed. After a
//! stall, be it that the process was stopped or that the disk has kept it, both hold at once, and
//! then the order decides: heartbeats that wait in the sockets are seen before the election timeout
//! that passed meanwhile, or every stall would end in an election.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep_until};

/// A turn that begins so late was kept from it.
const LATE: Duration = Duration::from_millis(20);

/// How often the sockets are looked at after a stall. Once is enough for what a task takes at one
/// go; a peer may have sent more than that.
const LOOKS: u32 = 4;

/// Waits for the next turn: until `wake` tells of something, or until `deadline`. If that is long
/// over, whatever woke us, all that the sockets hold was read when this returns.
pub(super) async fn until_next_turn(wake: &Notify, deadline: Instant) {
    tokio::select! {
        () = wake.notified() => {}
        () = sleep_until(deadline) => {}
    }
    if deadline.elapsed() > LATE {
        for _ in 0..LOOKS {
            read_sockets().await;
        }
    }
}

/// Has the sockets polled and every task run that has something to read. A task that yields goes on
/// when they were polled, but not behind the tasks that this woke: how many of them run before it
/// is the scheduler's affair. One that is spawned then runs behind all of them.
async fn read_sockets() {
    yield_now().await;
    // It cannot fail, having nothing to do.
    let _ = spawn_local(async {}).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use tokio::io::AsyncReadExt;
    use tokio::task::LocalSet;

    const SOCKETS: u64 = 200;
    const BYTES_EACH: u64 = 100;

    /// Readers of sockets, as the server has them; what they read, in bytes.
    async fn listen() -> (Vec<UnixStream>, Rc<Cell<u64>>) {
        let read = Rc::new(Cell::new(0));
        let (waiting, mut writers) = (Rc::new(Cell::new(0)), Vec::new());
        for _ in 0..SOCKETS {
            let (writer, reader) = UnixStream::pair().unwrap();
            reader.set_nonblocking(true).unwrap();
            let mut reader = tokio::net::UnixStream::from_std(reader).unwrap();
            writers.push(writer);
            let (read, waiting) = (Rc::clone(&read), Rc::clone(&waiting));
            spawn_local(async move {
                waiting.set(waiting.get() + 1);
                // In portions, so that a socket is not empty when its reader has read once.
                let mut buffer = [0; BYTES_EACH as usize / 3];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    read.set(read.get() + count as u64);
                }
            });
        }
        while waiting.get() < SOCKETS {
            yield_now().await;
        }
        (writers, read)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn after_a_stall_every_ready_socket_is_read_before_the_next_turn() {
        for wakes_early in [false, true] {
            run(async {
                let (mut writers, read) = listen().await;
                let deadline = Instant::now().checked_sub(2 * LATE).unwrap();
                for writer in &mut writers {
                    writer.write_all(&[1; BYTES_EACH as usize]).unwrap();
                }
                let wake = Notify::new();
                if wakes_early {
                    wake.notify_one();
                }
                until_next_turn(&wake, deadline).await;
                assert_eq!(read.get(), SOCKETS * BYTES_EACH);
            });
        }
    }

    #[test]
    fn a_turn_that_something_came_for_in_time_begins_at_once() {
        run(async {
            let wake = Notify::new();
            wake.notify_one();
            let mut waits = std::pin::pin!(until_next_turn(&wake, Instant::now() + LATE * 1000));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(waits.as_mut().poll(context).is_ready())
            });
            assert!(polled.await);
        });
    }
}
