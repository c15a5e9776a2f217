//! Rules that a script's network never puts to the test, since no correct server breaks them: here
//! one node is given by hand what only a late, repeated or false message brings. Each test is named
//! by the section of the dissertation, or by the bug of another project, that its rule is from.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(unreachable_pub, reason = "the harness is a module of this one test")]

mod by_hand;

use raft::node::{
    Change, EntryKind, HardState, Incarnation, Index, LostEntry, Member, Message, Payload,
    Position, ProposalOutcome, ReadId, RestoreError, RoleName, Term,
};

use by_hand::{One, at, entries, member};

fn append(previous: Position, terms: &[u64], commit: u64) -> Message {
    let entries = entries(previous.index.0, terms);
    Message::Append { previous, entries: entries.into(), commit: Index(commit), round: 1 }
}

// ------------------------------------------------------------------ elections

#[test]
fn dissertation_3_4_a_reply_to_an_earlier_campaign_does_not_elect() {
    let mut one = One::with_log(&[1]);
    one.campaign();
    assert_eq!(one.node.role(), RoleName::PreCandidate);
    // s2's yes to the question about term 2 is under way. Meanwhile term 5 has come and gone.
    one.hear(2, 5, Message::TermIsOver);
    one.campaign();
    one.hear(2, 1, Message::PreVoteGranted { campaign: Term(2) });
    assert_eq!(one.node.role(), RoleName::PreCandidate, "that was another question");
    one.hear(2, 5, Message::PreVoteGranted { campaign: Term(6) });
    assert_eq!((one.node.role(), one.node.term()), (RoleName::Candidate, Term(6)));
    one.hear(2, 5, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Candidate, "a vote of term 5 is none in term 6");
    one.hear(2, 6, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Leader);
}

#[test]
fn dissertation_3_4_a_vote_that_arrives_again_is_counted_once() {
    let mut one = One::of(5, &[1]);
    one.campaign();
    for _ in 0..3 {
        one.hear(2, 1, Message::PreVoteGranted { campaign: Term(2) });
    }
    assert_eq!(one.node.role(), RoleName::PreCandidate, "two of five");
    one.hear(3, 1, Message::PreVoteGranted { campaign: Term(2) });
    for _ in 0..3 {
        one.hear(2, 2, Message::VoteGranted);
    }
    assert_eq!(one.node.role(), RoleName::Candidate, "two of five");
    one.hear(4, 2, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Leader);
}

#[test]
fn a_vote_counts_by_server_and_life() {
    let mut one = One::with_log(&[1]);
    one.become_candidate();
    let wiped = Member { incarnation: Incarnation(77), ..member(2) };
    one.hear_from(wiped, 2, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Candidate, "that life of s2 is no voter");
    one.hear(2, 2, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Leader);
    one.hear_from(wiped, 2, Message::AppendAccepted { matched: Index(2) });
    assert_eq!(one.node.commit(), Index(0), "nor does it hold anything for a majority");
}

#[test]
fn dissertation_3_8_the_own_vote_counts_once_it_is_durable() {
    let mut one = One::with_log(&[1]);
    one.stall();
    one.campaign();
    one.hear(2, 1, Message::PreVoteGranted { campaign: Term(2) });
    one.hear(2, 2, Message::VoteGranted);
    assert_eq!(one.node.role(), RoleName::Candidate, "one vote, until the own one is written");
    one.go();
    assert_eq!(one.node.role(), RoleName::Leader);
}

/// The answer used to be a refusal in the voter's own term. To a candidate that had gone on to that
/// term it said what nobody had said, and the vote that followed it was not counted any more.
#[test]
fn a_request_of_a_past_term_is_answered_with_the_term_alone() {
    let mut one = One::with_log(&[1]);
    let request = |cause| Message::VoteRequest { last: at(1, 1), cause };
    one.hear(2, 3, request(raft::node::Cause::Silence));
    assert_eq!(one.said(2), [Message::VoteGranted]);
    one.hear(2, 2, request(raft::node::Cause::Silence));
    assert_eq!(one.said(2), [Message::TermIsOver]);
}

