//! The commands that talk to a cluster, one file for each kind.

mod get;
mod interrupted;
mod keys;
mod leader;
pub(crate) mod log;
mod member;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod status;
mod story;
mod write;

use std::future::Future;

use crate::args::Command;
use crate::failure::Failure;
use crate::session::Session;
use crate::{bench, help, snapshot};
use interrupted::Undertaking;

/// Carries out a command unless it is to be given up before its end: then the failure says what is
/// known of it. `words` are those of the line that asked for it.
pub(crate) async fn run_until(
    given_up: impl Future<Output = ()>,
    session: &Session,
    command: Command,
    words: &[String],
) -> Result<(), Failure> {
    let undertaking = Undertaking::new(session, &command);
    let result = tokio::select! {
        result = run(session, command) => result,
        () = given_up => Err(undertaking.given_up(session)),
    };
    result.map_err(|failure| failure.repeated_by(words))
}

/// Carries out a command of one session. Those that make a session of their own, or need none to
/// begin with, are carried out before there is one.
async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Get(args) => get::get(session, args).await,
        Command::Set(args) => write::set(session, args).await,
        Command::Del(args) => write::del(session, args).await,
        Command::Cas(args) => write::cas(session, args).await,
        Command::Show(args) => get::show(session, args).await,
        Command::Status => status::run(session).await,
        Command::Log(args) => log::run(session, args).await,
        Command::Member(args) => member::run(session, args).await,
        Command::Leader(args) => leader::run(session, args).await,
        Command::Snapshot(args) => snapshot::run(session, args.command).await,
        Command::Bench(args) => bench::run(session, args).await,
        Command::Help(args) => session.print(&help::explain(&args.topic)?),
        Command::Version => session.print(&version()),
        Command::Serve(_)
        | Command::Wal(_)
        | Command::Recover(_)
        | Command::Demo(_)
        | Command::Shell
        | Command::Completions(_) => {
            Err(Failure::usage("this works on the command line only, not in a shell of kvctl"))
        }
    }
}

/// What `kvctl version` prints.
pub(crate) fn version() -> String {
    let protocol = kvstore::wire::handshake::VersionRange::OURS;
    format!("kvctl {}\nprotocol {protocol}\n", env!("CARGO_PKG_VERSION"))
}
