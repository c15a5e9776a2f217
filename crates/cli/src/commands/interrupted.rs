//! What is known of a command that is left before its end. Its requests may have reached a server,
//! so nothing is said of them that nobody knows.

use std::collections::BTreeSet;

use kvstore::client::RequestId;

use crate::args::{Command, LeaderCommand, MemberCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// A command that is about to be carried out.
pub(super) struct Undertaking {
    /// The name under which it repeats an earlier write.
    repeats: Option<RequestId>,
    /// The writes whose outcome was unknown before it.
    earlier: BTreeSet<RequestId>,
    changes: Changes,
}

/// What a command may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    /// Nothing but keys.
    Keys,
    /// Who is a member, or who leads.
    Cluster,
}

impl Undertaking {
    pub(super) fn new(session: &Session, command: &Command) -> Undertaking {
        let repeats = match command {
            Command::Set(args) => args.request,
            Command::Cas(args) => args.request,
            Command::Del(args) => args.request,
            _ => None,
        };
        let changes = match command {
            Command::Member(args) if !matches!(args.command, MemberCommand::List) => {
                Changes::Cluster
            }
            Command::Leader(args) if !matches!(args.command, LeaderCommand::Show) => {
                Changes::Cluster
            }
            _ => Changes::Keys,
        };
        let earlier = session.client().unknown_writes().into_iter().collect();
        Undertaking { repeats, earlier, changes }
    }

    /// The failure of a command that was given up.
    pub(super) fn given_up(&self, session: &Session) -> Failure {
        if self.changes == Changes::Cluster {
            return Failure::interrupted()
                .detail("whether anything was changed is not known; look: kvctl member list");
        }
        let unknown = session.client().unknown_writes().into_iter();
        let mut new = unknown.filter(|request| !self.earlier.contains(request));
        let Some(request) = self.repeats.or_else(|| new.next()) else {
            return Failure::interrupted();
        };
        let under_way = Failure::new(
            Exit::Interrupted,
            "interrupted: a write was under way, its outcome is unknown",
        );
        match new.count() {
            0 => under_way.request(request.to_string()),
            others => Failure::new(
                Exit::Interrupted,
                format!(
                    "interrupted: {} writes were under way, their outcome is unknown",
                    others + 1
                ),
            ),
        }
    }
}
