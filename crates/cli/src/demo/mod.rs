//! `demo`: a throw-away cluster of real servers and a shell to play with it. One command shows Raft
//! elect, fail over and catch up.

mod servers;
mod story;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::args::{DemoArgs, Global, LogArgs};
use crate::commands::{log, status};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::shell::{self, DotCommands, Flow, Interaction};
use crate::signals::Signals;
use servers::Servers;
use story::Stories;

/// How long the first election may take on a busy machine.
const ELECTION_PATIENCE: Duration = Duration::from_secs(20);
/// How long a server may take to read its log.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

const DOT_COMMANDS: [&str; 8] =
    [".help", ".kill", ".log", ".pause", ".quit", ".resume", ".start", ".status"];

const DOT_HELP: &str = "\
  .status           who leads, and how far everybody is
  .kill ID          end a server at once, as a crash would
  .start ID         start it again: it recovers and catches up
  .pause ID         freeze a server, as a long stall would
  .resume ID        let it go on
  .log ID           the log of a server: index, term, command
  .quit             end the demo; so does an empty line
ID is s1, s2, ... or `leader`, which stands for whoever leads at the moment.
Every other line is a command as in kvctl shell: set ana 4, get ana, show, help ...
";

/// `kvctl demo`.
pub(crate) async fn run(global: &Global, args: DemoArgs) -> Result<(), Failure> {
    // From here on a signal no longer ends the process by itself, so whatever is made is removed.
    let mut signals = Signals::listen()?;
    let stories = Stories::default();
    let mut servers = Servers::prepare(args.nodes, stories.clone())?;
    let session = Session::with_servers(global, servers.addresses())?.for_shell();
    let begin = async {
        servers.start_all()?;
        wait_for_leader(&session).await
    };
    tokio::select! {
        begun = begin => begun?,
        _ = signals.next() => return Err(Failure::interrupted()),
    }
    let interaction = Interaction::of_stdin();
    if interaction == Interaction::Terminal {
        eprint!("{}", banner(&servers));
    }
    let mut demo = Demo { servers };
    let opened = shell::open(&session, interaction, "demo> ", &DOT_COMMANDS);
    stories.print_above(opened.above);
    shell::run(&session, interaction, opened.lines, &mut demo, &mut signals).await
}

fn banner(servers: &Servers) -> String {
    let addresses = servers.addresses();
    let first = addresses.first().map(|server| server.address.as_str()).unwrap_or_default();
    format!(
        "\n{} servers from {first} on, data in {}; everything goes away at the end.\n\
         Try: set ana 4, get ana, show, .status, .kill leader, .help; an empty line ends it.\n\n",
        addresses.len(),
        servers.directory().display()
    )
}

async fn wait_for_leader(session: &Session) -> Result<(), Failure> {
    let start = Instant::now();
    while session.client().cluster_status().await.leader_id().is_none() {
        if start.elapsed() > ELECTION_PATIENCE {
            return Err(Failure::new(Exit::NoLeader, "the servers have not elected a leader"));
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// What a demo adds to the shell.
struct Demo {
    servers: Servers,
}

impl DotCommands for Demo {
    async fn run(&mut self, session: &Session, words: &[String]) -> Result<Flow, Failure> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [".help"] => session.print(DOT_HELP)?,
            [".quit"] => return Ok(Flow::End),
            [".status"] => status::run(session).await?,
            [".kill", name] => {
                let id = resolve(session, name).await?;
                self.servers.kill(&id)?;
                session.print(&format!("{id} killed\n"))?;
            }
            [".start", name] => {
                self.servers.start(name)?;
                wait_for_recovery(session, name).await?;
                session.print(&format!("{name} started\n"))?;
            }
            [".pause", name] => {
                let id = resolve(session, name).await?;
                self.servers.pause(&id)?;
                session.print(&format!("{id} paused\n"))?;
            }
            [".resume", name] => {
                self.servers.resume(name)?;
                session.print(&format!("{name} goes on\n"))?;
            }
            [".log", name] => {
                let id = resolve(session, name).await?;
                log::run(session, LogArgs { id: Some(id), from: 1, limit: None }).await?;
            }
            _ => {
                return Err(Failure::usage(format!("`{}` is not understood", words.join(" ")))
                    .detail("type .help"));
            }
        }
        Ok(Flow::GoOn)
    }
}

/// Waits until a server that was started has read its log and answers.
async fn wait_for_recovery(session: &Session, id: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let mut servers = session.servers().iter();
    let Some(server) = servers.find(|server| server.id.as_deref() == Some(id)) else {
        return Ok(());
    };
    while let Err(reason) = session.status_of(server).await {
        if start.elapsed() > RECOVERY_PATIENCE {
            let what = format!("{id} was started and does not answer: {reason}");
            return Err(Failure::new(Exit::Unreachable, what));
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// The id that a name stands for.
async fn resolve(session: &Session, name: &str) -> Result<String, Failure> {
    if name != "leader" {
        return Ok(name.to_owned());
    }
    wait_for_leader(session).await?;
    let status = session.client().cluster_status().await;
    let leader = status.leader_id().map(str::to_owned);
    leader.ok_or_else(|| Failure::new(Exit::NoLeader, "there is no leader at the moment"))
}
