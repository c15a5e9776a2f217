//! The store against a model that is too simple to be wrong: lists, searched from end to end.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: StoreLimits = StoreLimits {
    live_bytes_max: 24,
    sessions: SessionLimits {
        session_window_max: 4,
        sessions_max: 3,
        session_bytes_max: 128 * 3 + 96 * 5,
    },
};

/// An operation that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Set(String, String, When),
    Delete(String, When),
    DeletePrefix(String),
}

#[derive(Clone, Debug, PartialEq)]
enum When {
    Always,
    Absent,
    ModRevision(u64),
    Value(String),
}

impl When {
    fn condition(&self) -> Condition<'_> {
        match self {
            When::Always => Condition::None,
            When::Absent => Condition::Absent,
            When::ModRevision(revision) => Condition::ModRevision(*revision),
            When::Value(value) => Condition::Value(value.as_bytes()),
        }
    }
}

impl Step {
    fn operation(&self) -> Operation<'_> {
        match self {
            Step::Set(key, value, when) => set_if(key, value, when.condition()),
            Step::Delete(key, when) => {
                Operation::Delete { key: key.as_bytes(), condition: when.condition() }
            }
            Step::DeletePrefix(prefix) => delete_prefix(prefix),
        }
    }
}

struct ModelSession {
    id: SessionId,
    last_used: u64,
    mark: u64,
    replies: Vec<(u64, Step, Reply)>,
}

#[derive(Default)]
struct Model {
    revision: u64,
    keys: BTreeMap<String, (String, KeyState)>,
    sessions: Vec<ModelSession>,
    evicted_start_max: Option<u64>,
    /// Every request that was ever carried out under a tag. There must be no two alike.
    carried_out: Vec<(SessionId, u64)>,
}

impl Model {
    fn apply(&mut self, index: u64, tag: Option<SessionTag>, step: &Step) -> Reply {
        let outcome = match tag {
            None => self.execute(step),
            Some(tag) => match self.admit(index, tag, step) {
                Ok(Some(reply)) => return reply,
                Ok(None) => {
                    self.carried_out.push((tag.session, tag.sequence));
                    let outcome = self.execute(step);
                    let reply = Reply { revision: Revision(self.revision), outcome };
                    let session = self.sessions.iter_mut().find(|it| it.id == tag.session);
                    session.unwrap().replies.push((tag.sequence, step.clone(), reply));
                    self.evict();
                    outcome
                }
                Err(refusal) => Outcome::Refused(refusal),
            },
        };
        Reply { revision: Revision(self.revision), outcome }
    }

    fn admit(
        &mut self,
        index: u64,
        tag: SessionTag,
        step: &Step,
    ) -> Result<Option<Reply>, Refusal> {
        let SessionTag { session: id, sequence, .. } = tag;
        if id.start >= index {
            return Err(Refusal::SessionStart { start: id.start, index });
        }
        let known = self.sessions.iter().position(|session| session.id == id);
        let mark = match known {
            Some(at) => self.sessions[at].mark.max(tag.lowest_unanswered),
            None => tag.lowest_unanswered,
        };
        if let Some(at) = known {
            let session = &mut self.sessions[at];
            (session.last_used, session.mark) = (index, mark);
            session.replies.retain(|(kept, _, _)| *kept >= mark);
            if let Some((_, before, reply)) =
                session.replies.iter().find(|(kept, _, _)| *kept == sequence)
            {
                return match before == step {
                    true => Ok(Some(*reply)),
                    false => Err(Refusal::SequenceReused { sequence }),
                };
            }
        } else if self.evicted_start_max.is_some_and(|evicted| id.start <= evicted) {
            let evicted_start_max = self.evicted_start_max.unwrap();
            return Err(Refusal::SessionExpired { evicted_start_max });
        }
        if sequence < mark {
            return Err(Refusal::BelowMark { sequence, lowest_unanswered: mark });
        }
        let session_window_max = LIMITS.sessions.session_window_max;
        if sequence - mark >= session_window_max {
            let lowest_unanswered = mark;
            return Err(Refusal::WindowFull { sequence, lowest_unanswered, session_window_max });
        }
        if known.is_none() {
            self.sessions.push(ModelSession { id, last_used: index, mark, replies: Vec::new() });
        }
        Ok(None)
    }

    fn evict(&mut self) {
        let bytes = |sessions: &[ModelSession]| -> u64 {
            sessions.iter().map(|it| 128 + 96 * it.replies.len() as u64).sum()
        };
        while self.sessions.len() > 1
            && (self.sessions.len() as u64 > LIMITS.sessions.sessions_max
                || bytes(&self.sessions) > LIMITS.sessions.session_bytes_max)
        {
            self.sessions.sort_by_key(|session| session.last_used);
            let gone = self.sessions.remove(0);
            self.evicted_start_max = self.evicted_start_max.max(Some(gone.id.start));
        }
    }