#[test]
fn microsoft_ccf_8094_a_hard_state_older_than_the_log_is_no_start() {
    let hard_state = HardState { term: Term(1), vote: None };
    let error = One::restored(3, entries(0, &[1, 2]), hard_state, Vec::new()).err();
    assert!(matches!(error, Some(RestoreError::TermLost { .. })), "{error:?}");
}

// ------------------------------------------------------------------ replication

/// Entries 2 and 3 are what is left of an old leadership; s2 leads and has committed others there.
#[test]
fn wraft_118_a_heartbeat_commits_and_acknowledges_only_what_it_verified() {
    let mut one = One::with_log(&[1, 2, 2]);
    one.hear(2, 3, append(at(1, 1), &[], 3));
    assert_eq!(one.node.commit(), Index(1));
    let acknowledged = Message::AppendAccepted { matched: Index(1) };
    assert!(one.said(2).contains(&acknowledged), "and nothing of what follows");
    assert_eq!(one.node.status().last, Index(3), "nor does it remove what it did not look at");
}

#[test]
fn dissertation_3_5_a_position_before_the_log_proves_nothing_behind_it() {
    let mut one = One::behind_snapshot(at(5, 1), &[1, 1]);
    one.hear(2, 2, append(at(3, 1), &[1], 9));
    assert_eq!(one.node.commit(), Index(5));
    assert!(one.said(2).contains(&Message::AppendAccepted { matched: Index(5) }));
}

/// The first append completes after its entries were truncated: it makes nothing durable that is
/// still part of the log.
#[test]
fn a_write_that_was_truncated_meanwhile_counts_only_below() {
    let mut one = One::with_log(&[1]);
    one.stall();
    one.hear(2, 2, append(at(1, 1), &[2, 2], 1));
    one.hear(3, 3, append(at(1, 1), &[3], 1));
    one.complete_one();
    assert_eq!(one.node.status().durable, Index(1));
    one.go();
    assert_eq!(one.node.status().durable, Index(2));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_ignored() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.hear(2, 2, Message::AppendAccepted { matched: Index(99) });
    assert_eq!(one.node.commit(), Index(0));
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    assert_eq!(one.node.commit(), Index(2));
}

#[test]
fn what_was_meant_for_another_life_of_this_server_is_ignored() {
    let mut one = One::with_log(&[1]);
    let to = Member { incarnation: Incarnation(99), ..member(1) };
    one.hear_as(to, 2, 2, append(at(1, 1), &[2], 1));
    assert_eq!((one.node.term(), one.node.status().last), (Term(1), Index(1)));
}

#[test]
fn entries_that_do_not_follow_each_other_or_their_leader_are_ignored() {
    let mut one = One::with_log(&[1]);
    let mut gap = entries(1, &[2, 2, 2]);
    gap.remove(1);
    let back = entries(1, &[2, 1]);
    let later = entries(1, &[3]);
    for entries in [gap, back, later] {
        let previous = at(1, 1);
        one.hear(
            2,
            2,
            Message::Append { previous, entries: entries.into(), commit: Index(1), round: 1 },
        );
        assert_eq!(one.node.status().last, Index(1));
    }
}

// ------------------------------------------------------------------ reads

#[test]
fn dissertation_6_4_a_heartbeats_round_confirms_no_read_before_the_own_term_has_committed() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.node.request_read(ReadId(1)).expect("it leads");
    one.ticks(10);
    one.hear(2, 2, Message::RoundEcho { round: 1 });
    assert_eq!(one.reads, [], "what earlier leaders committed is not known yet");
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    one.hear(2, 2, Message::RoundEcho { round: 2 });
    assert_eq!(one.reads.len(), 1);
}

