//! Elections (dissertation 3.4, 3.6.1) with a question before them (9.6) and loyalty to a living
//! leader (6.2, 4.2.3). The three belong together: loyalty without a leader that checks its own
//! quorum deadlocks a connected majority (databendlabs/openraft#2080), so none can be switched
//! off alone.

use std::collections::BTreeMap;

use super::actions::{Ballot, Bar, Event, StepDown, VoteRefusal};
use super::configuration::Voter;
use super::message::{Cause, Message};
use super::quorum::Outcome;
use super::read::{FollowerReads, ReadRounds};
use super::reconfiguration::Reconfiguration;
use super::role::{Campaign, ElectionTimer, Follower, Leader, Role};
use super::types::{EntryKind, Index, Member, NodeId, Payload, Position, Term};
use super::{Node, TICKS_ALONE};

/// What a voter said to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
}

impl Node {
    pub(super) fn new_timer(&mut self) -> ElectionTimer {
        let (low, high) = (self.config.election_ticks_min, self.config.election_ticks_max);
        let timeout = if self.is_alone() { TICKS_ALONE } else { self.random.between(low, high) };
        let timeout = timeout + self.ticks_to_make_way();
        ElectionTimer { elapsed: 0, timeout, haste: 0 }
    }

    /// Whether this server is a majority by itself.
    pub(super) fn is_alone(&self) -> bool {
        let me = self.config.me;
        self.membership.current().quorum().has(|voter| voter.member == me)
    }

    /// The leader that this server hears from, if any: itself, or one that was heard within the
    /// shortest election timeout. While there is one, nobody is helped to depose it.
    fn heard_leader(&self) -> Option<Member> {
        match &self.role {
            Role::Leader(_) => Some(self.config.me),
            Role::Follower(follower) if follower.timer.elapsed < self.config.election_ticks_min => {
                follower.leader
            }
            _ => None,
        }
    }

    /// Whether it is for this server to campaign: it votes, or may be the only one that holds the
    /// configuration in which it does not. That one's voters then need it to lead until they hold
    /// it too, although it counts nowhere itself (databendlabs/openraft#2091). One without its
    /// state could lead nobody anywhere.
    pub(super) fn may_campaign(&self) -> bool {
        let has_state = !self.snapshots.machine_is_lost() && !self.snapshots.is_installing();
        let is_committed = self.membership.index() <= self.commit;
        has_state && (self.membership.current().is_voter(self.config.me) || !is_committed)
    }

    /// Why this server does not campaign when it hears no leader, if there is a reason.
    pub(super) fn bar(&self) -> Option<Bar> {
        if !self.may_campaign() {
            return Some(self.lack());
        }
        // A leader must be able to send every entry of its log, and to count itself.
        if self.repair.is_damaged() {
            return Some(Bar::Damaged(self.repair.count()));
        }
        self.is_barred_by_disk().then_some(Bar::SlowDisk)
    }

    /// What makes it not this server's place to campaign.
    fn lack(&self) -> Bar {
        let me = self.config.me;
        let configuration = self.membership.current();
        if self.snapshots.machine_is_lost() || self.snapshots.is_installing() {
            Bar::NoState
        } else if configuration.learners().iter().any(|learner| learner.member == me) {
            Bar::Learner
        } else {
            Bar::NotListed
        }
    }

    /// The election timeout is over, and this server waits on.
    fn wait_for_leader(&mut self, bar: Bar) {
        if bar == Bar::SlowDisk {
            self.try_disk();
        }
        self.follow(None);
        if let Role::Follower(follower) = &mut self.role
            && !std::mem::replace(&mut follower.told_bar, true)
        {
            self.events.push(Event::Waits { bar });
        }
    }

