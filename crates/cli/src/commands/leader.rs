//! `leader`: who leads, and handing leadership over.

use std::io::{self, Write};

use kvstore::client::ClientError;
use serde_json::{Value, json};

use crate::args::{LeaderArgs, LeaderCommand, TransferArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Answer;
use crate::session::Session;

/// Who leads.
struct Leader {
    id: String,
    address: String,
    term: u64,
}

impl Answer for Leader {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Leader { id, address, term } = self;
        writeln!(out, "{id} {address}, term {term}")
    }

    fn json(&self) -> Value {
        let Leader { id, address, term } = self;
        json!({ "leader": id, "address": address, "term": term })
    }
}

/// `kvctl leader`.
pub(crate) async fn run(session: &Session, args: LeaderArgs) -> Result<(), Failure> {
    match args.command {
        LeaderCommand::Show => session.answer(&find(session).await?),
        LeaderCommand::Transfer(args) => transfer(session, args).await,
    }
}

async fn find(session: &Session) -> Result<Leader, Failure> {
    let status = session.client().cluster_status().await;
    let leader = status.leader().map(|leader| Leader {
        id: leader.node.clone(),
        address: leader.address.clone(),
        term: leader.term,
    });
    leader.ok_or_else(|| match status.reports().next() {
        Some(_) => Failure::new(Exit::NoLeader, "no server leads"),
        None => Failure::new(Exit::Unreachable, "no server could be reached"),
    })
}

/// The old leader says that somebody else campaigns; who won, the servers say.
async fn transfer(session: &Session, args: TransferArgs) -> Result<(), Failure> {
    let before = find(session).await?;
    let asked = session.client().transfer_leadership(args.id.as_deref()).await;
    let transferred = asked.map_err(|error| match error {
        error @ ClientError::InDoubt { .. } => {
            Failure::from(error).detail("look: kvctl leader show")
        }
        error => Failure::from(error),
    })?;
    let settled = session.until(async || {
        let now = find(session).await.ok()?;
        (now.term > before.term).then_some(now)
    });
    let Some(now) = settled.await else {
        return Err(Failure::new(Exit::NoLeader, format!("{} did not win", transferred.to))
            .detail("look: kvctl leader show"));
    };
    match who_won(&now, &transferred.to, args.id.as_deref()) {
        Won::TheTarget => {}
        Won::AnotherThanNamed(failure) => return Err(failure),
        Won::Another => {
            session.note(&format!("{} was to lead, but another server won", transferred.to));
        }
    }
    session.confirm(&now)
}

/// Who leads after a transfer.
enum Won {
    /// The server that leadership was handed to.
    TheTarget,
    /// Another one, where any would do.
    Another,
    /// Another one than the user named.
    AnotherThanNamed(Failure),
}

/// An election follows a transfer, and anybody may win it. Whoever named a server did not get it.
fn who_won(now: &Leader, to: &str, named: Option<&str>) -> Won {
    match named {
        _ if now.id == to => Won::TheTarget,
        None => Won::Another,
        Some(named) => {
            let text = format!("{named} was to lead, but {} won, term {}", now.id, now.term);
            Won::AnotherThanNamed(Failure::new(Exit::Unexpected, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_than_the_one_that_was_named_is_a_failure() {
        let now = Leader { id: "s3".to_owned(), address: String::new(), term: 7 };
        assert!(matches!(who_won(&now, "s3", Some("s3")), Won::TheTarget));
        assert!(matches!(who_won(&now, "s2", None), Won::Another));
        let Won::AnotherThanNamed(failure) = who_won(&now, "s2", Some("s2")) else {
            panic!("s2 was named and does not lead");
        };
        assert_eq!(failure.exit(), Exit::Unexpected);
    }
}
