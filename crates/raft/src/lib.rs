//! Raft turns one deterministic state machine into a replicated one: a group of servers that
//! together behave like a single server that does not fail, as long as a majority of them lives.
//! This crate is both the protocol and everything around it that makes it durable. Its main goal
//! is the algorithm's own: to be understood. The rest of this page teaches it; section numbers
//! are those of Diego Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014).
//!
//! # The idea
//!
//! Every server keeps a *log*: a sequence of entries, each a command. If all servers apply the
//! same commands in the same order to the same deterministic machine, they end in the same state.
//! So the whole problem is to agree on one log although servers crash, restart, and cannot tell a
//! slow network from a dead peer.
//!
//! Raft makes agreement simple by choosing a *leader*. Only the leader adds entries; the others,
//! its *followers*, copy what it sends. Time is cut into *terms*, numbered from 1, and each term
//! has at most one leader. A server that sees a later term than its own knows that its view is old
//! and follows the later one. That single comparison, made in one place
//! (`Node::step`), settles most disputes.
//!
//! # Electing a leader (3.4)
//!
//! A leader sends heartbeats. A follower that hears none for its *election timeout* would like to
//! lead. It first asks the others whether they would vote for it (a *pre-vote*, 9.6), since
//! a server that cannot win should not disturb those that work. If a majority would, it raises its
//! term, votes for itself, and asks for votes in earnest. Each server gives one vote per term, to
//! the first who asks and whose log is *at least as up to date* as its own: the later last term
//! wins, and between equal terms the longer log (3.6.1). Whoever gets a majority leads. Two
//! majorities always share a server, and that server gave only one vote: so a term has at most one
//! leader. Timeouts are random, so that two servers rarely ask at the same time; if they do and
//! split the votes, another term decides.
//!
//! A server that still hears from its leader helps nobody to depose it (4.2.3), and a leader that
//! hears from no majority for an election timeout stops by itself (6.2). The two belong together:
//! loyalty to a leader that cannot work would stop the cluster.
//!
//! Silence is the last resort. When the leader's process dies, its kernel closes its connections;
//! followers that are told so, and find nobody at its address, do not wait for the timeout
//! ([`Node::on_disconnected`](node::Node::on_disconnected)). Losing a leader then costs
//! milliseconds.
//!
//! # Copying the log (3.5)
//!
//! With each batch of entries the leader names the *position*, index and term, of the entry just
//! before. A follower that does not hold that very entry refuses, and says where its log may
//! agree; the leader goes back and tries there. A follower that does hold it takes the new entries,
//! removing its own only from the first that conflicts on. By induction, two logs that hold the
//! same position are the same up to it: this is *log matching*.
//!
//! # Committing (3.6.2)
//!
//! An entry of the leader's own term that a majority holds durably is *committed*: it will never
//! be lost. For whoever wants to lead later needs votes from a majority, that majority shares a
//! server with the one that holds the entry, and that server refuses a log that lacks it. An entry
//! of an *older* term is not safe by being on a majority, since a server with a later last term
//! could still win and replace it (figure 3.7; the script `commit_only_own_term.txt` tells that
//! story). It becomes committed together with the first entry of the new term that does, which is
//! why every leader begins by appending an empty one. Committed entries are applied, in order, and
//! then the client hears.
//!
//! # Reading without writing (6.4)
//!
//! A leader may answer a read from its own state only if it still leads; a later leader might have
//! committed something newer. So it notes its commit index, starts a *round*, a number that rides
//! on its appends, and answers once a majority has echoed that round and the noted index is
//! applied. Followers ask the leader for such an index and answer from their own state. Nothing in
//! this rests on clocks.
//!
//! # Changing the members (chapter 4)
//!
//! Who votes is itself an entry of the log, a *configuration*, and counts from the moment it is
//! appended. Going from one set of voters to another in one step would be unsafe: while some know
//! the old set and some the new one, each could find a majority of its own. So every change goes
//! through a *joint* configuration, in which a decision needs a majority of the old voters *and*
//! one of the new. When that is committed, no old majority can decide alone any more, and the
//! leader appends the new configuration, which needs only itself. If it dies meanwhile, the next
//! leader finds the joint configuration in its log and goes on; if the joint configuration was on
//! too few servers, it is truncated and never was. One change follows another, and none begins
//! before its leader has committed an entry of its own term.
//!
//! A new server has to copy the whole log before it is of any use, so it first *learns*: it gets
//! everything and counts nowhere. That it is to vote, and whom it replaces, stands in the
//! configuration too; so any leader that sees it caught up promotes it. A server that lost its
//! disk forgot what it promised and is another member from then on: it learns under its new
//! incarnation, and one change takes out its old self as it lets the new one vote.
//!
//! A leader may remove itself. It counts among the old voters as long as they must agree, and
//! nowhere afterwards, yet it goes on leading until a successor holds its log. Conversely a server
//! that its newest configuration does not let vote may be the only one that holds that
//! configuration; then it must be elected, so that the others get it. Like the leader that goes it
//! counts itself nowhere and hands over.
//!
//! # Handing over (3.10)
//!
//! A leader hands over by refusing proposals until its successor holds all of its log and all of
//! that is committed, and then telling it to campaign. Servers that hear from the old leader
//! would be loyal to it, so the request for their votes says where it comes from. It is an
//! election like any other: if the successor does not make it, nothing has happened but a pause.
//!
//! # Forgetting the past (chapter 5)
//!
//! A log cannot grow for ever. From time to time a server writes down its state machine, a
//! *snapshot*, and lets go of the log up to there. Each does so by itself, from a picture of the
//! state that later commands do not change, and nobody waits for it. A follower that needs what the
//! leader has let go of is offered the snapshot, fetches it beside the ordinary messages, makes it
//! durable, and goes on with the log behind it.
//!
//! # What must be durable, and when
//!
//! A server may promise only what it will remember. Term and vote are written before a vote is
//! sent, entries before they are acknowledged, and a candidate's own vote before it asks for
//! others. Most real bugs of Raft systems are breaches of this, so here it cannot be broken from
//! outside: the [`Node`](node::Node) hands out a write ([`Append`](node::Append)) and keeps
//! everything that rests on it until it is told that the write is durable.
//!
//! A disk can also be slow, or hang. A leader whose write takes as long as an election timeout
//! stops leading, and does not ask to lead again before a write is in time: else it could keep
//! everybody loyal with heartbeats and answer nobody.
//!
//! # When the disk forgets
//!
//! Disks lose what they were given: a bit flips, a sector cannot be read any more. A server that
//! took its log to end there, or that simply copied a leader's, could deny an entry which it had
//! acknowledged, and a majority would rest on it no longer. So it matters *what* is lost. The log
//! keeps index, term and checksum of every entry apart from its bytes. If only bytes are lost, the
//! server knows everything that it promised: it votes, and counts the lost entries as present when
//! logs are compared, but acknowledges and applies only below the first of them, does not
//! campaign, and asks the others, leader or not, for exactly those entries. If more is lost, it
//! cannot know what it promised. It does not start, as if its disk had been wiped.
//!
//! When a majority has lost everything, nobody can say any more what it had acknowledged. Then a
//! person may make another cluster out of what one server still has; see
//! [`Rescue`](storage::Rescue). No server does that by itself.
//!
//! # Guarantees
//!
//! - *Election safety*: at most one leader per term.
//! - *Log matching*: two logs with the same position are identical up to it.
//! - *Leader completeness*: a committed entry is in the log of every later leader.
//! - *State machine safety*: no two servers apply different commands at one index.
//! - *Durability*: what was acknowledged is on the disks of a majority.
//! - *One outcome*: each proposal ends once, as committed, refused (it never entered the log) or
//!   unknown; each read ends once, confirmed or not; so do changes of the members and transfers.
//!
//! # Using it
//!
//! Implement [`StateMachine`] and [`Transport`], open a [`Home`](storage::Home), and give a
//! [`Driver`] what comes. `examples/counter.rs` is a whole program: three servers, one of which
//! dies.
//!
//! # Reading order
//!
//! 1. [`node`]: the protocol. Pure: no clock, thread, file or socket.
//! 2. [`storage`]: the data directory; who a server is, and its log.
//! 3. [`founding`]: how servers with empty directories become a cluster, or join one.
//! 4. [`replica`]: node, log, snapshots and state machine in one; still without clock or thread.
//! 5. [`driver`]: the replica in real time.
//!
//! # Deliberately not done
//!
//! - Reads by lease, without a round: they rest on clocks that agree.
//! - Forwarding or repeating a proposal inside: whoever proposed decides what to do next, knowing
//!   the outcome.
//! - Changing the members one server at a time, without a joint phase (4.2): one mechanism for
//!   every change is easier to trust than two.
//! - Sending a snapshot to a server that another one could feed from its log: what a follower lacks
//!   always comes from its leader, and only damaged entries come from anybody.
//! - Several groups in one, or one split in two: a cluster has one log.
//!
//! What of the dissertation is followed to the letter, what is not, and which test holds each rule,
//! is in `docs/RAFT.md`.

pub mod driver;
pub mod founding;
pub mod node;
pub mod replica;
mod state_machine;
pub mod storage;

pub use driver::{Driver, Input};
pub use founding::ClusterId;
pub use replica::{Replica, Transport};
pub use state_machine::{StateMachine, Undecodable};