    /// Asks every voter whether it would vote for this server in the next term.
    pub(super) fn start_pre_vote(&mut self) {
        let me = self.config.me;
        if let Some(bar) = self.bar() {
            return self.wait_for_leader(bar);
        }
        let silent_ticks = match &self.role {
            Role::Follower(follower) => follower.timer.elapsed,
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => {
                campaign.silent_ticks.saturating_add(campaign.timer.elapsed)
            }
            Role::Leader(_) => 0,
        };
        self.leave_role(None);
        let campaign = self.hard_state.term.next();
        let timer = self.next_timer();
        let votes = BTreeMap::from([(me, true)]);
        self.role = Role::PreCandidate(Campaign { term: campaign, votes, silent_ticks, timer });
        let asked = self.ask_voters(&Message::PreVoteRequest { campaign, last: self.log.last() });
        self.events.push(Event::AskingForVotes { campaign, silent_ticks, asked });
        self.count_votes();
    }

    /// Campaigns: a new term, the own vote in it, and a request to every voter. Request and own
    /// vote wait for the disk. A candidate that asked first, crashed, and voted for another in
    /// the same term could win with the votes it had asked for.
    pub(super) fn start_election(&mut self, cause: Cause) {
        let me = self.config.me;
        let silent_ticks = match &self.role {
            Role::PreCandidate(campaign) => campaign.silent_ticks,
            _ => 0,
        };
        self.leave_role(None);
        let term = self.hard_state.term.next();
        self.hard_state.term = term;
        self.hard_state.vote = Some(me);
        let timer = self.next_timer();
        let votes = BTreeMap::new();
        self.role = Role::Candidate(Campaign { term, votes, silent_ticks, timer });
        let asked = self.ask_voters(&Message::VoteRequest { last: self.log.last(), cause });
        self.events.push(Event::Campaigning { term, silent_ticks, cause, asked });
    }

    /// Sends a request to all other voters; returns their names.
    fn ask_voters(&mut self, request: &Message) -> Vec<NodeId> {
        let me = self.config.me;
        let voting = self.membership.current().voting().map(|voter| voter.member);
        let others: Vec<Member> = voting.filter(|member| *member != me).collect();
        for &member in &others {
            self.send(member, request.clone());
        }
        others.iter().map(|member| member.id).collect()
    }

    /// The own vote counts once it is on the disk.
    pub(super) fn count_own_vote(&mut self) {
        let me = self.config.me;
        let durable = self.durability.is_vote_durable(self.hard_state.term, me);
        if let Role::Candidate(campaign) = &mut self.role
            && durable
        {
            campaign.votes.entry(me).or_insert(true);
            self.count_votes();
        }
    }

    /// An answer to this server's own request. A pre-candidate counts pre-votes and a candidate
    /// counts votes: a pre-vote that arrives late names the very term of the campaign that
    /// followed it, and promises nothing in it.
    pub(super) fn on_vote_answer(
        &mut self,
        from: Member,
        term: Term,
        ballot: Ballot,
        answer: Answer,
    ) {
        let campaign = match &mut self.role {
            Role::PreCandidate(campaign) if ballot == Ballot::PreVote => campaign,
            Role::Candidate(campaign) if ballot == Ballot::Vote => campaign,
            _ => return,
        };
        if campaign.term != term || campaign.votes.contains_key(&from) {
            return;
        }
        let granted = answer == Answer::Yes;
        campaign.votes.insert(from, granted);
        self.events.push(Event::VoteReceived { voter: from.id, term, ballot, granted });
        self.count_votes();
    }

    /// Moves on when a quorum has said yes. Only voters count.
    fn count_votes(&mut self) {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &self.role else {
            return;
        };
        let configuration = self.membership.current();
        let vote = |voter: &Voter| campaign.votes.get(&voter.member).copied();
        // A campaign that is lost ends as one that is undecided does: with its timer.
        if configuration.quorum().outcome(vote) != Outcome::Won {
            return;
        }
        let granted = |voter: &&Voter| vote(voter) == Some(true);
        let yes = configuration.voting().filter(granted).map(|voter| voter.member.id).collect();
        let total = configuration.voting().count();
        if matches!(self.role, Role::PreCandidate(_)) {
            self.start_election(Cause::Silence);
        } else {
            self.lead(yes, u32::try_from(total).unwrap_or(u32::MAX));
        }
    }

