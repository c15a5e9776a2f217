//! The latest start of every other server that was seen, so that a directory that is older than
//! what its server once said is not believed, also after all of them were stopped.
//!
//! A server whose directory was replaced by an older copy has forgotten votes and entries, and its
//! boot number tells, or, if that has grown to the same again, the nonce that was drawn for it.
//! Whoever has seen another one must not count it, so both are durable here before anything that
//! the server says under them is acted upon. With them stands the term that the directory knew
//! then, so that one is known that has forgotten even that its server was a member. That costs one
//! write and one sync for each start of another server, and one when it becomes a member, in a file
//! that was allocated beforehand:
//!
//! ```text
//! two slots of 8192 bytes, written in turn, little endian:
//!   0  magic "KVCTLBTS"   8  version u16   10  count u16   12  length u32 of what follows byte 24
//!  16  sequence u64
//!  24  count times: incarnation u64, boot u64, nonce u64, term u64, length of the name u8, name
//!                                                                        at the end, crc32 of all
//! ```
//!
//! The slot with the higher sequence counts. If one is rotten the other one tells what was known
//! before the latest write; if both are, this server has forgotten, says so, and goes on: it
//! promised nothing by what it has seen.

use std::collections::BTreeMap;
use std::io;

use wal::{Disk, File};

use super::directory::replace_file;
use super::identity::Start;
use crate::node::{Boot, COUNTER_MAX, Incarnation, Member, NodeId, Term};

/// The file's name.
pub(super) const NAME: &str = "boots";
const MAGIC: &[u8; 8] = b"KVCTLBTS";
const VERSION: u16 = 3;
const HEADER_BYTES: usize = 24;
const SLOT_BYTES: usize = 8192;
const SLOTS: [u64; 2] = [0, SLOT_BYTES as u64];

/// So many fit, with the longest of names.
const MEMBERS_MAX: usize = (SLOT_BYTES - HEADER_BYTES - 4) / (33 + NodeId::BYTES_MAX);

/// What is known of others' boots, and where it is kept.
#[derive(Debug, Default)]
pub struct Boots {
    seen: BTreeMap<Member, Seen>,
    /// `None` where there was no room for it; then what was seen is remembered only in memory.
    file: Option<BootsFile>,
    trouble: Option<String>,
}

#[derive(Debug)]
struct BootsFile {
    file: Box<dyn File>,
    sequence: u64,
}

/// How a start compares with what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is the latest that was ever seen, and that is durable.
    Current,
    /// A later one was seen, or another that counted the same: the directory was replaced by an
    /// older one.
    RolledBack {
        /// The latest that was seen.
        seen: Seen,
    },
    /// So many starts do not lie between this one and the latest that was seen: somebody makes up
    /// numbers. It is not noted.
    Absurd {
        /// The latest that was seen.
        seen: Seen,
    },
}

/// No server is started so often without being seen: for days on end every tenth of a second.
const UNSEEN_STARTS_MAX: u64 = 1 << 22;

/// What was seen of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its start.
    pub start: Start,
    /// The latest term that was durable in it when that was noted. Zero before its server is a
    /// member of a cluster.
    pub term: Term,
}

impl Seen {
    /// Whether this can be no directory that was `before` earlier.
    #[must_use]
    pub fn is_turned_back_from(self, before: Seen) -> bool {
        // What one start said earlier may be heard later.
        let lacks_term = self.start != before.start && self.term < before.term;
        self.start.is_turned_back_from(before.start) || lacks_term
    }
}

