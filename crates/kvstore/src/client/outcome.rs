//! What answers, refusals and silence mean for a call.
//!
//! The outcome of a call is the join over its attempts. Once a write may have been seen by a server
//! that did not answer, no later refusal makes it certain that nothing happened. Only an answer to
//! the write itself does, and the session makes sure that all attempts get the same one.

use super::call::{Ask, Call};
use super::directory::{Hint, Reached};
use super::error::{ClientError, ServerCondition, ServerReport};
use super::options::Redirect;
use super::scan::ScanLink;
use super::session::{OpenRequest, RequestId};
use super::survey::Survey;
use crate::store::{Outcome, Refusal};
use crate::wire::request::Request;
use crate::wire::response::ErrorReply;
use crate::wire::{Consistency, ErrorCode, FrameError, RequestOutcome, Response};
use std::time::Duration;

/// How often a write opens a new session because the one before was not accepted.
const SESSIONS_MAX: u32 = 8;

/// What the attempts of a call have come to so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The place of the write in the session; given up when the call ends.
    pub(super) open: Option<OpenRequest>,
    /// The name of the write.
    pub(super) request: Option<RequestId>,
    /// The server that was asked and has not answered yet.
    pub(super) in_flight: Option<String>,
    /// Why the latest attempt came to nothing.
    pub(super) why: String,
    /// What goes on delivering the answer to a scan.
    pub(super) scan_link: Option<ScanLink>,
    /// Servers that may have seen the request and did not answer it.
    unanswered: Vec<String>,
    /// Some server answered that it has no leader, or is none.
    met_no_leader: bool,
    /// The latest refusal that was worth another attempt.
    refusal: Option<ClientError>,
    /// How many sessions were not accepted.
    sessions_lost: u32,
    /// How many connections ended under the request.
    connections_lost: u32,
}

impl Attempts {
    /// Before the first attempt at a request, which has a name if it was tried before this call.
    pub(super) fn at(request: Option<RequestId>) -> Attempts {
        Attempts { request, ..Attempts::default() }
    }

    /// Notes, once for each server, that it may have seen the request and did not answer it.
    fn note_unanswered(&mut self, server: String) {
        if !self.unanswered.contains(&server) {
            self.unanswered.push(server);
        }
    }
}

/// How the search for an answer ended.
#[derive(Debug)]
pub(super) enum End {
    /// With an answer.
    Answered(Response),
    /// With an error of one attempt, to be joined with what the others have come to.
    Failed(ClientError),
    /// With an error that holds for all attempts.
    Settled(ClientError),
    /// No server can be reached, and that will not change.
    OutOfReach,
    /// With the caller's time.
    Deadline,
}

/// What to do after an attempt.
#[derive(Debug)]
pub(super) enum Next {
    Return(End),
    /// Try again at once.
    Again,
    /// Try again at once, with another server if there is one.
    AskAnother,
    /// The same after a pause.
    Pause,
    /// Try again after a pause, with the same server.
    PauseHere,
}

impl Next {
    /// The request does not fit into a frame.
    pub(super) fn too_long(error: &FrameError) -> Next {
        Next::Return(End::Failed(match *error {
            FrameError::TooLong { frame_bytes, frame_bytes_max } => {
                ClientError::TooLarge { bytes: frame_bytes, bytes_max: frame_bytes_max.into() }
            }
            ref other => ClientError::Invalid(other.to_string()),
        }))
    }
}

