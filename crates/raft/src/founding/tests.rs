//! Stories of servers that found a cluster, and of those that come later.

use super::steps::STRANGERS_HEARD_MAX;
use super::*;
use crate::node::{Incarnation, Intent, Learner, Lists};

fn seats(count: u64) -> Vec<Seat> {
    let seat = |n| Seat { id: id(n), address: format!("127.0.0.1:{n}") };
    (1..=count).map(seat).collect()
}

fn id(n: u64) -> NodeId {
    NodeId::new(&format!("s{n}")).unwrap()
}

fn member(n: u64, incarnation: u64) -> Member {
    Member { id: id(n), incarnation: Incarnation(incarnation) }
}

fn founding(n: u64, incarnation: u64, count: u64) -> Founding {
    Founding::new(member(n, incarnation), "demo".into(), seats(count), None)
}

fn voter(n: u64, incarnation: u64) -> Voter {
    Voter { member: member(n, incarnation), address: format!("127.0.0.1:{n}") }
}

fn charter_of_two() -> Charter {
    let configuration = Configuration::new(vec![voter(1, 11), voter(2, 12)]).unwrap();
    Charter { name: "demo".into(), configuration }
}

fn founded(charter: &Charter, members: Configuration) -> Standing {
    Standing::Founded(Founded { charter: charter.clone(), members, since: None })
}

fn place(server: &Founding) -> Place {
    let Step::Join(door) = server.step() else { panic!("{:?}", server.step()) };
    door.place
}

/// Tells everybody everything, and lets everybody that can agree.
fn gossip(servers: &mut [Founding]) {
    let said: Vec<_> = servers.iter().map(|server| (server.me, server.standing())).collect();
    for server in servers {
        for (from, standing) in &said {
            if *from != server.me {
                server.hear(*from, standing.clone());
            }
        }
        if let Step::Agree(charter) = server.step() {
            server.on_agreed(charter);
        }
    }
}

#[test]
fn of_strangers_only_some_are_remembered_and_only_with_their_clusters() {
    let mut server = founding(1, 11, 3);
    for n in 10..200 {
        server.hear(member(n, n), Standing::Joining { address: format!("127.0.0.1:{n}") });
    }
    assert!(server.heard.is_empty());
    let configuration = charter_of_two().configuration;
    for n in 10..200 {
        server.hear(member(n, n), founded(&charter_of_two(), configuration.clone()));
    }
    assert_eq!(server.heard.len(), STRANGERS_HEARD_MAX);
    server.hear(member(2, 12), Standing::Empty { name: "demo".into(), seats: seats(3) });
    assert_eq!(server.heard.len(), STRANGERS_HEARD_MAX + 1, "a server of the file has a place");
}

