//! Answers clients. One turn of its loop takes all that has come, passes the writes on, answers
//! what is durable by now, and then writes and syncs, while the others do the same.

use std::collections::VecDeque;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use load::Result;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::connection::{Connection, Heard, read_buffer};
use crate::file::Journal;
use crate::follower::{ACKNOWLEDGEMENT_BYTES, BATCH_HEAD_BYTES, batch_head};
use crate::frames::{self, Template};

/// What epoll calls the listener; connections have the numbers of their places.
const LISTENER: u64 = u64::MAX;

/// How long the followers may take to fill their files and to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A write that waits to be durable.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: usize,
    id: u64,
}

/// The places of the followers come first in `connections`. A place is never given away again:
/// somebody may still be answered there.
struct Leader {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// The last batch that each follower has synced.
    acknowledged: Vec<u64>,
    journal: Journal,
    /// The head of the batch that is being gathered, and its frames.
    batch: Vec<u8>,
    batch_number: u64,
    gathered: Vec<Waiting>,
    /// Batches that are under way, with whoever waits for them.
    under_way: VecDeque<(u64, Vec<Waiting>)>,
    /// Places with something to send.
    dirty: Vec<usize>,
    written: Template,
    found: Template,
    welcome: Vec<u8>,
}

/// Serves clients until the process is ended.
pub(crate) fn run(listen: SocketAddrV4, followers: &[SocketAddrV4], file: &Path) -> Result<()> {
    let journal = Journal::make(file)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for follower in followers {
        connections.push(Some(Connection::new(connect(*follower)?)?));
    }
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), readable)?;
    for (place, connection) in connections.iter().flatten().enumerate() {
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&epoll, &connection.stream, data, readable)?;
    }
    let leader = Leader {
        epoll,
        listener,
        acknowledged: vec![0; connections.len()],
        connections,
        journal,
        batch: vec![0; BATCH_HEAD_BYTES],
        batch_number: 0,
        gathered: Vec::new(),
        under_way: VecDeque::new(),
        dirty: Vec::new(),
        written: frames::written()?,
        found: frames::found()?,
        welcome: frames::welcome()?.to_vec(),
    };
    leader.run()
}

fn connect(follower: SocketAddrV4) -> Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(follower) {
            Ok(stream) => return Ok(stream),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

impl Leader {
    fn run(mut self) -> Result<()> {
        let mut buffer = read_buffer();
        let mut events = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (place, flags) = (event.data.u64(), event.flags);
                if place == LISTENER {
                    self.accept()?;
                    continue;
                }
                if flags.contains(epoll::EventFlags::OUT) {
                    self.dirty.push(place as usize);
                }
                if flags != epoll::EventFlags::OUT {
                    self.receive(place as usize, &mut buffer)?;
                }
            }
            self.pass_on()?;
            self.answer();
            self.flush()?;
            self.sync()?;
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let data = epoll::EventData::new_u64(self.connections.len() as u64);
                    epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
                    self.connections.push(Some(Connection::new(stream)?));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&mut self, place: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(connection) = &mut self.connections[place] else { return Ok(()) };
        let heard = connection.receive(buffer)?;
        if place < self.acknowledged.len() {
            if heard == Heard::Closed {
                return Err("a follower is gone".into());
            }
            while let Some(number) = connection.input().first_chunk::<ACKNOWLEDGEMENT_BYTES>() {
                self.acknowledged[place] = u64::from_le_bytes(*number);
                connection.consume(ACKNOWLEDGEMENT_BYTES);
            }
            return Ok(());
        }
        if heard == Heard::Closed {
            self.connections[place] = None;
            return Ok(());
        }
        while let Some(head) = frames::head(connection.input()) {
            match head.kind {
                frames::WRITE => {
                    self.batch.extend_from_slice(&connection.input()[..head.bytes]);
                    self.gathered.push(Waiting { place, id: head.id });
                }
                frames::GET => {
                    let key = frames::key_of(&connection.input()[..head.bytes]);
                    self.found.append(&mut connection.out, head.id, key);
                }
                frames::HELLO => connection.out.extend_from_slice(&self.welcome),
                // A client that asks for a sign of life does without.
                _ => {}
            }
            connection.consume(head.bytes);
        }
        if !connection.out.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(place);
        }
        Ok(())
    }

    /// Sends the batch that was gathered to the followers.
    fn pass_on(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.batch_number += 1;
        let bytes = self.batch.len() - BATCH_HEAD_BYTES;
        self.batch[..BATCH_HEAD_BYTES].copy_from_slice(&batch_head(self.batch_number, bytes));
        for (place, follower) in self.connections.iter_mut().enumerate() {
            if let Some(follower) = follower.as_mut().filter(|_| place < self.acknowledged.len()) {
                follower.out.extend_from_slice(&self.batch);
                if !follower.flush()? {
                    let data = epoll::EventData::new_u64(place as u64);
                    let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                    epoll::modify(&self.epoll, &follower.stream, data, both)?;
                }
            }
        }
        Ok(())
    }

    /// Answers everybody whose write one follower has synced; what is under way is synced here.
    fn answer(&mut self) {
        let durable = self.acknowledged.iter().copied().max().unwrap_or(u64::MAX);
        while self.under_way.front().is_some_and(|(number, _)| *number <= durable) {
            let Some((_, answered)) = self.under_way.pop_front() else { break };
            for Waiting { place, id } in answered {
                let Some(connection) = &mut self.connections[place] else { continue };
                self.written.append(&mut connection.out, id, 0);
                if !connection.is_dirty {
                    connection.is_dirty = true;
                    self.dirty.push(place);
                }
            }
        }
    }

    /// Sends what connections have to send; a socket that is full is watched until it is not.
    fn flush(&mut self) -> Result<()> {
        for place in std::mem::take(&mut self.dirty) {
            let Some(connection) = &mut self.connections[place] else { continue };
            let mut flags = epoll::EventFlags::IN;
            let was_full = !connection.is_dirty;
            let is_full = !connection.flush()?;
            flags.set(epoll::EventFlags::OUT, is_full);
            if is_full || was_full {
                let data = epoll::EventData::new_u64(place as u64);
                epoll::modify(&self.epoll, &connection.stream, data, flags)?;
            }
        }
        Ok(())
    }

    /// Writes and syncs the batch that was passed on.
    fn sync(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.journal.append(&self.batch)?;
        self.batch.truncate(BATCH_HEAD_BYTES);
        let waiting = std::mem::take(&mut self.gathered);
        self.under_way.push_back((self.batch_number, waiting));
        if self.acknowledged.is_empty() {
            // Without followers it is durable now.
            self.answer();
            self.flush()?;
        }
        Ok(())
    }
}