impl Call<'_> {
    /// A server may have seen the request and will not answer it any more.
    pub(super) fn unanswered(&self, reached: &Reached, why: String) -> Next {
        let mut attempts = self.attempts();
        let server = reached.server();
        attempts.why = why;
        attempts.note_unanswered(server);
        drop(attempts);
        // No session makes it safe to ask again.
        if let Ask::Admin(_) = self.ask {
            return Next::Return(End::OutOfReach);
        }
        self.lost()
    }

    /// The connection is no more. The first time, another server is tried at once; a call that
    /// loses one connection after the other takes its time.
    pub(super) fn lost(&self) -> Next {
        let mut attempts = self.attempts();
        attempts.connections_lost += 1;
        match attempts.connections_lost {
            1 => Next::AskAnother,
            _ => Next::Pause,
        }
    }

    /// Decides what an answer means for the call.
    pub(super) fn judge(&self, reached: &Reached, response: Response) -> Next {
        let directory = &self.inner.directory;
        match (&self.ask, response) {
            (_, Response::Error(error)) => self.judge_error(reached, error),
            (Ask::Write(_, given), Response::Written(reply)) => {
                directory.note_leader(reached.index);
                if let Outcome::Refused(refusal) = reply.outcome {
                    return self.judge_refusal(refusal);
                }
                if let Some(request) = given {
                    self.inner.sessions.resolved(request);
                }
                Next::Return(End::Answered(Response::Written(reply)))
            }
            (Ask::Read(Request::Get(_)), response @ Response::Value(_))
            | (Ask::Read(Request::Scan(_)), response @ Response::ScanChunk(_))
            | (Ask::Read(Request::Save(_)), response @ Response::SavedPart(_)) => {
                directory.note_answer(reached.index);
                Next::Return(End::Answered(response))
            }
            (Ask::Admin(Request::Change(_)), response @ Response::Changed(_))
            | (Ask::Admin(Request::Transfer(_)), response @ Response::Transferred(_)) => {
                Next::Return(End::Answered(response))
            }
            (_, other) => {
                let why = format!("the server gave an answer of kind {:#04x}", other.kind().0);
                reached.connection.close(&why, u64::MAX);
                self.unanswered(reached, why)
            }
        }
    }

    /// A server could not serve the request.
    fn judge_error(&self, reached: &Reached, error: ErrorReply) -> Next {
        let (directory, index) = (&self.inner.directory, reached.index);
        let mut attempts = self.attempts();
        attempts.why = error.text.clone();
        if error.outcome == RequestOutcome::Unknown {
            attempts.note_unanswered(reached.server());
        }
        let refused = ClientError::Refused {
            code: error.code,
            text: error.text,
            server: reached.server(),
            leader: error.leader.clone(),
        };
        if let (Ask::Admin(_), RequestOutcome::Unknown) = (&self.ask, error.outcome) {
            return Next::Return(End::Failed(refused));
        }
        match error.code {
            ErrorCode::NotLeader if self.inner.options.redirect == Redirect::Never => {
                Next::Return(End::Failed(refused))
            }
            ErrorCode::NotLeader => {
                attempts.met_no_leader = true;
                match directory.follow(index, error.leader.as_ref()) {
                    Hint::Followed => Next::Again,
                    Hint::Stale => Next::Pause,
                }
            }
            // It needs no leader, so that there is none is not what stands in its way.
            ErrorCode::NotReady if self.is_stale_read() => {
                attempts.refusal = Some(refused);
                directory.note_late(index);
                Next::Pause
            }
            ErrorCode::NoLeader | ErrorCode::NotReady => {
                attempts.met_no_leader = true;
                directory.forget_leader(index);
                directory.note_late(index);
                Next::Pause
            }
            ErrorCode::ShuttingDown | ErrorCode::Overloaded => {
                if error.code == ErrorCode::ShuttingDown {
                    directory.forget_leader(index);
                }
                attempts.refusal = Some(refused);
                Next::Pause
            }
            ErrorCode::Busy | ErrorCode::NotAnnounced => {
                attempts.refusal = Some(refused);
                Next::PauseHere
            }
            // It could not; perhaps another one can.
            ErrorCode::Timeout if self.may_ask_another(reached) => {
                attempts.note_unanswered(reached.server());
                directory.note_late(index);
                Next::AskAnother
            }
            ErrorCode::Timeout => Next::Return(match self.ask {
                Ask::Write(..) | Ask::Admin(_) => End::Failed(refused),
                Ask::Read(_) => End::Settled(ClientError::ReadTimeout {
                    server: reached.server(),
                    timeout: self.timeout,
                    why: attempts.why.clone(),
                }),
            }),
            ErrorCode::TooLarge
            | ErrorCode::Invalid
            | ErrorCode::SessionExpired
            | ErrorCode::NoSpace
            | ErrorCode::UnknownKind
            | ErrorCode::Internal => Next::Return(End::Failed(refused)),
        }
    }

    fn is_stale_read(&self) -> bool {
        match &self.ask {
            Ask::Read(Request::Get(get)) => get.consistency == Consistency::Stale,
            Ask::Read(Request::Scan(scan)) => scan.consistency == Consistency::Stale,
            Ask::Read(Request::Save(save)) => save.consistency == Consistency::Stale,
            Ask::Read(_) | Ask::Write(..) | Ask::Admin(_) => false,
        }
    }

    /// Whether a read that one server could not answer in time may be asked of another one.
    fn may_ask_another(&self, reached: &Reached) -> bool {
        let follows = self.inner.options.redirect == Redirect::Follow && reached.others > 0;
        follows && matches!(self.ask, Ask::Read(_)) && self.has_time_for_another(Duration::ZERO)
    }

    /// The state machine answered that it has not applied this attempt.
    fn judge_refusal(&self, refusal: Refusal) -> Next {
        let settled = Next::Return(End::Settled(ClientError::StoreRefused(refusal)));
        let failed = Next::Return(End::Failed(ClientError::StoreRefused(refusal)));
        match refusal {
            // These are the state machine's word about the sequence, whoever carried it there.
            Refusal::Full { .. } | Refusal::SequenceReused { .. } => settled,
            // This attempt was not applied; an earlier one may have been.
            Refusal::WindowFull { .. } | Refusal::BelowMark { .. } => failed,
            Refusal::SessionExpired { .. } | Refusal::SessionStart { .. } => {
                let mut attempts = self.attempts();
                let Some(open) = attempts.open.take() else { return failed };
                self.inner.sessions.abandon(open.tag().session, &refusal);
                attempts.sessions_lost += 1;
                if !attempts.unanswered.is_empty() || attempts.sessions_lost > SESSIONS_MAX {
                    return failed;
                }
                // The only attempt was not applied, so it can be made again under another name.
                attempts.request = None;
                Next::Again
            }
        }
    }

    /// The error of an attempt, as the error of the call.
    pub(super) fn join(&self, error: ClientError) -> ClientError {
        self.unknown(error.to_string()).unwrap_or(error)
    }

    /// The error of a call whose time is over, or that reaches nobody, if that can be told without
    /// knowing how the servers are.
    pub(super) fn without_answer(&self) -> Option<ClientError> {
        let mut attempts = self.attempts();
        let timeout = self.timeout;
        let in_flight = attempts.in_flight.take();
        if let Some(server) = &in_flight {
            attempts.why = format!("no answer within {} ms", timeout.as_millis());
            attempts.note_unanswered(server.clone());
        }
        if let Ask::Write(..) | Ask::Admin(_) = self.ask {
            let why = attempts.why.clone();
            drop(attempts);
            return self.unknown(why).or_else(|| self.attempts().refusal.take());
        }
        let read_timeout = |server: &String| {
            let (server, why) = (server.clone(), attempts.why.clone());
            ClientError::ReadTimeout { server, timeout, why }
        };
        if let Some(server) = &in_flight {
            return Some(read_timeout(server));
        }
        if attempts.refusal.is_some() || attempts.met_no_leader {
            return attempts.refusal.clone();
        }
        attempts.unanswered.last().map(read_timeout)
    }

    /// The error of a call that met no server that could have served it.
    pub(super) fn without_server(&self, survey: Survey) -> ClientError {
        let Survey { servers, needed } = survey;
        let answered =
            |report: &ServerReport| matches!(report.condition, ServerCondition::Ok { .. });
        if self.attempts().met_no_leader || servers.iter().any(answered) {
            return ClientError::NoLeader { servers, needed };
        }
        let refused =
            |report: &ServerReport| matches!(report.condition, ServerCondition::Refused(_));
        if servers.iter().any(refused) {
            return ClientError::Unwelcome { servers };
        }
        ClientError::Unreachable { servers }
    }

    /// Gives up the request's place in the session, once its outcome is known.
    pub(super) fn settle(&self) {
        let open = self.attempts().open.take();
        if let Some(open) = open {
            open.settle();
        }
    }

    /// *Unknown*, if some attempt at this write may have had an effect. An attempt that was made
    /// before this call, under the same name, counts.
    fn unknown(&self, why: String) -> Option<ClientError> {
        let mut attempts = self.attempts();
        let given = match &self.ask {
            Ask::Read(_) => return None,
            Ask::Admin(_) => {
                let sent_to = attempts.unanswered.clone();
                return (!sent_to.is_empty()).then_some(ClientError::InDoubt { sent_to, why });
            }
            Ask::Write(_, given) => given,
        };
        let request = attempts.request?;
        if attempts.unanswered.is_empty() && given.is_none() {
            return None;
        }
        // Dropped without a word, it can be asked for again by its name.
        drop(attempts.open.take());
        let why = if why.is_empty() { "no server could be reached".to_owned() } else { why };
        Some(ClientError::Unknown { request, sent_to: attempts.unanswered.clone(), why })
    }
}