#[test]
fn servers_agree_to_the_same_pairs_and_found_the_same_cluster() {
    let mut servers: Vec<_> = (1..=3).map(|n| founding(n, 10 + n, 3)).collect();
    assert_eq!(servers[0].step(), Step::Wait(vec![id(2), id(3)]));
    gossip(&mut servers);
    gossip(&mut servers);
    let founded: Vec<_> = servers
        .iter()
        .map(|server| match server.step() {
            Step::Found(charter) => charter.cluster_id(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(founded.iter().all(|cluster| *cluster == founded[0]));
}

#[test]
fn a_cluster_of_one_founds_itself_at_once() {
    let mut alone = founding(1, 7, 1);
    let Step::Agree(charter) = alone.step() else { panic!("{:?}", alone.step()) };
    alone.on_agreed(charter.clone());
    assert_eq!(alone.step(), Step::Found(charter));
}

#[test]
fn nobody_founds_before_all_have_agreed() {
    let mut servers: Vec<_> = (1..=3).map(|n| founding(n, 10 + n, 3)).collect();
    gossip(&mut servers);
    // Everybody agreed in that round, but nobody has heard so of the others.
    assert!(servers.iter().all(|server| matches!(server.step(), Step::Wait(_))));
}

#[test]
fn a_server_that_was_wiped_after_agreeing_stops_the_founding() {
    let mut servers: Vec<_> = (1..=2).map(|n| founding(n, 10 + n, 2)).collect();
    gossip(&mut servers);
    servers[1] = founding(2, 99, 2);
    gossip(&mut servers);
    for (server, me) in servers.iter().zip([id(1), id(2)]) {
        assert_eq!(server.step(), Step::Stuck(Obstacle::Wiped { wiped: id(2), me }));
    }
}

#[test]
fn a_late_server_adopts_a_founding_only_of_its_very_incarnation() {
    let mut servers: Vec<_> = (1..=2).map(|n| founding(n, 10 + n, 2)).collect();
    gossip(&mut servers);
    gossip(&mut servers);
    let Step::Found(charter) = servers[0].step() else { panic!("{:?}", servers[0].step()) };
    let agreed = Some(charter.clone());
    let mut late = Founding::new(member(2, 12), "demo".into(), seats(2), agreed);
    late.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    assert_eq!(late.step(), Step::Found(charter.clone()));
    let mut wiped = founding(2, 13, 2);
    wiped.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    assert_eq!(place(&wiped), Place::OtherDisk);
    let mut stranger = founding(3, 14, 3);
    stranger.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    assert_eq!(place(&stranger), Place::NotListed);
}

/// It did agree, or there would be no such cluster: what it does not know of that it does not know
/// of its votes either.
#[test]
fn a_founder_that_does_not_know_that_it_agreed_is_no_voter_again() {
    let charter = charter_of_two();
    let said = founded(&charter, charter.configuration.clone());
    let forgotten = Step::Stuck(Obstacle::Forgotten { peer: id(1), me: id(2) });
    let mut older = founding(2, 12, 2);
    older.hear(member(1, 11), said.clone());
    assert_eq!(older.step(), forgotten);
    let mut joining = Founding::joining(member(2, 12), "127.0.0.1:2".into(), None, None);
    joining.hear(member(1, 11), said);
    assert_eq!(joining.step(), forgotten);
}

#[test]
fn a_server_that_was_removed_before_it_ever_started_must_be_taken_in_again() {
    let charter = charter_of_two();
    let agreed = Some(charter.clone());
    let mut late = Founding::new(member(2, 12), "demo".into(), seats(2), agreed);
    let alone = Configuration::new(vec![voter(1, 11)]).unwrap();
    late.hear(member(1, 11), founded(&charter, alone));
    assert_eq!(place(&late), Place::NotListed);
}

#[test]
fn a_server_that_joins_waits_for_a_cluster_and_founds_none() {
    let mut joiner = Founding::joining(member(5, 15), "127.0.0.1:5".into(), None, None);
    assert_eq!(joiner.step(), Step::Seek);
    joiner.hear(member(1, 11), founding(1, 11, 2).standing());
    assert_eq!(joiner.step(), Step::Seek);
    assert_eq!(joiner.standing(), Standing::Joining { address: "127.0.0.1:5".into() });
    let mut founder = founding(1, 11, 2);
    founder.hear(member(2, 12), joiner.standing());
    assert_eq!(founder.step(), Step::Wait(vec![id(2)]));
}

#[test]
fn a_joining_server_knows_its_place_and_whom_to_tell_of_itself() {
    let charter = charter_of_two();
    let mut joiner = Founding::joining(member(5, 15), "127.0.0.1:5".into(), None, None);
    joiner.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    let Step::Join(door) = joiner.step() else { panic!("{:?}", joiner.step()) };
    assert_eq!((door.name.as_str(), door.cluster), ("demo", charter.cluster_id()));
    assert_eq!(door.place, Place::NotListed);
    assert_eq!(door.me, Seat { id: id(5), address: "127.0.0.1:5".into() });
    assert_eq!(door.members, seats(2));

    let mut wiped = Founding::joining(member(2, 13), "127.0.0.1:2".into(), None, None);
    wiped.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    let Step::Join(door) = wiped.step() else { panic!("{:?}", wiped.step()) };
    assert_eq!(door.place, Place::OtherDisk);
    assert_eq!(door.members, seats(1), "it does not announce itself to its own address");
}

#[test]
fn of_members_that_lag_behind_each_other_the_one_that_knows_the_server_is_believed() {
    let charter = charter_of_two();
    let mut joiner = Founding::joining(member(5, 15), "127.0.0.1:5".into(), None, None);
    let learner = Learner {
        member: member(5, 15),
        address: "127.0.0.1:5".into(),
        intent: Intent::Promote { replaces: None },
    };
    let lists = Lists { learners: vec![learner], ..charter.configuration.clone().into_lists() };
    let listed = Configuration::from_lists(lists).unwrap();
    joiner.hear(member(1, 11), founded(&charter, charter.configuration.clone()));
    joiner.hear(member(2, 12), founded(&charter, listed));
    assert_eq!(place(&joiner), Place::Listed);
}

#[test]
fn only_the_cluster_that_was_meant_admits_a_server() {
    let charter = charter_of_two();
    let cluster = charter.cluster_id();
    let said = founded(&charter, charter.configuration.clone());
    let joiner = |name: Option<&str>, agreed| {
        let name = name.map(str::to_owned);
        Founding::joining(member(5, 15), "127.0.0.1:5".into(), name, agreed)
    };
    let mut any = joiner(None, None);
    assert_eq!(any.admitted_to(cluster), None, "nobody has told what it was founded with");
    any.hear(member(1, 11), said.clone());
    assert_eq!(any.admitted_to(cluster), Some(charter.clone()));
    assert_eq!(any.admitted_to(ClusterId([9; 16])), None);

    let mut named = joiner(Some("other"), None);
    named.hear(member(1, 11), said.clone());
    assert_eq!(named.admitted_to(cluster), None);
    assert!(matches!(named.step(), Step::Stuck(Obstacle::OtherName { .. })));

    let other = Charter { name: "demo".into(), configuration: Configuration::default() };
    let mut agreed = joiner(None, Some(other));
    agreed.hear(member(1, 11), said.clone());
    assert_eq!(agreed.admitted_to(cluster), None);
    let mut same = joiner(None, Some(charter.clone()));
    same.hear(member(1, 11), said);
    assert_eq!(same.admitted_to(cluster), Some(charter));
}

#[test]
fn servers_with_different_files_do_not_found() {
    let mut one = founding(1, 11, 2);
    one.hear(member(2, 12), founding(2, 12, 3).standing());
    assert_eq!(one.step(), Step::Stuck(Obstacle::OtherList { peer: id(2) }));
}
