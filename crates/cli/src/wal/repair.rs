//! `wal repair`: puts a log in order. What it would lose is said first, and given up only when that
//! was asked for: after a copy was made, and with a mark that keeps the server from voting as if it
//! remembered.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft::node::NodeId;
use raft::storage::{GiveUpError, HomeError, Survey, give_up_history};
use serde_json::{Value, json};
use wal::{
    BackupError, Disk, Finding, Health, Inspector, Mended, OpenError, Plan, ReadOnlyDisk, RealDisk,
};

use super::place::{Place, floor, home_failure, log_failure};
use super::{verify, words};
use crate::args::{Global, RepairArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Answer;
use crate::session::{ask, can_ask};

/// `kvctl wal repair`.
pub(super) fn run(global: &Global, args: &RepairArgs) -> Result<(), Failure> {
    let place = Place::find(global, &args.place)?;
    let inspector = place.inspect_as_a_start_does()?;
    let health = verify::read(global, &place, &inspector)?;
    drop(inspector);
    let (path, id, typed) = (place.path.clone(), place.id(), place.typed());
    let unhelped = place.lost.first().map(ToString::to_string);
    let is_identity_damaged =
        place.server.as_ref().is_some_and(|server| server.is_identity_damaged);
    let mut done = match health {
        Health::Clean => Repaired::default(),
        Health::Torn(_) | Health::Damaged(_) => Workshop::open(place)?.mend(&health)?,
        Health::Lost(_) => {
            // As much is told of a directory that cannot be written to.
            let plan = plan(&place)?;
            let account = Account::of(&plan);
            if !args.accept_data_loss {
                return Err(account.refuse(&typed));
            }
            if can_ask() && !global.yes {
                let question = account.lines().join("\n  ");
                ask(&format!("{question}\nGive this up for good?"), "nothing was changed")?;
            }
            Workshop::open(place)?.give_up(&account)?
        }
    };
    if is_identity_damaged {
        let step = "left to the next start: one of the two copies of the identity is damaged";
        done.steps.push(step.to_owned());
    }
    let verdict = done.verdict(&path, id.as_ref(), unhelped);
    let ended = super::conclude(global, &done, verdict);
    if let (Ok(()), Some(_), Some(id), false) = (&ended, &done.backup, &id, global.quiet) {
        let what = format!("what is left of the log can be read, and {id} does not start with it");
        let way = Failure::new(Exit::Ok, what).way_back(id.as_str());
        // There is nobody to tell if stderr is gone.
        let _ = writeln!(anstream::stderr(), "kvctl: {way}");
    }
    ended
}

/// What giving up would come to.
fn plan(place: &Place) -> Result<Plan, Failure> {
    let plan = place.inspect_as_a_start_does()?.plan_salvage().map_err(|error| {
        place
            .failure(error)
            .detail("not even a part of this log can be made to open; nothing was changed")
            .detail(format!("what can be read of it: kvctl wal dump --data {}", place.typed()))
    })?;
    plan.ok_or_else(|| {
        Failure::new(Exit::Unexpected, "the log has changed meanwhile; nothing was done")
    })
}

/// What was done.
#[derive(Debug, Default)]
struct Repaired {
    /// One line for each thing that was done.
    steps: Vec<String>,
    lost_payloads: usize,
    /// Where the copy is, if entries or promises were given up.
    backup: Option<PathBuf>,
    /// What was given up, if anything was.
    given_up: Option<Value>,
}

impl Repaired {
    /// How the command ends. `unhelped` is damage that no repair of a log helps against.
    fn verdict(
        &self,
        path: &Path,
        id: Option<&NodeId>,
        unhelped: Option<String>,
    ) -> Result<(), Failure> {
        let who = id.map_or("this server".to_owned(), |id| id.to_string());
        if self.lost_payloads > 0 {
            let failure = Failure::new(Exit::Damaged, "what is left cannot be repaired here");
            let failure = failure
                .detail(
                    "index, term and checksum of each entry are known, so their places are kept",
                )
                .detail(
                    "only the other servers, or a copy of this directory, can have their payloads",
                );
            return Err(match (&self.backup, &unhelped) {
                (None, None) => failure.detail(format!(
                    "start {who}, and it asks the others; more: kvctl help recovery"
                )),
                // It does not start.
                _ => failure.detail("more: kvctl help recovery"),
            });
        }
        let Some(lost) = unhelped else { return Ok(()) };
        let failure = Failure::from_text(Exit::Damaged, &lost);
        let failure = failure.detail(format!("no repair of {} gives that back", path.display()));
        Err(match id {
            Some(id) => failure.way_back(id.as_str()),
            None => failure,
        })
    }
}

impl Answer for Repaired {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.steps.is_empty() {
            return writeln!(out, "nothing to repair");
        }
        self.steps.iter().try_for_each(|step| writeln!(out, "{step}"))
    }

    fn json(&self) -> Value {
        json!({
            "steps": self.steps,
            "lost_payloads": self.lost_payloads,
            "backup": self.backup.as_ref().map(|path| path.display().to_string()),
            "given_up": self.given_up,
        })
    }
}