impl Boots {
    /// Reads what was noted, or makes the file. Nothing that can go wrong keeps a server from
    /// starting; [`trouble`](Self::trouble) tells.
    pub(super) fn open(disk: &dyn Disk) -> Self {
        let path = disk.path(NAME);
        match find(disk) {
            Ok(Some(Found { file, slots })) => {
                let rotten = slots.iter().filter(|slot| slot.is_none()).count();
                let newest = slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence);
                let trouble = match (&newest, rotten) {
                    (None, _) => Some(format!(
                        "{path} is damaged: which starts of other servers were seen is forgotten, \
                         so a directory of theirs that was rolled back may go unnoticed"
                    )),
                    (Some(_), 1) => Some(format!(
                        "one half of {path} is damaged: the start of another server that was seen \
                         last may be forgotten"
                    )),
                    _ => None,
                };
                let (sequence, seen) = newest.unwrap_or_default();
                Self { seen, file: Some(BootsFile { file, sequence }), trouble }
            }
            Ok(None) => match create(disk) {
                Ok(file) => Self { file: Some(BootsFile { file, sequence: 2 }), ..Self::default() },
                Err(error) => Self::in_memory(&path, &error),
            },
            Err(error) => Self::in_memory(&path, &error),
        }
    }

    fn in_memory(path: &str, error: &io::Error) -> Self {
        let trouble = format!(
            "{path}: {error}; which starts of other servers are seen is remembered only until \
             this one stops"
        );
        Self { trouble: Some(trouble), ..Self::default() }
    }

    /// What was wrong with the file, in words.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether another server's directory was seen further than it is now.
    #[must_use]
    pub fn compare(&self, member: Member, now: Seen) -> Sighting {
        match self.seen.get(&member) {
            Some(seen) if now.is_turned_back_from(*seen) => Sighting::RolledBack { seen: *seen },
            _ => Sighting::Current,
        }
    }

    /// Compares the start of another server with what was seen, and notes it durably if it is
    /// later. Of servers that `is_known` does not know, only some are remembered.
    ///
    /// # Errors
    /// The disk failed; nothing that this start says may be acted upon.
    pub fn see(
        &mut self,
        member: Member,
        now: Seen,
        is_known: impl Fn(Member) -> bool,
    ) -> io::Result<Sighting> {
        match self.seen.get(&member) {
            Some(seen) if now.is_turned_back_from(*seen) => {
                return Ok(Sighting::RolledBack { seen: *seen });
            }
            Some(seen) if now.start.boot.0 - seen.start.boot.0 > UNSEEN_STARTS_MAX => {
                return Ok(Sighting::Absurd { seen: *seen });
            }
            // No election reaches such a term, and once noted it would turn every honest start
            // away.
            seen if now.term.0 > COUNTER_MAX => {
                return Ok(Sighting::Absurd { seen: seen.copied().unwrap_or(now) });
            }
            // Later terms of the same start are not worth a write each.
            Some(seen) if seen.start == now.start && (seen.term == now.term || seen.term.0 > 0) => {
                return Ok(Sighting::Current);
            }
            _ => {}
        }
        let mut seen = self.seen.clone();
        if !seen.contains_key(&member) && seen.len() >= MEMBERS_MAX {
            let stranger = seen.keys().copied().find(|other| !is_known(*other));
            match stranger {
                Some(stranger) if is_known(member) => seen.remove(&stranger),
                // There is no place for it, and nobody counts it.
                _ => return Ok(Sighting::Current),
            };
        }
        seen.insert(member, now);
        if let Some(file) = &mut self.file {
            file.write(&seen)?;
        }
        self.seen = seen;
        Ok(Sighting::Current)
    }
}

/// What a slot holds, if it is whole.
type Slot = Option<(u64, BTreeMap<Member, Seen>)>;

struct Found {
    file: Box<dyn File>,
    slots: [Slot; 2],
}

/// The file and what its slots hold; `None` if there is no file.
fn find(disk: &dyn Disk) -> io::Result<Option<Found>> {
    if !disk.list()?.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    let file = disk.open(NAME)?;
    // What the cache holds may never have reached the disk.
    file.sync_all()?;
    file.drop_cache()?;
    if file.len()? < 2 * SLOT_BYTES as u64 {
        file.set_len(2 * SLOT_BYTES as u64)?;
    }
    let slots = SLOTS.map(|place| {
        let mut slot = vec![0; SLOT_BYTES];
        wal::disk::read_exact_at(file.as_ref(), &mut slot, place).ok()?;
        decode(&slot)
    });
    Ok(Some(Found { file, slots }))
}

