//! One call from its beginning to its single outcome: choose a server, ask it, and if that ends
//! without an answer, choose again, until the deadline.

use super::connection::{Lost, SendError, Sent};
use super::directory::{Patience, Reached, Wanted};
use super::error::ClientError;
use super::options::Redirect;
use super::outcome::{Attempts, End, Next};
use super::scan::ScanLink;
use super::session::RequestId;
use super::{Inner, survey};
use crate::store::Operation;
use crate::store::command::{Command, SessionTag};
use crate::wire::Response;
use crate::wire::request::{Request, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The first pause before a server is asked again that had no use for a request.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The pause doubles up to this.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// With less time than this left, or a quarter of all, no further attempt is made: it would be in
/// doubt more often than answered.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Of its time a read gives one server a third, and no less than this.
const READ_SHARE: u32 = 3;
const READ_PATIENCE_MIN_MS: u32 = 300;

/// What is asked, and of whom.
pub(super) struct Call<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) ask: Ask<'a>,
    pub(super) timeout: Duration,
    deadline: Instant,
    attempts: Mutex<Attempts>,
}

/// What is asked.
pub(super) enum Ask<'a> {
    /// Something that changes nothing.
    Read(Request),
    /// A write, perhaps one that was tried before under this name.
    Write(Operation<'a>, Option<RequestId>),
    /// Something for the leader that no session makes safe to repeat.
    Admin(Request),
}