/// A directory that is held alone and may be written to.
struct Workshop {
    path: PathBuf,
    log_path: PathBuf,
    id: Option<String>,
    /// Where the mark of lost history goes.
    home: Arc<dyn Disk>,
    inspector: Inspector,
    _server: Option<Survey>,
}

impl Workshop {
    /// Gives the directory that was looked at back, and takes it again to write.
    fn open(place: Place) -> Result<Workshop, Failure> {
        let Place { path, server, log, disk, .. } = place;
        let is_server = server.is_some();
        let id = server.and_then(|server| server.identity).map(|it| it.member.id.to_string());
        drop((log, disk));
        let home = RealDisk::open(&path).map_err(|error| unwritable(&path, &error))?;
        if !is_server {
            let inspector = Inspector::open(Arc::clone(&home));
            let inspector = inspector.map_err(|error| match error {
                OpenError::Io(failure) if is_unwritable(&failure.source) => {
                    unwritable(&path, &failure.source)
                }
                error => log_failure(error, &path),
            })?;
            let log_path = path.clone();
            return Ok(Workshop { path, log_path, id, home, inspector, _server: None });
        }
        let server = Survey::take(&*home).map_err(|error| match error {
            HomeError::Io { source, .. } if is_unwritable(&source) => unwritable(&path, &source),
            error => home_failure(error, &path),
        })?;
        let base = server.as_ref().and_then(|server| server.base.clone());
        let home = base.unwrap_or(home);
        let log = server.as_ref().and_then(|server| server.log.clone());
        let gone =
            || Failure::new(Exit::Unexpected, format!("{}: the log is gone", path.display()));
        let log = log.ok_or_else(gone)?;
        let log_path = PathBuf::from(log.path(""));
        let inspector = Inspector::open(log).map_err(|error| log_failure(error, &path))?;
        let inspector = inspector.with_floor(floor(server.as_ref(), &path)?);
        Ok(Workshop { path, log_path, id, home, inspector, _server: server })
    }

    fn failure(&self, error: OpenError) -> Failure {
        log_failure(error, &self.path)
    }

    /// Does what the next start would do.
    fn mend(&self, health: &Health) -> Result<Repaired, Failure> {
        let Mended { torn, places, removed } =
            self.inspector.mend().map_err(|error| self.failure(error))?;
        let mut steps: Vec<String> = Vec::new();
        if let Some(torn) = torn {
            let size = words::size(torn.bytes);
            steps.push(format!(
                "removed a last write that was not whole: segment {}, offset {}, {size}",
                torn.segment, torn.offset
            ));
        }
        steps.extend(places.iter().map(|(segment, offset)| {
            format!("made again what was rotten: segment {segment}, offset {offset}")
        }));
        steps.extend(removed.iter().map(|segment| {
            format!("removed segment {segment}: the log does not need it any more")
        }));
        let lost = lost_payloads(health);
        let lost_payloads = lost.len();
        steps.extend(lost);
        Ok(Repaired { steps, lost_payloads, ..Repaired::default() })
    }