#[test]
fn etcd_20418_an_echo_of_a_round_that_was_never_told_confirms_nothing() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    one.hear(2, 2, Message::RoundEcho { round: 1_000 });
    one.node.request_read(ReadId(1)).expect("it leads");
    one.carry_out();
    assert_eq!(one.reads, []);
    one.hear(2, 2, Message::RoundEcho { round: 1 });
    assert_eq!(one.reads.len(), 1);
}

#[test]
fn etcd_7331_an_answer_to_another_question_answers_no_read() {
    let mut one = One::with_log(&[1]);
    one.hear(2, 2, append(at(1, 1), &[2], 2));
    one.node.request_read(ReadId(1)).expect("it follows");
    one.carry_out();
    let asked = one.said(2).into_iter().find_map(|message| match message {
        Message::ReadIndexRequest { boot, counter } => Some((boot, counter)),
        _ => None,
    });
    let (boot, counter) = asked.expect("it asks its leader");
    let index = Index(2);
    let earlier = raft::node::Boot(boot.0 - 1);
    one.hear(2, 2, Message::ReadIndexAnswer { boot: earlier, counter, index });
    one.hear(2, 2, Message::ReadIndexAnswer { boot, counter: counter + 1, index });
    assert_eq!(one.reads, []);
    one.hear(2, 2, Message::ReadIndexAnswer { boot, counter, index });
    assert_eq!(one.reads.len(), 1);
}

#[test]
fn a_read_index_commits_nothing_that_this_leader_has_not_verified() {
    let mut one = One::with_log(&[1, 2, 2]);
    one.hear(2, 3, append(at(1, 1), &[], 1));
    one.node.request_read(ReadId(1)).expect("it follows");
    one.carry_out();
    let boot = one.boot();
    one.hear(2, 3, Message::ReadIndexAnswer { boot, counter: 1, index: Index(3) });
    assert_eq!(one.reads.len(), 1, "it may be answered once the leader's entry 3 is applied");
    assert_eq!(one.node.commit(), Index(1), "which the own entry 3 is not");
}

/// What a leader answers server `from`, once it has its quorum, after these questions of it.
fn read_indexes(from: u64, counters: &[u64]) -> Vec<u64> {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    let boot = one.boot();
    for &counter in counters {
        one.hear(from, 2, Message::ReadIndexRequest { boot, counter });
    }
    one.hear(2, 2, Message::RoundEcho { round: 1_000 });
    one.ticks(10);
    one.hear(2, 2, Message::RoundEcho { round: 1_000 });
    let counter = |message| match message {
        Message::ReadIndexAnswer { counter, .. } => Some(counter),
        _ => None,
    };
    one.said(from).into_iter().filter_map(counter).collect()
}

#[test]
fn a_follower_that_asks_again_is_answered_once() {
    assert_eq!(read_indexes(3, &[1, 2, 5, 4, 5]), [5], "it waits for its latest question alone");
}

#[test]
fn whoever_is_no_member_is_told_no_read_index() {
    assert_eq!(read_indexes(4, &[1]), [0; 0]);
}

// ------------------------------------------------------------------ members, snapshots

#[test]
fn dissertation_5_1_a_snapshot_has_the_configuration_of_its_own_index() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    assert_eq!(one.node.applied(), Index(2));
    one.node.change_membership(&Change::Remove(member(3).id)).expect("it leads");
    one.node.want_snapshot();
    one.carry_out();
    let point = one.snapshots.pop().expect("one is due");
    assert_eq!(point.position, at(2, 2));
    assert!(!point.configuration.is_joint(), "the change is not part of it");
}

#[test]
fn dissertation_4_1_a_learner_is_not_promoted_before_the_change_that_added_it_is_committed() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.hear(2, 2, Message::AppendAccepted { matched: Index(2) });
    let (member, address) = (member(4), "127.0.0.1:4".to_string());
    one.node.change_membership(&Change::AddVoter { member, address }).expect("it leads");
    one.hear(2, 2, Message::AppendAccepted { matched: Index(3) });
    assert_eq!(one.node.status().last, Index(4), "the configuration with the learner");
    one.hear(4, 2, Message::AppendAccepted { matched: Index(4) });
    assert_eq!(one.node.status().last, Index(4), "one change at a time");
    one.hear(2, 2, Message::AppendAccepted { matched: Index(4) });
    one.hear(4, 2, Message::AppendAccepted { matched: Index(4) });
    assert_eq!(one.node.status().last, Index(5), "now it is promoted");
}

