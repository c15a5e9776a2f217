//! Addresses for servers under test. Every cluster has a loopback address of its own, so that
//! suites run side by side and any number of ports can be used in any of them.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The port of the first server; the others follow.
const FIRST_PORT: u16 = 10_000;

/// Tells the clusters of one process apart.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How many addresses are tried before giving up: something is wrong with the machine then.
const TRIES_MAX: u32 = 64;

/// `count` addresses that nobody listens on, all on one host that no other cluster uses.
pub fn free_addresses(count: u16) -> Vec<SocketAddrV4> {
    for _ in 0..TRIES_MAX {
        let host = host(std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let addresses: Vec<SocketAddrV4> =
            (0..count).map(|at| SocketAddrV4::new(host, FIRST_PORT + at)).collect();
        if addresses.iter().all(|address| TcpListener::bind(address).is_ok()) {
            return addresses;
        }
    }
    panic!("no loopback address with {count} free ports in {TRIES_MAX} tries");
}

/// One of the hosts of 127.64.0.0/10: 64 for each process, and another process begins behind them.
fn host(process: u32, counter: u32) -> Ipv4Addr {
    let mixed = process.wrapping_mul(64).wrapping_add(counter) & 0x003f_ffff;
    let [_, high, middle, low] = mixed.to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::{free_addresses, host};

    #[test]
    fn clusters_do_not_share_a_host() {
        let hosts: BTreeSet<_> =
            (1000..1100).flat_map(|pid| (0..64).map(move |n| host(pid, n))).collect();
        assert_eq!(hosts.len(), 6400);
        assert!(hosts.iter().all(|host| host.is_loopback()));
    }

    #[test]
    fn addresses_are_free_and_differ() {
        let first = free_addresses(3);
        let second = free_addresses(3);
        assert_ne!(first[0].ip(), second[0].ip());
        let held: Vec<TcpListener> =
            first.iter().chain(&second).map(|a| TcpListener::bind(a).unwrap()).collect();
        assert_eq!(held.len(), 6);
    }
}
