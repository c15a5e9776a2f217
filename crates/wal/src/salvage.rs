//! Making a log with lost history open again, without the part that cannot be accounted for.
//!
//! What comes out is a log that has forgotten things: whoever keeps promises by it has broken
//! them. A replica must not go on as itself afterwards.
//!
//! Nothing is thrown away, and no segment is written to. What is to come out is worked out on a
//! draft. Each segment that would change is made anew under a temporary name; then all of them
//! change places with the old ones at once, in an [`Exchange`], and the old ones stay under names
//! that no log looks at. Until the exchange is written down the log is as it was. From then on it
//! does not open before the exchange is finished, which running the salvage again does.

use std::sync::Arc;

use crate::backup::copy;
use crate::disk::{Disk, uninterrupted};
use crate::draft::DraftDisk;
use crate::entry::Position;
use crate::error::{Damage, Failure, OpenError};
use crate::exchange::{Exchange, prepared_name};
use crate::given_up::GivenUp;
use crate::giving_up::Salvager;
use crate::inspect::Inspector;
use crate::inventory::settle_medium;
use crate::open::{Examined, examine, put_in_order};
use crate::segment::parse_segment_name;
use crate::survey::Check;
use crate::window::Window;

/// What was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The position before the first entry that is left.
    pub start: Position,
    /// The last entry that is left.
    pub last: Position,
    /// The files that were put aside.
    pub aside: Vec<String>,
}

/// What salvaging a log would come to.
#[derive(Debug)]
pub struct Plan {
    /// Why the log does not open: where history was lost, and which entries with it.
    pub damage: OpenError,
    /// The position before the first entry that would be left.
    pub start: Position,
    /// The last entry that would be left.
    pub last: Position,
    /// Entries that can still be read and would be given up all the same, since they stand behind
    /// something that is lost: the first and the last of each row of them. Those that the log
    /// itself has cut or dropped are not among them.
    pub given_up: Vec<(Position, Position)>,
    /// A salvage was interrupted when it could not go back any more, and is to be finished.
    pub is_begun: bool,
}

/// A salvage that was worked out, and nothing of it done.
#[derive(Debug)]
struct Draft {
    disk: Arc<DraftDisk>,
    left: Examined,
}

impl Inspector {
    /// Gives up what has to be given up so that the log opens: from the first damaged place on, or,
    /// where the beginning is missing, up to the first segment that is whole.
    ///
    /// A log that opens anyway is left alone. Fails with the error of opening if nothing can be
    /// saved. If it fails or is interrupted, in whatever way, nothing is lost: the log is as it
    /// was, or does not open before it was salvaged again, which comes to the same result.
    pub fn salvage(&self) -> Result<Salvage, OpenError> {
        self.salvage_if(|_| Ok(()))
    }

    /// Does what a plan says. Fails before anything is done if something else would come out,
    /// because the medium does not read as it did.
    pub fn carry_out(&self, plan: &Plan) -> Result<Salvage, OpenError> {
        self.salvage_if(|left| {
            if left == (plan.start, plan.last) {
                return Ok(());
            }
            Err(self.changed("what would be left is not what was planned; nothing was done"))
        })
    }

    /// What [`salvage`](Inspector::salvage) would leave and give up, without doing it; `None` if
    /// the log opens anyway. Fails as salvaging would.
    pub fn plan_salvage(&self) -> Result<Option<Plan>, OpenError> {
        let exchange = Exchange::read(&*self.disk)?;
        let original = self.original()?;
        let damage = match examine(&*original, self.check(), &mut Window::default()) {
            Ok(Some(_)) if exchange.is_none() => return Ok(None),
            Ok(Some(_)) => OpenError::HalfSalvaged { path: self.disk.path("") },
            Ok(None) => return Err(OpenError::NoLog { path: self.disk.path("") }),
            Err(damage @ OpenError::Corrupt { .. }) => damage,
            Err(error) => return Err(error),
        };
        let left = match &exchange {
            Some(exchange) => self.after(exchange)?,
            None => None,
        };
        let left = match left {
            Some(left) => left,
            None => self.draft()?.left,
        };
        let (start, last) = left.ends();
        let damage = without_what_is_left(damage, last);
        let mut entries = GivenUp::default();
        self.dump(|item| entries.note(&item))?;
        let given_up = entries.without(start, last, &left.runs);
        let is_begun = exchange.is_some();
        Ok(Some(Plan { damage, start, last, given_up, is_begun }))
    }

    /// The log as it was before a salvage that was interrupted; usually the log itself.
    pub(crate) fn original(&self) -> Result<Arc<dyn Disk>, OpenError> {
        let Some(exchange) = Exchange::read(&*self.disk)? else {
            return Ok(Arc::clone(&self.disk));
        };
        let draft = self.sheet(Arc::clone(&self.disk))?;
        exchange.undo(&*draft)?;
        Ok(draft)
    }

    fn sheet(&self, disk: Arc<dyn Disk>) -> Result<Arc<DraftDisk>, Failure> {
        DraftDisk::over(disk).map_err(|error| Failure::new("list", self.disk.path(""), error))
    }

