//! `leader`: who leads, and handing leadership over.

use std::io::{self, Write};

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
    let transferred = session.client().transfer_leadership(args.id.as_deref()).await?;
    let settled = session.until(async || {
        let now = find(session).await.ok()?;
        (now.term > before.term).then_some(now)
    });
    let Some(now) = settled.await else {
        return Err(Failure::new(Exit::NoLeader, format!("{} did not win", transferred.to))
            .detail("look: kvctl leader show"));
    };
    if now.id != transferred.to {
        session.note(&format!("{} was to lead, but another server won", transferred.to));
    }
    session.confirm(&now)
}
