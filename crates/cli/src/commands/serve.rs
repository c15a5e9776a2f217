//! `serve`: runs a server and tells its story.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvstore::config::Config;
use kvstore::server::{self, Event, Exposure, Field, ServeError, ServeOptions};
use raft::node::RestoreError;
use raft::storage::HomeError;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde_json::{Map, Value, json};

use super::story::Narrator;
use crate::args::{Global, ServeArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::quote::quoted;
use crate::signals::Signals;

/// `kvctl serve`.
pub(crate) fn run(global: &Global, args: ServeArgs) -> Result<(), Failure> {
    if let Some(parent) = args.exit_with {
        end_with_parent(parent)?;
    }
    abort_on_panic();
    let config = Config::discover(global.config.as_deref())
        .map_err(|error| Failure::from_text(Exit::Usage, &error.to_string()))?;
    let options = ServeOptions {
        id: args.id.clone(),
        config,
        data: args.data,
        address: args.addr,
        join: (!args.join.is_empty()).then_some(args.join),
        exposure: if args.insecure { Exposure::Insecure } else { Exposure::LoopbackOnly },
    };
    let data = options.data.clone().unwrap_or_else(|| options.config.data.directory(&args.id));
    let id = args.id.clone();
    let narrator = Arc::new(narrator());
    let story = storyteller(args.id, Arc::clone(&narrator));
    let served = server::serve(options, story, shutdown());
    narrator.end();
    served.map_err(|error| {
        let is_lost = matches!(&error, ServeError::Home(HomeError::LostHistory { .. }));
        let failure = Failure::from(error);
        match failure.exit() {
            Exit::Damaged if is_lost => what_to_do(failure, &data).way_back(&id),
            Exit::Damaged => what_to_do(failure, &data),
            _ => failure,
        }
    })
}

/// Damage is not the end of the world, but somebody has to look at it.
fn what_to_do(damage: Failure, data: &Path) -> Failure {
    let shown = quoted(&data.display().to_string());
    damage
        .detail(format!("data directory: {}; the log is left as it is", data.display()))
        .detail("the other servers go on without this one for as long as a majority of them runs")
        .detail(format!(
            "if a majority is lost for good, save what this one has: kvctl recover --data {shown}"
        ))
        .detail(format!("look at it: kvctl wal verify --data {shown}; more: kvctl help recovery"))
}

/// Prints events: as text for people, as JSON for programs.
fn storyteller(id: String, narrator: Arc<Narrator>) -> Arc<dyn Fn(&Event) + Send + Sync> {
    let is_for_people = io::stderr().is_terminal();
    let line = move |event: &Event| match is_for_people {
        true => format!("{id} {event}\n"),
        false => format!("{}\n", event_json(&id, event)),
    };
    let missing = |lines: u64| Event::Warning {
        text: format!("{lines} lines of this story were dropped: nobody read them in time"),
    };
    Arc::new(move |event| narrator.tell(line(event), |lines| line(&missing(lines))))
}

/// Where the story is written.
fn narrator() -> Narrator {
    match io::stderr().is_terminal() {
        true => Narrator::new(anstream::stderr()),
        false => Narrator::new(io::stderr()),
    }
}

fn event_json(id: &str, event: &Event) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut object = Map::new();
    object.insert("time_ms".to_owned(), json!(now_ms));
    object.insert("server".to_owned(), json!(id));
    object.insert("event".to_owned(), json!(event.name()));
    object.insert("story".to_owned(), json!(event.to_string()));
    for (name, field) in event.fields() {
        object.insert(name.to_owned(), field_json(field));
    }
    Value::Object(object)
}

fn field_json(field: Field) -> Value {
    match field {
        Field::Number(number) => json!(number),
        Field::Flag(flag) => json!(flag),
        Field::Text(text) => json!(text),
        Field::Servers(ids) => ids.iter().map(|id| json!(id.to_string())).collect(),
    }
}

/// Completes at the first signal that wants the server to end; a second one ends the process at
/// once.
async fn shutdown() {
    let Ok(mut signals) = Signals::listen() else {
        // Without signals the server still ends the way that every process can be ended.
        return std::future::pending().await;
    };
    signals.next().await;
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Failure {
        let exit = match &error {
            damage if damage.is_damage() => Exit::Damaged,
            ServeError::Config(_)
            | ServeError::Id(_)
            | ServeError::NoAddress { .. }
            | ServeError::Exposed { .. }
            | ServeError::SegmentTooSmall { .. }
            | ServeError::Restore(RestoreError::Config(_)) => Exit::Usage,
            ServeError::FoundedAgain { .. }
            | ServeError::Home(
                HomeError::InUse { .. }
                | HomeError::OtherServer { .. }
                | HomeError::OtherCluster { .. },
            ) => Exit::Refused,
            ServeError::Home(_)
            | ServeError::Rescue(_)
            | ServeError::Restore(_)
            | ServeError::Listen { .. }
            | ServeError::Data { .. }
            | ServeError::Fatal(_)
            | ServeError::Random(_)
            | ServeError::Runtime(_) => Exit::Unexpected,
        };
        Failure::from_text(exit, &error.to_string())
    }
}

/// Makes the kernel end this process when its parent ends, however that happens.
fn end_with_parent(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
        Failure::new(Exit::Unexpected, format!("cannot follow the parent's life: {error}"))
    })?;
    // The parent may have ended before the line above; then this process has another one by now.
    let actual = getppid().map(Pid::as_raw_nonzero);
    if actual.and_then(|pid| u32::try_from(pid.get()).ok()) != Some(parent) {
        return Err(Failure::usage(format!("process {parent} is not the parent of this one")));
    }
    Ok(())
}

/// How long the report of a panic may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// No thread of a server dies alone: half a server is worse than none.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Nobody may be there to read the report.
        thread::spawn(|| {
            thread::sleep(REPORT_TIMEOUT);
            std::process::abort();
        });
        report(panic);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::io;

    use kvstore::server::ServeError;
    use raft::node::{NodeId, RestoreError};
    use raft::storage::{HomeError, IdentityError};

    use super::Failure;
    use crate::exit::Exit;

    #[test]
    fn only_a_directory_of_somebody_else_is_a_refusal() {
        let (path, what) = (|| "data/s1".to_owned(), || "broken".to_owned());
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let id = |id: &str| NodeId::new(id).unwrap();
        let (found, wanted) = ("a".to_owned(), "b".to_owned());
        let server = HomeError::OtherServer { path: path(), found: id("s1"), wanted: id("s2") };
        let cases = [
            (ServeError::Home(HomeError::InUse { path: path() }), Exit::Refused),
            (ServeError::Home(server), Exit::Refused),
            (HomeError::OtherCluster { path: path(), found, wanted }.into(), Exit::Refused),
            (HomeError::Io { path: path(), source: source() }.into(), Exit::Unexpected),
            (
                HomeError::from(IdentityError::Io { path: path(), source: source() }).into(),
                Exit::Unexpected,
            ),
            (HomeError::from(IdentityError::Damaged { path: path() }).into(), Exit::Damaged),
            (HomeError::LostHistory { path: path(), what: what() }.into(), Exit::Damaged),
            (ServeError::Restore(RestoreError::Log(what())), Exit::Damaged),
            (ServeError::Restore(RestoreError::Config(what())), Exit::Usage),
        ];
        for (error, exit) in cases {
            let text = format!("{error:?}");
            assert_eq!(Failure::from(error).exit(), exit, "{text}");
        }
    }
}