    /// Works out what a salvage comes to.
    fn draft(&self) -> Result<Draft, OpenError> {
        let disk = self.sheet(self.original()?)?;
        let left = Salvager::on(Arc::clone(&disk)).run()?;
        // What is left shall be in order, and what that takes away is given up like the rest.
        put_in_order(&*disk, &left.verdict)?;
        Ok(Draft { disk, left })
    }

    /// The log as it will be behind an exchange; `None` if what was made for it has rotted since.
    fn after(&self, exchange: &Exchange) -> Result<Option<Examined>, OpenError> {
        let disk = self.sheet(Arc::clone(&self.disk))?;
        exchange.finish(&*disk)?;
        match examine(&*disk, Check::default(), &mut Window::default()) {
            Err(OpenError::Corrupt { .. }) => Ok(None),
            examined => examined,
        }
    }

    fn salvage_if(
        &self,
        agree: impl Fn((Position, Position)) -> Result<(), OpenError>,
    ) -> Result<Salvage, OpenError> {
        settle_medium(&*self.disk)?;
        if let Some(exchange) = Exchange::read(&*self.disk)? {
            // Its name is durable by now: the medium was settled.
            if let Some(left) = self.after(&exchange)? {
                let ends = left.ends();
                agree(ends)?;
                return self.change_places(&exchange, ends);
            }
            // All that it was made of is still there.
            exchange.undo(&*self.disk)?;
        }
        match examine(&*self.disk, self.check(), &mut Window::default()) {
            Ok(Some(examined)) => {
                let (start, last) = examined.ends();
                agree((start, last))?;
                return Ok(Salvage { start, last, aside: Vec::new() });
            }
            Ok(None) => return Err(OpenError::NoLog { path: self.disk.path("") }),
            Err(OpenError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let draft = self.draft()?;
        let ends = draft.left.ends();
        agree(ends)?;
        self.remove_prepared()?;
        let exchange = self.prepare(&draft).inspect_err(|_| {
            // Of no use to anybody; what stays is removed by whoever comes next.
            let _ = self.remove_prepared();
        })?;
        // From here on there is no way back, only forward.
        Exchange::commit(&*self.disk)?;
        self.change_places(&exchange, ends)
    }

    /// Makes every new file, durably and under its temporary name, and sees whether the log opens
    /// with them.
    fn prepare(&self, draft: &Draft) -> Result<Exchange, OpenError> {
        let disk = &*self.disk;
        let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
        let kept = draft.list()?;
        let changed = draft.disk.changed();
        let is_given_up = |name: &&String| {
            parse_segment_name(name).is_some() && (!kept.contains(*name) || changed.contains(*name))
        };
        let mut exchange = Exchange::default();
        for name in names.iter().filter(is_given_up) {
            exchange.put_aside(name, &names);
        }
        for name in &changed {
            let Some(sequence) = parse_segment_name(name) else { continue };
            let prepared = prepared_name(sequence);
            copy(&*draft.disk, name, disk, &prepared)
                .map_err(|error| Failure::new("make", disk.path(&prepared), error))?;
            exchange.put(&prepared, name);
        }
        uninterrupted(|| disk.sync())
            .map_err(|error| Failure::new("sync directory", disk.path(""), error))?;
        // An entry that could be read when the draft was made, and could not be copied, would be
        // lost for good.
        let made = self.after(&exchange)?;
        let is_as_meant = made.is_some_and(|made| {
            made.ends() == draft.left.ends() && made.verdict.lost == draft.left.verdict.lost
        });
        if !is_as_meant {
            return Err(self.changed("what was made does not read as it was meant to"));
        }
        exchange.write(disk)?;
        Ok(exchange)
    }

    /// Carries out an exchange that counts.
    fn change_places(
        &self,
        exchange: &Exchange,
        (start, last): (Position, Position),
    ) -> Result<Salvage, OpenError> {
        exchange.finish(&*self.disk)?;
        let aside = exchange.names_aside().map(|name| self.disk.path(name)).collect();
        Ok(Salvage { start, last, aside })
    }

    /// Removes what a salvage has made that was interrupted before the exchange.
    fn remove_prepared(&self) -> Result<(), Failure> {
        let disk = &self.disk;
        let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
        for name in names.iter().filter(|name| Exchange::has_prepared(name)) {
            disk.remove(name).map_err(|error| Failure::new("remove", disk.path(name), error))?;
        }
        Ok(())
    }

    fn changed(&self, what: &str) -> OpenError {
        let error = std::io::Error::other(what.to_owned());
        Failure::new("salvage", self.disk.path(""), error).into()
    }
}

impl Draft {
    fn list(&self) -> Result<Vec<String>, Failure> {
        let disk = &self.disk;
        disk.list().map_err(|error| Failure::new("list", disk.path(""), error))
    }
}

/// Of a segment that was cut short, what stands before the cut is not lost.
fn without_what_is_left(damage: OpenError, last: Position) -> OpenError {
    match damage {
        OpenError::Corrupt { segment, sequence, offset, damage: Damage::Length, mut lost } => {
            lost.after = lost.after.max(last);
            lost.through = lost.through.filter(|through| *through >= lost.after.index);
            OpenError::Corrupt { segment, sequence, offset, damage: Damage::Length, lost }
        }
        damage => damage,
    }
}
