//! Asks in a closed loop, on one thread, without a client library. It sends valid requests of our
//! protocol, so it can be put on our servers as well as on the floor.

use std::io::Write;
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use load::{KEYS, Load, Operation, Report, Result, SplitMix, Tally};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::connection::{Connection, Heard, read_buffer};
use crate::frames::{self, Template};

/// How long to wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client, and the requests that it has under way.
struct Asker {
    connection: Connection,
    /// When each request started; a request's place is its id modulo their number.
    started: Vec<Instant>,
    under_way: usize,
    is_watched_for_room: bool,
}

struct Asking {
    epoll: OwnedFd,
    askers: Vec<Asker>,
    operation: Operation,
    random: SplitMix,
    write: Template,
    get: Template,
    tally: Tally,
}

/// Measures.
pub(crate) fn run(endpoint: SocketAddrV4, load: &Load) -> Result<Report> {
    if load.rate.is_some() {
        return Err("this client knows no open loop".into());
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut askers = Vec::new();
    for place in 0..load.clients {
        let mut stream = TcpStream::connect(endpoint)?;
        stream.write_all(&frames::hello()?)?;
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
        askers.push(Asker {
            connection: Connection::new(stream)?,
            started: vec![Instant::now(); load.pipeline.max(1)],
            under_way: 0,
            is_watched_for_room: false,
        });
    }
    let mut asking = Asking {
        epoll,
        askers,
        operation: load.operation,
        random: SplitMix(0),
        write: frames::write()?,
        get: frames::get()?,
        tally: Tally::begin(load.warm_up(), load.duration())?,
    };
    asking.run()?;
    Ok(asking.tally.report())
}

impl Asking {
    fn run(&mut self) -> Result<()> {
        for place in 0..self.askers.len() {
            for slot in 0..self.askers[place].started.len() {
                self.ask(place, slot as u64, Instant::now());
            }
            self.flush(place)?;
        }
        let end = self.tally.until() + PATIENCE;
        let mut buffer = read_buffer();
        let mut events = Vec::with_capacity(1024);
        while self.askers.iter().any(|asker| asker.under_way > 0) && Instant::now() < end {
            events.clear();
            let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.receive(event.data.u64() as usize, &mut buffer)?;
            }
        }
        for asker in &self.askers {
            for _ in 0..asker.under_way {
                self.tally.failed(|| "no answer".into());
            }
        }
        Ok(())
    }

    /// Puts a request into what is sent.
    fn ask(&mut self, place: usize, id: u64, now: Instant) {
        let asker = &mut self.askers[place];
        let template = match self.operation.writes(&mut self.random) {
            true => &mut self.write,
            false => &mut self.get,
        };
        template.append(&mut asker.connection.out, id, self.random.next() % KEYS);
        let slots = asker.started.len();
        asker.started[id as usize % slots] = now;
        asker.under_way += 1;
    }

    fn receive(&mut self, place: usize, buffer: &mut [u8]) -> Result<()> {
        if self.askers[place].connection.receive(buffer)? == Heard::Closed {
            return Err("the server has closed a connection".into());
        }
        let now = Instant::now();
        while let Some(head) = frames::head(self.askers[place].connection.input()) {
            self.askers[place].connection.consume(head.bytes);
            if self.answered(place, head, now) && now < self.tally.until() {
                let slots = self.askers[place].started.len() as u64;
                self.ask(place, head.id + slots, now);
            }
        }
        self.flush(place)
    }

    /// Counts an answer. Returns whether it was one: the welcome is not.
    fn answered(&mut self, place: usize, head: frames::Head, now: Instant) -> bool {
        if head.kind == frames::WELCOME {
            return false;
        }
        let asker = &mut self.askers[place];
        asker.under_way -= 1;
        if frames::ANSWERS.contains(&head.kind) {
            let slots = asker.started.len();
            self.tally.answered(asker.started[head.id as usize % slots], now);
        } else {
            self.tally.failed(|| format!("an answer of kind {:#04x}", head.kind));
        }
        true
    }

    /// Sends; a socket that is full is watched until it is not.
    fn flush(&mut self, place: usize) -> Result<()> {
        let asker = &mut self.askers[place];
        let is_full = !asker.connection.flush()?;
        if is_full != asker.is_watched_for_room {
            asker.is_watched_for_room = is_full;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, is_full);
            let data = epoll::EventData::new_u64(place as u64);
            epoll::modify(&self.epoll, &asker.connection.stream, data, flags)?;
        }
        Ok(())
    }
}