// ------------------------------------------------------------------ handing over

#[test]
fn dissertation_3_10_only_the_leader_hands_over() {
    let mut one = One::with_log(&[1]);
    one.hear(2, 2, append(at(1, 1), &[2], 2));
    one.hear(3, 2, Message::TimeoutNow { last: at(2, 2) });
    assert_eq!(one.node.role(), RoleName::Follower, "s3 has nothing to hand over");
    one.hear(2, 2, Message::TimeoutNow { last: at(2, 2) });
    assert_eq!(one.node.role(), RoleName::Candidate);
}

#[test]
fn a_server_that_cannot_lead_takes_no_leadership_over() {
    let log = entries(0, &[1, 1]);
    let second = log.last().expect("two entries");
    let lost = LostEntry {
        position: second.position(),
        kind: EntryKind::Empty,
        bytes: 0,
        checksum: Payload::default().checksum,
    };
    let hard_state = HardState { term: Term(1), vote: None };
    let mut damaged = One::restored(3, log, hard_state, vec![lost]).expect("it starts");
    damaged.hear(2, 2, append(at(2, 1), &[], 1));
    damaged.hear(2, 2, Message::TimeoutNow { last: at(2, 1) });
    assert_eq!(damaged.node.role(), RoleName::Follower);

    let mut slow = One::with_log(&[1]);
    slow.disk_takes_ticks = 1_000;
    slow.hear(2, 2, append(at(1, 1), &[2], 2));
    slow.hear(2, 2, Message::TimeoutNow { last: at(2, 2) });
    assert_eq!((slow.node.role(), slow.node.term()), (RoleName::Follower, Term(2)));
}

/// Each acknowledgement that was repeated while the disk hung was once an append of its own, and
/// all of them were looked at with every tick.
#[test]
fn a_disk_that_hangs_gathers_one_reply_however_often_a_leader_asks() {
    let mut one = One::with_log(&[1]);
    one.stall();
    one.hear(2, 2, append(at(1, 1), &[2], 1));
    let handed_out = one.handed_out();
    for _ in 0..1000 {
        one.ticks(1);
        one.hear(2, 2, append(at(2, 2), &[], 1));
    }
    assert_eq!(one.handed_out(), handed_out, "there was nothing more to write");
    one.said(2);
    one.go();
    let round_and_acknowledgement =
        [Message::RoundEcho { round: 1 }, Message::AppendAccepted { matched: Index(2) }];
    assert_eq!(one.said(2), round_and_acknowledgement);
}

/// What is remembered of a leadership that is over is bounded, whatever was proposed in it.
#[test]
fn proposals_beyond_what_is_remembered_are_unknown_at_once() {
    let mut one = One::with_log(&[1]);
    one.lead();
    one.node.propose(vec![Payload::new("x"); 10_000]).expect("it leads");
    one.carry_out();
    let first = one.node.status().last.0 - 9_999;
    one.hear(2, 9, Message::TermIsOver);
    let term = Term(2);
    let ended = |first: u64, last: u64, outcome| {
        let indexes = Index(first)..=Index(last);
        raft::node::Ended { indexes, term, outcome }
    };
    let beyond = ended(first + 8192, first + 9_999, ProposalOutcome::Unknown);
    assert_eq!(std::mem::take(&mut one.ended), [beyond]);
    // The first entry of the next leader decides all others.
    one.hear(3, 9, append(at(2, 2), &[9], 3));
    assert_eq!(one.ended, [ended(first, first + 8191, ProposalOutcome::Superseded)]);
}
