//! Snapshots at this server: long work on them runs on helper threads, so that the event loop never
//! waits for a state to be written, read or checked.

use std::rc::Rc;
use std::time::{Duration, Instant};

use raft::node::MachineState;
use raft::replica::{Job, JobDone};
use raft::storage::FoundSnapshots;

use super::core::{Core, Phase, SharedCore};
use super::event::Event;
use crate::store::Store;

impl Core {
    /// Tells what the start found of snapshots, where that is worth a word.
    pub(super) fn tell_snapshots(&mut self, found: &FoundSnapshots, state: MachineState) {
        for damaged in &found.damaged {
            self.warn_of_start(format!("a snapshot is damaged: {damaged}"));
        }
        if state == MachineState::Lost {
            let text = "no snapshot that the log goes on from can be read: this server votes and \
                        keeps the log, but serves nothing until its leader has sent it a snapshot";
            self.tell(&Event::Warning { text: text.to_owned() });
        }
    }

    fn take_job(&mut self) -> Option<Job<Store>> {
        match &mut self.phase {
            Phase::Running(running) => running.driver.take_job(),
            _ => None,
        }
    }

    fn finish_job(&mut self, done: JobDone<Store>, took: Duration) {
        if let Phase::Running(running) = &mut self.phase {
            running.driver.finish_job(done, took);
        }
        self.wake();
    }
}

/// Has helper threads do the long work that there is.
pub(super) fn run_jobs(core: &SharedCore) {
    loop {
        let Some(job) = core.borrow_mut().take_job() else { return };
        let core = Rc::clone(core);
        tokio::task::spawn_local(async move {
            let timed = tokio::task::spawn_blocking(move || {
                let start = Instant::now();
                (job.run(), start.elapsed())
            });
            // One that panicked has told so; the server ends with it.
            if let Ok((done, took)) = timed.await {
                core.borrow_mut().finish_job(done, took);
            }
        });
    }
}