    /// Copies, marks, and then gives up what cannot be accounted for, in this order: whenever it is
    /// interrupted, nothing is lost that was not copied, no server goes on as if it were whole, and
    /// doing it again comes to the same end.
    fn give_up(&self, account: &Account<'_>) -> Result<Repaired, Failure> {
        let (backup, copied) = self.back_up()?;
        let mut steps = vec![copied];
        let note = account.note(&backup);
        let salvage = give_up_history(&*self.home, &self.inspector, account.plan, &note);
        let salvage = salvage.map_err(|error| self.not_given_up(error, &backup))?;
        steps.extend(account.lines());
        let health = self.inspector.verify().map_err(|error| self.failure(error))?;
        steps.extend(salvage.aside.iter().map(|path| format!("put aside: {path}")));
        steps.push(match &self.id {
            Some(id) => format!("{id} is marked as having lost history and does not start with it"),
            None => "the log is marked as having lost history: no server starts with it".to_owned(),
        });
        let lost = lost_payloads(&health);
        let lost_payloads = lost.len();
        steps.extend(lost);
        let given_up = Some(account.json());
        Ok(Repaired { steps, lost_payloads, backup: Some(backup), given_up })
    }

    fn not_given_up(&self, error: GiveUpError, backup: &Path) -> Failure {
        let failure = match error {
            GiveUpError::Log(error) => self.failure(error),
            error @ GiveUpError::Note { .. } => {
                Failure::from_text(Exit::Unexpected, &error.to_string())
            }
        };
        failure
            .detail(format!("a copy of the log as it was: {}", backup.display()))
            .detail("nothing is lost by running the same command again, and it goes on from here")
    }

    /// Copies the log beside itself, under the first name that is free, unless there is such a copy
    /// already. Returns where it is, and what was done.
    fn back_up(&self) -> Result<(PathBuf, String), Failure> {
        let failed = |error: io::Error| {
            Failure::file("copy", &self.log_path, &error).detail("nothing was changed")
        };
        let log = fs::canonicalize(&self.log_path).map_err(failed)?;
        let (Some(parent), Some(name)) = (log.parent(), log.file_name()) else {
            let what = format!("{} has nothing beside it to copy to", log.display());
            return Err(Failure::new(Exit::Unexpected, what));
        };
        let synced = || fs::File::open(parent).and_then(|parent| parent.sync_all());
        let name = name.to_string_lossy();
        let mut number: u64 = 1;
        let finished = loop {
            let finished = parent.join(format!("{name}.backup-{number}"));
            if !fs::exists(&finished).map_err(failed)? {
                break finished;
            }
            if self.is_copy(&finished) {
                synced().map_err(failed)?;
                let step = format!("the log as it was is copied already: {}", finished.display());
                return Ok((finished, step));
            }
            number = number.saturating_add(1);
        };
        let unfinished = parent.join(format!("{name}.backup-{number}.part"));
        // Whoever made it was interrupted, for the log is held here. It is no copy of anything.
        if fs::exists(&unfinished).map_err(failed)? {
            fs::remove_dir_all(&unfinished).map_err(failed)?;
        }
        fs::create_dir(&unfinished).map_err(failed)?;
        let copied = RealDisk::open(&unfinished).map_err(failed).and_then(|target| {
            self.inspector.back_up(&*target).map_err(|error| not_backed_up(&error, parent))
        });
        let copied = copied.inspect_err(|_| {
            let _ = fs::remove_dir_all(&unfinished);
        })?;
        fs::rename(&unfinished, &finished).map_err(failed)?;
        synced().map_err(failed)?;
        let gaps = match copied.unreadable_bytes {
            0 => String::new(),
            bytes => format!(", with zeros for {} that cannot be read", words::size(bytes)),
        };
        let step = format!("copied the log as it was to {}{gaps}", finished.display());
        Ok((finished, step))
    }