    /// Starts to lead: an empty entry of the own term, since only such an entry is committed by
    /// counting, and everything before it with it (3.6.2).
    fn lead(&mut self, votes: Vec<NodeId>, voters: u32) {
        let me = self.config.me;
        let term = self.hard_state.term;
        let last = self.log.last().index;
        self.role = Role::Leader(Leader {
            progress: BTreeMap::new(),
            term_start: last.next(),
            heartbeat_elapsed: 0,
            rounds: ReadRounds::default(),
            uncommitted: std::collections::VecDeque::new(),
            uncommitted_bytes: 0,
            reconfiguration: Reconfiguration::default(),
            transfer: None,
            declined: Vec::new(),
            makes_way_in: None,
        });
        self.follow_lists();
        self.follow_former_lists();
        self.last_leader = Some((me, term));
        self.events.push(Event::BecameLeader { term, votes, voters });
        self.append_own(EntryKind::Empty, Payload::default());
    }

    /// Whether this server would vote for a log that ends at `last` in `campaign`.
    fn vote_refusal(&self, from: Member, campaign: Term, last: Position) -> Option<VoteRefusal> {
        let mine = self.hard_state;
        if let Some(leader) = self.heard_leader().filter(|leader| *leader != from) {
            return Some(VoteRefusal::HasLeader(leader.id));
        }
        if campaign < mine.term {
            return Some(VoteRefusal::TermOver(mine.term));
        }
        if let Some(vote) = mine.vote.filter(|vote| campaign == mine.term && *vote != from) {
            return Some(VoteRefusal::VotedFor(vote.id));
        }
        let behind = VoteRefusal::LogBehind { theirs: last, mine: self.log.last() };
        (!last.is_up_to_date_with(self.log.last())).then_some(behind)
    }

    /// Answers a pre-vote. Changes nothing: neither term nor vote nor timer.
    pub(super) fn on_pre_vote_request(&mut self, from: Member, campaign: Term, last: Position) {
        let refusal = if campaign <= self.hard_state.term {
            Some(VoteRefusal::TermOver(self.hard_state.term))
        } else {
            self.vote_refusal(from, campaign, last)
        };
        let candidate = from.id;
        self.events.push(Event::VoteAnswered {
            candidate,
            term: campaign,
            ballot: Ballot::PreVote,
            refusal,
        });
        let answer = match refusal {
            None => Message::PreVoteGranted { campaign },
            Some(_) => Message::PreVoteRefused { campaign },
        };
        // Nobody acts on a pre-vote but the one who asked; still it waits for what is pending,
        // since it describes a log and a term that should outlive a crash.
        self.send_when_durable(from, answer);
    }

    /// Whether a request for a vote in a later term is to be ignored, term and all, since this
    /// server hears from its leader (4.2.3).
    pub(super) fn is_loyal_against(&mut self, from: Member, term: Term) -> bool {
        let Some(leader) = self.heard_leader().filter(|leader| *leader != from) else {
            return false;
        };
        let refusal = Some(VoteRefusal::HasLeader(leader.id));
        self.events.push(Event::VoteAnswered {
            candidate: from.id,
            term,
            ballot: Ballot::Vote,
            refusal,
        });
        true
    }

    /// Answers a request for a vote in the current term.
    pub(super) fn on_vote_request(&mut self, from: Member, last: Position) {
        let term = self.hard_state.term;
        let refusal = self.vote_refusal(from, term, last);
        let candidate = from.id;
        self.events.push(Event::VoteAnswered { candidate, term, ballot: Ballot::Vote, refusal });
        if refusal.is_some() {
            self.send(from, Message::VoteRefused);
            return;
        }
        self.hard_state.vote = Some(from);
        // A vote is a reason to wait; and the candidate, not an old leader, is waited for. If it
        // leads already, this is a late copy of the request that it won with.
        let leader = self.known_leader().filter(|leader| *leader == from);
        self.follow(leader);
        self.send_when_durable(from, Message::VoteGranted);
    }

    /// A later term exists: whatever this server was in the old one is over.
    pub(super) fn adopt_term(&mut self, term: Term) {
        assert!(term > self.hard_state.term, "a term is left only for a later one");
        self.leave_role(Some(StepDown::LaterTerm(term)));
        self.hard_state.term = term;
        self.hard_state.vote = None;
        let timer = self.keep_or_new_timer();
        self.become_follower(None, timer);
    }

