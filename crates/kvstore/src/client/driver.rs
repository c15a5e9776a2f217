//! Moves the bytes of a connection. It is one hand-written future, because its rhythm is the point:
//! read what has come, wake those who waited, and by the time it runs again all their new requests
//! stand in one buffer.

use super::connection::{ANSWER_BYTES_MAX, Connection};
use crate::wire::frame::{self, Frame};
use crate::wire::request;
use bytes::{Buf, BytesMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;
/// A server that owes answers is asked for a sign of life after so long a silence.
const SILENCE: Duration = Duration::from_millis(500);
/// After so many silences in a row the connection is given up.
const SILENCES_MAX: u32 = 3;
/// The id of the requests that ask for a sign of life. Nobody waits for their answers.
const SIGN_OF_LIFE: u64 = 0;

/// The task of one connection.
///
/// It gives up a server that is silent although it owes answers: one whose machine is gone or
/// whose process was stopped would otherwise hold every request until its deadline. Any frame
/// counts as a sign of life, so a server may take its time for each single answer.
#[derive(Debug)]
pub(super) struct Driver {
    connection: Arc<Connection>,
    stream: TcpStream,
    input: BytesMut,
    /// Being written; what the callers add meanwhile goes to the outbox.
    writing: BytesMut,
    /// How many bytes the operating system has taken.
    written: u64,
    /// Answers that were read together and are handed out together.
    answers: Vec<Frame>,
    silence: Silence,
}

/// How long the server has been silent while answers were owed.
#[derive(Debug)]
struct Silence {
    timer: Pin<Box<Sleep>>,
    /// The timer runs only while an answer is owed.
    running: Running,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Yes,
    No,
}

impl Driver {
    pub(super) fn new(connection: Arc<Connection>, stream: TcpStream, input: BytesMut) -> Driver {
        let silence = Silence {
            timer: Box::pin(tokio::time::sleep(SILENCE)),
            running: Running::No,
            in_a_row: 0,
        };
        let (writing, answers) = (BytesMut::new(), Vec::new());
        Driver { connection, stream, input, writing, written: 0, answers, silence }
    }

    /// Makes all the progress that can be made now. Returns why the connection is at its end.
    fn run(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        loop {
            self.take_requests(context)?;
            let wrote = self.write(context)?;
            let heard = self.read(context)?;
            self.hand_out_answers();
            self.watch_silence(context, heard)?;
            if wrote == Progress::None && heard == Progress::None {
                return Ok(());
            }
        }
    }

    /// Takes what callers have queued, and leaves a waker for when they queue more.
    fn take_requests(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        let mut outbox = self.connection.outbox();
        if let Some(why) = &outbox.closed {
            return Err(why.to_string());
        }
        let known = outbox.driver.as_ref().is_some_and(|driver| driver.will_wake(context.waker()));
        if !known {
            outbox.driver = Some(context.waker().clone());
        }
        if !self.writing.is_empty() {
            return Ok(());
        }
        if outbox.out.is_empty() {
            let ended = outbox.hang_up && outbox.waiting.is_empty();
            return if ended { Err("closed by this client".into()) } else { Ok(()) };
        }
        outbox.taken += outbox.out.len() as u64;
        self.writing.clear();
        std::mem::swap(&mut self.writing, &mut outbox.out);
        drop(outbox);
        self.connection.room.notify_waiters();
        Ok(())
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<Progress, String> {
        let mut progress = Progress::None;
        while !self.writing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.writing) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err("the connection takes no more".into()),
                Poll::Ready(Ok(bytes)) => {
                    self.writing.advance(bytes);
                    self.written += bytes as u64;
                    progress = Progress::Some;
                }
                Poll::Ready(Err(error)) => return Err(format!("cannot send: {error}")),
            }
        }
        Ok(progress)
    }

    /// Reads once and decodes every frame that is complete.
    fn read(&mut self, context: &mut Context<'_>) -> Result<Progress, String> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        match pin!(self.stream.read_buf(&mut self.input)).poll(context) {
            Poll::Pending => return Ok(Progress::None),
            Poll::Ready(Ok(0)) => return Err("connection lost before the answer".into()),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => {
                return Err(format!("connection lost before the answer: {error}"));
            }
        }
        loop {
            match frame::decode(&mut self.input, ANSWER_BYTES_MAX) {
                Ok(Some(frame)) => self.answers.push(frame),
                Ok(None) => return Ok(Progress::Some),
                Err(error) => return Err(format!("the server sent garbage: {error}")),
            }
        }
    }

    /// Answers that nobody waits for any more are dropped.
    fn hand_out_answers(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let mut outbox = self.connection.outbox();
        for frame in self.answers.drain(..) {
            if let Some(waiting) = outbox.waiting.remove(&frame.request_id) {
                let _ = waiting.answer.send(Ok(frame));
            }
        }
    }

    fn watch_silence(&mut self, context: &mut Context<'_>, heard: Progress) -> Result<(), String> {
        let silence = &mut self.silence;
        if heard == Progress::Some {
            silence.in_a_row = 0;
        }
        if silence.running == Running::No {
            if self.connection.outbox().waiting.is_empty() {
                return Ok(());
            }
            silence.running = Running::Yes;
            silence.in_a_row = 0;
            silence.timer.as_mut().reset(Instant::now() + SILENCE);
        }
        while silence.timer.as_mut().poll(context).is_ready() {
            let mut outbox = self.connection.outbox();
            if outbox.waiting.is_empty() {
                silence.running = Running::No;
                return Ok(());
            }
            silence.timer.as_mut().reset(Instant::now() + SILENCE);
            silence.in_a_row += 1;
            if silence.in_a_row == SILENCES_MAX {
                let silent_for = SILENCE * SILENCES_MAX;
                return Err(format!("no sign of life for {} ms", silent_for.as_millis()));
            }
            let question = request::Status { timeout_ms: SILENCE.as_millis() as u32 };
            // The question always fits; and if it is not asked, the silence goes on.
            let _ = frame::encode(&mut outbox.out, SIGN_OF_LIFE, &question, ANSWER_BYTES_MAX);
            drop(outbox);
            context.waker().wake_by_ref();
        }
        Ok(())
    }
}

/// Whether bytes moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.run(context) {
            Ok(()) => Poll::Pending,
            Err(why) => {
                self.hand_out_answers();
                self.connection.close(&why, self.written);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Driver {
    /// A runtime that ends takes its tasks with it; nobody may go on waiting for this one.
    fn drop(&mut self) {
        self.connection.close("the client's runtime has ended", self.written);
    }
}