    /// Whether a directory is a copy of the log as it is; one that cannot be read is none.
    fn is_copy(&self, directory: &Path) -> bool {
        ReadOnlyDisk::open(directory)
            .is_ok_and(|copy| self.inspector.is_backed_up(&*copy).unwrap_or(false))
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::file("write to", path, error)
        .detail("nothing was changed; make it writable, or repair a copy of it")
}

/// One line for each entry whose payload is lost.
fn lost_payloads(health: &Health) -> Vec<String> {
    let findings = if let Health::Damaged(findings) = health { &findings[..] } else { &[] };
    let lost = findings.iter().filter_map(|finding| match finding {
        Finding::LostPayload { segment, offset, position } => Some(format!(
            "not repaired: segment {segment}, offset {offset}: the payload of entry {}, term {}, \
             is lost",
            position.index, position.term
        )),
        Finding::Mendable { .. } => None,
    });
    lost.collect()
}

fn not_backed_up(error: &BackupError, parent: &Path) -> Failure {
    let failure =
        Failure::new(Exit::Unexpected, format!("the log cannot be copied first: {error}"))
            .detail("nothing was changed");
    match error {
        BackupError::NoSpace { .. } => {
            failure.detail(format!("make room in {}, and run it again", parent.display()))
        }
        _ => failure,
    }
}

/// What a repair with loss would give up, and what would be left.
struct Account<'a> {
    plan: &'a Plan,
}

impl<'a> Account<'a> {
    fn of(plan: &'a Plan) -> Account<'a> {
        Account { plan }
    }

    /// What is given up and what is left, then why.
    fn lines(&self) -> Vec<String> {
        let Plan { damage, start, last, given_up, is_begun } = self.plan;
        let rows: Vec<String> =
            given_up.iter().map(|(first, last)| words::row(*first, *last)).collect();
        let with_it = match rows.is_empty() {
            true => "nothing that can still be read".to_owned(),
            false => format!("{}, which can still be read", rows.join(", ")),
        };
        let left = words::entries(*start, *last);
        let OpenError::Corrupt { segment, offset, damage, lost, .. } = damage else {
            return vec![damage.to_string()];
        };
        let mut lines = vec![
            format!("lost already: {}", words::lost(lost)),
            format!("given up with that: {with_it}"),
            format!("left: entries {left}"),
            format!("because {segment} is damaged at offset {offset}: {damage}"),
        ];
        if *is_begun {
            lines.push("this was begun and interrupted; what is left to do is to finish it".into());
        }
        lines
    }

    /// The note that keeps the server from starting.
    fn note(&self, backup: &Path) -> String {
        let lines = self.lines();
        // The same words when it is run again.
        let (what, why) = lines.split_at_checked(3).unwrap_or((&lines, &[]));
        let why = why.get(..1).unwrap_or(why);
        let copy = format!("a copy of the log as it was: {}", backup.display());
        format!("{}\n{}\n{copy}", what.join("; "), why.join("; "))
    }

    fn json(&self) -> Value {
        let Plan { damage, start, last, given_up, .. } = self.plan;
        let lost = match damage {
            OpenError::Corrupt { lost, .. } => words::lost_json(lost),
            _ => Value::Null,
        };
        let rows = given_up.iter().map(|(first, last)| {
            json!({
                "first": words::position_json(*first),
                "last": words::position_json(*last),
            })
        });
        json!({
            "damage": damage.to_string(),
            "lost": lost,
            "readable": rows.collect::<Vec<_>>(),
            "start": words::position_json(*start),
            "last": words::position_json(*last),
        })
    }

    fn refuse(&self, typed: &str) -> Failure {
        let what = "a repair would lose history, so nothing was changed";
        let failure =
            self.lines().into_iter().fold(Failure::new(Exit::Damaged, what), Failure::detail);
        failure
            .detail(format!(
                "to copy the log beside itself and give it up: kvctl wal repair --data {typed} \
                 --accept-data-loss"
            ))
            .detail("either way the server comes back only as a new member: kvctl help recovery")
    }
}