    /// A later term alone is no reason to wait longer before campaigning: only a leader or a vote
    /// given is. Otherwise a server that cannot win could hold the others back for ever.
    fn keep_or_new_timer(&mut self) -> ElectionTimer {
        match &self.role {
            Role::Follower(follower) => follower.timer,
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.timer,
            Role::Leader(_) => self.new_timer(),
        }
    }

    /// Follows `leader` (or waits for one) in the current term, with a fresh election timeout.
    pub(super) fn follow(&mut self, leader: Option<Member>) {
        let timer = if leader.is_some() { self.new_timer() } else { self.next_timer() };
        let same = matches!(&self.role, Role::Follower(follower) if follower.leader == leader);
        if let (true, Role::Follower(follower)) = (same, &mut self.role) {
            follower.timer = timer;
            return;
        }
        self.leave_role(None);
        self.become_follower(leader, timer);
    }

    /// Follows nobody in the current term, which it may still be told to do again.
    pub(super) fn forget_leader(&mut self, timer: ElectionTimer) {
        self.leave_role(None);
        self.become_follower(None, timer);
    }

    fn become_follower(&mut self, leader: Option<Member>, timer: ElectionTimer) {
        let term = self.hard_state.term;
        self.last_leader = leader.map(|leader| (leader, term)).or(self.last_leader);
        let (leader_id, timeout_ticks) = (leader.map(|leader| leader.id), timer.timeout);
        self.events.push(Event::BecameFollower { term, leader: leader_id, timeout_ticks });
        self.role = Role::Follower(Follower {
            leader,
            verified: Index(0),
            lagging_to: None,
            round_echoed: 0,
            told_bar: false,
            timer,
            reads: FollowerReads::default(),
        });
    }

    /// A leader without its quorum for an election timeout stops at once: it can commit nothing and
    /// confirm nothing, and its heartbeats would only keep others loyal to it (6.2). It counts
    /// itself unless it is damaged: then it cannot commit with its own log either.
    pub(super) fn check_quorum(&mut self) {
        let (me, silent_max) = (self.config.me, self.config.election_ticks_min);
        let Role::Leader(leader) = &self.role else { return };
        let whole = !self.repair.is_damaged();
        let is_here = |voter: &Voter| match leader.progress.get(&voter.member) {
            Some(progress) => progress.silent_ticks() < silent_max,
            None => voter.member == me && whole,
        };
        if !self.membership.current().quorum().has(is_here) {
            self.step_down(StepDown::NoQuorum);
        }
    }

    /// Leads no more, though the term goes on.
    pub(super) fn step_down(&mut self, reason: StepDown) {
        self.leave_role(Some(reason));
        let timer = self.new_timer();
        self.become_follower(None, timer);
    }

    /// Ends what a role cannot take with it: reads that it would have confirmed, a transfer, and a
    /// leader's proposals and change, of which only a later leader knows the fate.
    fn leave_role(&mut self, reason: Option<StepDown>) {
        let reads = match &mut self.role {
            Role::Leader(leader) => leader.rounds.abandon(),
            Role::Follower(follower) => follower.reads.abandon(),
            _ => Vec::new(),
        };
        self.abandon_reads(reads);
        if let Role::Leader(leader) = &mut self.role {
            self.changes.extend(leader.reconfiguration.take_asked(self.commit));
            let transfer = leader.transfer.take();
            self.transfers.extend(transfer.and_then(|it| it.end_with_leadership(reason)));
            let first = self.commit.max(leader.term_start).next();
            self.leave_proposals(first, reason);
            if let Some(reason) = reason {
                let term = match reason {
                    StepDown::LaterTerm(term) => term,
                    StepDown::NoQuorum
                    | StepDown::SlowDisk
                    | StepDown::NotAVoter
                    | StepDown::Damaged => self.hard_state.term,
                };
                self.events.push(Event::SteppedDown { term, reason });
            }
        }
    }
}