    fn execute(&mut self, step: &Step) -> Outcome {
        let (key, when) = match step {
            Step::Set(key, _, when) | Step::Delete(key, when) => (key, when),
            Step::DeletePrefix(prefix) => {
                let before = self.keys.len();
                self.keys.retain(|key, _| !key.starts_with(prefix.as_str()));
                let keys = (before - self.keys.len()) as u64;
                self.revision += u64::from(keys > 0);
                return Outcome::Deleted { keys };
            }
        };
        let found = self.keys.get(key).cloned();
        let holds = match (when, &found) {
            (When::Always, _) => true,
            (When::Absent, found) => found.is_none(),
            (When::ModRevision(revision), Some((_, state))) => state.mod_revision.0 == *revision,
            (When::Value(value), Some((found, _))) => found == value,
            (_, None) => false,
        };
        if !holds {
            return Outcome::ConditionFailed { found: found.map(|(_, state)| state) };
        }
        let Step::Set(_, value, _) = step else {
            self.keys.remove(key);
            self.revision += u64::from(found.is_some());
            return Outcome::Deleted { keys: u64::from(found.is_some()) };
        };
        let live = self.live_bytes();
        let old = found.as_ref().map_or(0, |(value, _)| key.len() + value.len());
        let new = key.len() + value.len();
        if new > old && live + (new - old) as u64 > LIMITS.live_bytes_max {
            let live_bytes_max = LIMITS.live_bytes_max;
            return Outcome::Refused(Refusal::Full { live_bytes: live, live_bytes_max });
        }
        self.revision += 1;
        let mod_revision = Revision(self.revision);
        let state = match found {
            Some((_, state)) => KeyState { mod_revision, version: state.version + 1, ..state },
            None => KeyState { create_revision: mod_revision, mod_revision, version: 1 },
        };
        self.keys.insert(key.clone(), (value.clone(), state));
        Outcome::Set(state)
    }

    fn live_bytes(&self) -> u64 {
        self.keys.iter().map(|(key, (value, _))| (key.len() + value.len()) as u64).sum()
    }
}

fn steps() -> impl Strategy<Value = Vec<(Option<SessionTag>, Step)>> {
    let key =
        || prop::sample::select(vec!["a", "ab", "abc", "b", "ba", "c"]).prop_map(String::from);
    let value = || prop::sample::select(vec!["", "1", "22", "333333"]).prop_map(String::from);
    let when = || {
        prop_oneof![
            4 => Just(When::Always),
            1 => Just(When::Absent),
            1 => (0u64..12).prop_map(When::ModRevision),
            1 => value().prop_map(When::Value),
        ]
    };
    let step = prop_oneof![
        5 => (key(), value(), when()).prop_map(|(key, value, when)| Step::Set(key, value, when)),
        2 => (key(), when()).prop_map(|(key, when)| Step::Delete(key, when)),
        1 => prop::sample::select(vec!["", "a", "ab", "z"])
            .prop_map(|prefix| Step::DeletePrefix(prefix.into())),
    ];
    let tag = (0u64..20, 0u64..2, 0u64..9, 0u64..5).prop_map(|(start, nonce, sequence, behind)| {
        let lowest_unanswered = sequence.saturating_sub(behind);
        SessionTag { session: SessionId { start, nonce }, sequence, lowest_unanswered }
    });
    // A quarter of the commands are sent again, sometimes twice, some way further down the log.
    let sent = (prop::option::weighted(0.9, tag), step, prop::collection::vec(0usize..12, 0..3));
    prop::collection::vec((sent, any::<bool>(), any::<bool>()), 1..60).prop_map(|sent| {
        let mut log: Vec<(usize, (Option<SessionTag>, Step))> = Vec::new();
        for (at, ((tag, step, again), one, other)) in sent.into_iter().enumerate() {
            log.push((at, (tag, step.clone())));
            for distance in again.into_iter().filter(|_| one && other) {
                log.push((at + distance, (tag, step.clone())));
            }
        }
        log.sort_by_key(|(at, _)| *at);
        log.into_iter().map(|(_, sent)| sent).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let mut model = Model::default();
        let mut log = Log::new(LIMITS);
        let mut replica = Log::new(LIMITS);
        for (tag, step) in &steps {
            let expected = model.apply(log.next, *tag, step);
            prop_assert_eq!(log.apply(*tag, step.operation()), expected, "{:?} {:?}", tag, step);
            replica.apply(*tag, step.operation());

            let view = log.store.view();
            let keys: Vec<(&[u8], &[u8], KeyState)> =
                view.range(&KeyRange::all()).map(|it| (it.key, it.value, it.state)).collect();
            let expected: Vec<(&[u8], &[u8], KeyState)> = model
                .keys
                .iter()
                .map(|(key, (value, state))| (key.as_bytes(), value.as_bytes(), *state))
                .collect();
            prop_assert_eq!(keys, expected);
            prop_assert_eq!(log.store.size().live_bytes, model.live_bytes());
            prop_assert_eq!(log.store.size().sessions, model.sessions.len() as u64);
            prop_assert_eq!(log.store.hash(), replica.store.hash());
        }
        let mut carried_out = model.carried_out.clone();
        carried_out.sort();
        carried_out.dedup();
        prop_assert_eq!(carried_out.len(), model.carried_out.len(), "nothing is done twice");
    }
}