/// Makes the file, durable with its name, so that no later write of it needs space.
fn create(disk: &dyn Disk) -> io::Result<Box<dyn File>> {
    replace_file(disk, NAME, |file| {
        let mut slots = SLOTS.into_iter().zip(1..);
        slots.try_for_each(|(place, sequence)| {
            wal::disk::write_all_at(file, &encode(sequence, &BTreeMap::new()), place)
        })
    })
}

impl BootsFile {
    /// Writes over the older slot.
    fn write(&mut self, seen: &BTreeMap<Member, Seen>) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let [odd, even] = SLOTS;
        let place = if sequence % 2 == 1 { odd } else { even };
        wal::disk::write_all_at(self.file.as_ref(), &encode(sequence, seen), place)?;
        wal::disk::uninterrupted(|| self.file.sync_data())?;
        self.sequence = sequence;
        Ok(())
    }
}

fn encode(sequence: u64, seen: &BTreeMap<Member, Seen>) -> Vec<u8> {
    let mut members = Vec::new();
    for (member, Seen { start, term }) in seen {
        members.extend_from_slice(&member.incarnation.0.to_le_bytes());
        members.extend_from_slice(&start.boot.0.to_le_bytes());
        members.extend_from_slice(&start.nonce.to_le_bytes());
        members.extend_from_slice(&term.0.to_le_bytes());
        let name = member.id.as_str();
        members.push(u8::try_from(name.len()).unwrap_or(0));
        members.extend_from_slice(name.as_bytes());
    }
    let mut slot = MAGIC.to_vec();
    slot.extend_from_slice(&VERSION.to_le_bytes());
    slot.extend_from_slice(&u16::try_from(seen.len()).unwrap_or(0).to_le_bytes());
    slot.extend_from_slice(&u32::try_from(members.len()).unwrap_or(0).to_le_bytes());
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&members);
    slot.resize(SLOT_BYTES - 4, 0);
    let checksum = crc32fast::hash(&slot);
    slot.extend_from_slice(&checksum.to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Slot {
    let (body, checksum) = slot.split_last_chunk::<4>()?;
    let (header, rest) = body.split_at_checked(HEADER_BYTES)?;
    let version = u16::from_le_bytes(header.get(8..10)?.try_into().ok()?);
    let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*checksum)
        && header.starts_with(MAGIC)
        && version == VERSION;
    if !is_whole {
        return None;
    }
    let count = u16::from_le_bytes(header.get(10..12)?.try_into().ok()?);
    let length = u32::from_le_bytes(header.get(12..16)?.try_into().ok()?);
    let sequence = u64::from_le_bytes(header.get(16..24)?.try_into().ok()?);
    let mut members = rest.get(..usize::try_from(length).ok()?)?;
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let (incarnation, rest) = members.split_first_chunk()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (term, rest) = rest.split_first_chunk()?;
        let (name_length, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_length))?;
        members = rest;
        let id = NodeId::new(std::str::from_utf8(name).ok()?).ok()?;
        let incarnation = Incarnation(u64::from_le_bytes(*incarnation));
        let (boot, nonce) = (Boot(u64::from_le_bytes(*boot)), u64::from_le_bytes(*nonce));
        let term = Term(u64::from_le_bytes(*term));
        let start = Start { boot, nonce };
        seen.insert(Member { id, incarnation }, Seen { start, term });
    }
    members.is_empty().then_some((sequence, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::sim_disk::{Fault, OperationKind, SimDisk};

    fn member(name: &str, incarnation: u64) -> Member {
        Member { id: NodeId::new(name).unwrap(), incarnation: Incarnation(incarnation) }
    }

    fn see(boots: &mut Boots, member: Member, boot: u64) -> Sighting {
        boots.see(member, start(boot), |_| true).unwrap()
    }

    fn start(boot: u64) -> Seen {
        Seen { start: Start { boot: Boot(boot), nonce: 1000 + boot }, term: Term(2) }
    }

    #[test]
    fn a_slot_has_these_very_bytes() {
        let seen = BTreeMap::from([(member("s1", 77), start(5)), (member("s2", 1), start(2))]);
        let slot = encode(3, &seen);
        let expected: Vec<u8> = [
            b"KVCTLBTS".as_slice(),
            &[3, 0, 2, 0, 70, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[77, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0xed, 3, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 2],
            b"s1",
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xea, 3, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 2],
            b"s2",
        ]
        .concat();
        assert_eq!(&slot[..expected.len()], expected);
        assert!(slot[expected.len()..SLOT_BYTES - 4].iter().all(|&byte| byte == 0));
        assert_eq!(decode(&slot), Some((3, seen)));
        for bit in 0..slot.len() * 8 {
            let mut flipped = slot.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn what_was_seen_survives_a_power_cut_and_only_a_later_boot_writes() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        assert_eq!(see(&mut boots, member("s2", 1), 4), Sighting::Current);
        let writes = medium.count(Some(OperationKind::Write));
        assert_eq!(see(&mut boots, member("s2", 1), 4), Sighting::Current);
        let rolled_back = Sighting::RolledBack { seen: start(4) };
        assert_eq!(see(&mut boots, member("s2", 1), 3), rolled_back);
        assert_eq!(medium.count(Some(OperationKind::Write)), writes);
        medium.crash(1);
        let mut boots = Boots::open(medium.disk().as_ref());
        assert_eq!(boots.trouble(), None);
        assert_eq!(see(&mut boots, member("s2", 1), 3), rolled_back);
        assert_eq!(see(&mut boots, member("s2", 9), 1), Sighting::Current, "another life of it");
        assert_eq!(see(&mut boots, member("s2", 1), 3), rolled_back, "takes nothing from this one");
    }

    #[test]
    fn the_same_count_of_starts_with_another_nonce_is_another_directory() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        let s2 = member("s2", 1);
        see(&mut boots, s2, 4);
        let again = Seen { start: Start { boot: Boot(4), nonce: 7 }, ..start(4) };
        for _ in 0..2 {
            let sighting = boots.see(s2, again, |_| true).unwrap();
            assert_eq!(sighting, Sighting::RolledBack { seen: start(4) });
            medium.crash(1);
            boots = Boots::open(medium.disk().as_ref());
        }
        assert_eq!(see(&mut boots, s2, 4), Sighting::Current, "the one that was seen is believed");
    }

    #[test]
    fn a_member_that_has_forgotten_that_it_is_one_is_known_also_by_its_next_start() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        let s2 = member("s2", 1);
        let at = |boot, term| Seen { term: Term(term), ..start(boot) };
        let note = |boots: &mut Boots, now| boots.see(s2, now, |_| true).unwrap();
        assert_eq!(note(&mut boots, at(1, 0)), Sighting::Current);
        assert_eq!(note(&mut boots, at(1, 1)), Sighting::Current, "it becomes a member");
        let writes = medium.count(Some(OperationKind::Write));
        assert_eq!(note(&mut boots, at(1, 9)), Sighting::Current);
        assert_eq!(medium.count(Some(OperationKind::Write)), writes, "terms are not noted");
        medium.crash(1);
        let mut boots = Boots::open(medium.disk().as_ref());
        let forgotten = Sighting::RolledBack { seen: at(1, 1) };
        assert_eq!(note(&mut boots, at(2, 0)), forgotten);
        assert_eq!(boots.compare(s2, at(2, 0)), forgotten);
        assert_eq!(boots.compare(s2, at(2, 1)), Sighting::Current);
    }

    #[test]
    fn a_leap_that_no_server_makes_is_not_noted() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        see(&mut boots, member("s2", 1), 4);
        let absurd = Sighting::Absurd { seen: start(4) };
        assert_eq!(see(&mut boots, member("s2", 1), 1 << 40), absurd);
        assert_eq!(see(&mut boots, member("s2", 1), 5), Sighting::Current);
        let seen = Sighting::RolledBack { seen: start(5) };
        assert_eq!(see(&mut boots, member("s2", 1), 4), seen);
    }

    #[test]
    fn a_term_that_no_election_reaches_is_not_noted() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        let far = Seen { term: Term(COUNTER_MAX + 1), ..start(4) };
        for member in [member("s2", 1), member("s3", 1)] {
            let sighting = boots.see(member, far, |_| true).unwrap();
            assert!(matches!(sighting, Sighting::Absurd { .. }), "{sighting:?}");
            assert_eq!(see(&mut boots, member, 5), Sighting::Current);
        }
    }

    #[test]
    fn a_power_cut_while_it_is_noted_leaves_what_was_known_before() {
        for cut in 0..2 {
            for seed in 0..20 {
                let medium = SimDisk::new();
                let mut boots = Boots::open(medium.disk().as_ref());
                for boot in 1..=4 {
                    see(&mut boots, member("s2", 1), boot);
                }
                medium.inject(cut, None, Fault::PowerOff);
                assert!(boots.see(member("s2", 1), start(5), |_| true).is_err());
                medium.crash(seed);
                let mut boots = Boots::open(medium.disk().as_ref());
                let sighting = see(&mut boots, member("s2", 1), 3);
                assert!(matches!(sighting, Sighting::RolledBack { .. }), "cut {cut}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_damaged_file_is_told_and_keeps_nobody_from_going_on() {
        for harm in ["rotten", "short", "empty", "unreadable"] {
            let medium = SimDisk::new();
            let mut boots = Boots::open(medium.disk().as_ref());
            see(&mut boots, member("s2", 1), 4);
            drop(boots);
            match harm {
                "rotten" => assert!(medium.corrupt(NAME, |bytes| bytes.fill(7))),
                "short" => assert!(medium.corrupt(NAME, |bytes| bytes.truncate(100))),
                "empty" => assert!(medium.corrupt(NAME, Vec::clear)),
                _ => assert!(medium.spoil_sector(NAME, 0) && medium.spoil_sector(NAME, 16)),
            }
            let mut boots = Boots::open(medium.disk().as_ref());
            assert!(boots.trouble().is_some_and(|it| it.contains("is damaged")), "{harm}");
            assert_eq!(see(&mut boots, member("s2", 1), 3), Sighting::Current, "{harm}");
            see(&mut boots, member("s2", 1), 5);
            drop(boots);
            medium.crash(3);
            let mut boots = Boots::open(medium.disk().as_ref());
            let seen = Sighting::RolledBack { seen: start(5) };
            assert_eq!(see(&mut boots, member("s2", 1), 3), seen, "{harm}: it is kept again");
        }
    }

    #[test]
    fn one_damaged_slot_is_told_and_the_other_counts() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        (1..=4)
            .for_each(|boot| assert_eq!(see(&mut boots, member("s2", 1), boot), Sighting::Current));
        assert!(medium.corrupt(NAME, |bytes| bytes[SLOT_BYTES + 30] ^= 1));
        let mut boots = Boots::open(medium.disk().as_ref());
        assert!(boots.trouble().is_some_and(|it| it.contains("one half")));
        let seen = see(&mut boots, member("s2", 1), 1);
        assert!(matches!(seen, Sighting::RolledBack { .. }), "{seen:?}");
    }

    #[test]
    fn members_always_find_a_place_and_strangers_take_a_bounded_one() {
        let medium = SimDisk::new();
        let mut boots = Boots::open(medium.disk().as_ref());
        let us = member("us", 1);
        for stranger in 0..2 * MEMBERS_MAX as u64 {
            let stranger = member(&"x".repeat(NodeId::BYTES_MAX), stranger);
            boots.see(stranger, start(1), |it| it == us).unwrap();
        }
        boots.see(us, start(8), |it| it == us).unwrap();
        assert_eq!(boots.seen.len(), MEMBERS_MAX);
        medium.crash(4);
        let mut boots = Boots::open(medium.disk().as_ref());
        assert_eq!(see(&mut boots, us, 7), Sighting::RolledBack { seen: start(8) });
    }

    #[test]
    fn without_room_for_the_file_it_is_remembered_in_memory_and_told() {
        let medium = SimDisk::new();
        medium.set_room(Some(100));
        let mut boots = Boots::open(medium.disk().as_ref());
        assert!(boots.trouble().is_some_and(|it| it.contains("only until this one stops")));
        see(&mut boots, member("s2", 1), 4);
        assert_eq!(see(&mut boots, member("s2", 1), 3), Sighting::RolledBack { seen: start(4) });
    }
}