impl<'a> Call<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, ask: Ask<'a>, timeout: Duration) -> Call<'a> {
        let request = match &ask {
            Ask::Read(_) | Ask::Admin(_) => None,
            Ask::Write(_, request) => *request,
        };
        let attempts = Mutex::new(Attempts::at(request));
        Call { inner, ask, timeout, deadline: Instant::now() + timeout, attempts }
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that goes on delivering the answer to a scan, or a snapshot.
    pub(super) fn take_scan_link(&self) -> Option<ScanLink> {
        self.attempts().scan_link.take()
    }

    /// Carries the call out. While the last part of its time runs, the servers are asked how they
    /// are, so that an error can tell; otherwise nobody asks them.
    pub(super) async fn run(&self) -> Result<Response, ClientError> {
        let result = self.carry_out().await;
        self.settle();
        result
    }

    async fn carry_out(&self) -> Result<Response, ClientError> {
        let survey_time = survey::PATIENCE.min(self.timeout / 2);
        let mut pursuit = pin!(self.pursue());
        let mut survey = pin!(survey::survey(self.inner, survey_time));
        let mut found = None;
        let end = match timeout_at(self.deadline - survey_time, pursuit.as_mut()).await {
            Ok(end) => end,
            Err(_) => loop {
                tokio::select! {
                    biased;
                    end = pursuit.as_mut() => break end,
                    () = sleep_until(self.deadline) => break End::Deadline,
                    servers = survey.as_mut(), if found.is_none() => found = Some(servers),
                }
            },
        };
        match end {
            End::Answered(response) => Ok(response),
            End::Settled(error) => Err(error),
            End::Failed(error) => Err(self.join(error)),
            End::OutOfReach | End::Deadline => match self.without_answer() {
                Some(error) => Err(error),
                None => {
                    let servers = match found {
                        Some(servers) => servers,
                        None => survey.await,
                    };
                    Err(self.without_server(servers))
                }
            },
        }
    }

    /// Attempt after attempt. The caller ends it at the deadline.
    async fn pursue(&self) -> End {
        let wanted = match (self.inner.options.redirect, &self.ask) {
            (Redirect::Never, _) => Wanted::Only(0),
            (Redirect::Follow, Ask::Write(..) | Ask::Admin(_)) => Wanted::Leader,
            (Redirect::Follow, Ask::Read(_)) => Wanted::Any,
        };
        let mut avoid = None;
        let mut pause = PAUSE_MIN;
        loop {
            let reach = self.inner.directory.reach(wanted, avoid, Patience::Endless).await;
            let Ok(reached) = reach else { return End::OutOfReach };
            let next = match self.prepare(&reached).await {
                Err(error) => Next::Return(End::Failed(error)),
                Ok(request @ (Request::Scan(_) | Request::Save(_))) => {
                    match self.attempt_scan(&reached, request).await {
                        Ok(response) => self.judge(&reached, response),
                        Err(next) => next,
                    }
                }
                Ok(request) => match self.attempt(&reached, request).await {
                    Ok(response) => self.judge(&reached, response),
                    Err(next) => next,
                },
            };
            avoid = match next {
                Next::Return(end) => return end,
                Next::Again => None,
                Next::AskAnother => Some(reached.index),
                Next::Pause | Next::PauseHere => {
                    if !self.has_time_for_another(pause) {
                        return End::Deadline;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    matches!(next, Next::Pause).then_some(reached.index)
                }
            };
        }
    }

    /// The request as this attempt sends it. The first attempt at a write gives it its name.
    async fn prepare(&self, reached: &Reached) -> Result<Request, ClientError> {
        let (operation, given) = match &self.ask {
            Ask::Read(request) | Ask::Admin(request) => return Ok(request.clone()),
            Ask::Write(operation, given) => (*operation, given),
        };
        let tag = match given {
            // Whoever repeats a request by its name knows nothing of the others in its session.
            Some(RequestId { session, sequence }) => {
                SessionTag { session: *session, sequence: *sequence, lowest_unanswered: 0 }
            }
            None => self.open_request(reached).await?,
        };
        let command = Command { session: Some(tag), operation }.to_bytes();
        Ok(Request::Write(Write { timeout_ms: 0, route: self.inner.route(), command }))
    }

    /// The place of this write in the session. Waits while the session has no room.
    async fn open_request(&self, reached: &Reached) -> Result<SessionTag, ClientError> {
        if let Some(open) = &self.attempts().open {
            return Ok(open.tag());
        }
        let sessions = &self.inner.sessions;
        loop {
            let mut room = pin!(sessions.room.notified());
            room.as_mut().enable();
            let begun = sessions.begin(reached.connection.welcome.commit);
            let begun = begun.map_err(|error| {
                ClientError::Invalid(format!("no random number for a session: {error}"))
            })?;
            if let Some(open) = begun {
                let tag = open.tag();
                let mut attempts = self.attempts();
                attempts.request = Some(RequestId { session: tag.session, sequence: tag.sequence });
                attempts.open = Some(open);
                return Ok(tag);
            }
            room.await;
        }
    }

    /// Sends the request once and waits for its answer.
    async fn attempt(&self, reached: &Reached, mut request: Request) -> Result<Response, Next> {
        let connection = &reached.connection;
        let pending = loop {
            let mut room = pin!(connection.room.notified());
            room.as_mut().enable();
            request.set_timeout_ms(self.patience_ms(reached));
            match connection.send(|out, id| request.encode(out, id)) {
                Ok(pending) => break pending,
                Err(SendError::Crowded) => room.await,
                Err(SendError::Closed(why)) => {
                    self.attempts().why = why.to_string();
                    return Err(self.lost());
                }
                Err(SendError::TooLong(error)) => return Err(Next::too_long(&error)),
            }
        };
        self.attempts().in_flight = Some(reached.server());
        let answer = pending.await;
        self.attempts().in_flight = None;
        match answer {
            Ok(frame) => Response::decode(&frame).map_err(|error| {
                let why = format!("the server sent garbage: {error}");
                connection.close(&why, u64::MAX);
                self.unanswered(reached, why)
            }),
            Err(Lost { sent: Sent::Maybe, why }) => Err(self.unanswered(reached, why.to_string())),
            Err(Lost { sent: Sent::No, why }) => {
                self.attempts().why = why.to_string();
                Err(self.lost())
            }
        }
    }

    /// How much longer the caller waits, as servers are told.
    pub(super) fn remaining_ms(&self) -> u32 {
        let remaining = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        u32::try_from(remaining).unwrap_or(u32::MAX).max(1)
    }

    /// How long a server may take. A read that it cannot answer is asked of another one in time,
    /// if there is one: it may be cut off, or lack what others hold.
    pub(super) fn patience_ms(&self, reached: &Reached) -> u32 {
        let remaining = self.remaining_ms();
        match (&self.ask, self.inner.options.redirect) {
            (Ask::Read(_), Redirect::Follow) if reached.others > 0 => {
                remaining.min((remaining / READ_SHARE).max(READ_PATIENCE_MIN_MS))
            }
            _ => remaining,
        }
    }

    /// Whether there is time for another attempt.
    pub(super) fn has_time_for_another(&self, pause: Duration) -> bool {
        self.remaining() >= pause + ATTEMPT_MIN.min(self.timeout / 4)
    }

    /// How much longer the caller waits.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Reached {
    /// The server's id.
    pub(super) fn server(&self) -> String {
        self.connection.welcome.node.clone()
    }
}
