//! A relay in front of a server that can cut the connections that others make to it for snapshots,
//! and those alone, and counts what they carry.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Where the role stands in the first frame of a connection: behind the header, the magic and two
/// versions.
const ROLE_OFFSET: usize = 17 + 4 + 4;

/// The role of a server that connects to speak of snapshots.
const SNAPSHOTS: u8 = 2;

/// A relay from one address to another, for as long as it is kept.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddrV4,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    /// Both ends of every connection.
    open: Mutex<Vec<TcpStream>>,
    /// Both ends of those for snapshots.
    snapshots: Mutex<Vec<TcpStream>>,
    snapshot_bytes: AtomicU64,
}

impl Proxy {
    /// Relays from `address` to `server`.
    ///
    /// # Panics
    /// If the address is taken.
    pub(super) fn start(address: SocketAddrV4, server: SocketAddrV4) -> Proxy {
        let listener = TcpListener::bind(address).expect("an address of the cluster's own");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let relayed = Arc::clone(&accepting);
                thread::spawn(move || relay(client, server, &relayed));
            }
        });
        Proxy { address, shared }
    }

    /// Cuts every connection for snapshots.
    pub fn cut_snapshots(&self) {
        cut(&self.shared.snapshots);
    }

    /// How much went to the server on such connections, from the beginning on.
    pub fn snapshot_bytes(&self) -> u64 {
        self.shared.snapshot_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        cut(&self.shared.open);
        cut(&self.shared.snapshots);
        // Wakes the thread that accepts, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn cut(streams: &Mutex<Vec<TcpStream>>) {
    for stream in streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Carries one connection both ways. However it ends, both sides see its end.
fn relay(mut client: TcpStream, server: SocketAddrV4, shared: &Arc<Shared>) {
    let Ok(mut upstream) = TcpStream::connect(server) else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let mut first = [0; ROLE_OFFSET + 1];
    let greeted = client.read_exact(&mut first).and_then(|()| upstream.write_all(&first));
    let ends = (client.try_clone(), upstream.try_clone());
    let (Ok(()), (Ok(to_client), Ok(from_client))) = (greeted, ends) else { return };
    let counts = first[ROLE_OFFSET] == SNAPSHOTS;
    let listed = if counts { &shared.snapshots } else { &shared.open };
    let kept = [client.try_clone(), upstream.try_clone()];
    listed.lock().unwrap_or_else(PoisonError::into_inner).extend(kept.into_iter().flatten());
    let down = thread::spawn(move || copy(upstream, to_client, |_| ()));
    copy(client, from_client, |bytes| {
        if counts {
            shared.snapshot_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    let _ = down.join();
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: impl Fn(u64)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count(read as u64);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
