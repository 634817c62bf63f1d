//! The states and steps of the protocol. Revisions here begin at 0, the empty store.

use std::collections::BTreeSet;

/// A revision.
type Rev = u8;
/// One change: of which revision, and of which key.
type Change = (Rev, char);

/// How many events a queue takes.
const QUEUE_LIMIT: usize = 2;
/// How many revisions one read of the history covers.
const HISTORY_STEP: Rev = 1;

/// What a watcher asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The events of one key.
    OneKey,
    /// All events.
    AllKeys,
    /// The events of one key, and progress.
    OneKeyWithProgress,
}

/// Which engine feeds the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// SQLite: the thread that commits publishes too.
    Local,
    /// etcd: others commit and compact; a watch brings it here, and may break.
    Remote,
}

impl Engine {
    /// The keys of each revision's changes; `-` before a key that is deleted.
    fn script(self, revision: Rev) -> &'static str {
        let script = match self {
            Engine::Local => ["a", "b", "-a", "a", "b", "-a"],
            // One transaction of etcd has one revision.
            Engine::Remote => ["a", "ab", "b", "a", "ab", "a"],
        };
        script[usize::from(revision) - 1]
    }

    fn changes(self, after: Rev, up_to: Rev) -> impl Iterator<Item = Change> {
        (after + 1..=up_to).flat_map(move |revision| {
            let keys = self.script(revision).chars().filter(|key| *key != '-');
            keys.map(move |key| (revision, key))
        })
    }

    /// What must happen somewhere, or the model is too small.
    pub(super) fn outcomes(self) -> &'static [Outcome] {
        use Outcome::*;
        match self {
            Engine::Local => &[
                Events,
                FromHistory,
                Progress,
                Lagged,
                Compacted,
                Acked,
                Restarted,
            ],
            Engine::Remote => &[
                Events,
                FromHistory,
                Progress,
                Lagged,
                Compacted,
                Acked,
                Restarted,
                Lost,
            ],
        }
    }
}

/// What can happen to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Events,
    FromHistory,
    Progress,
    Lagged,
    Compacted,
    Acked,
    Restarted,
    Lost,
}

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    CurrentBeforeQueues,
    PublishBeforeCommit,
    AckBeforeCommit,
    AckBeforePublish,
    SeatReadsCurrentBeforeItRegisters,
    QueueBeforeCurrent,
    ListDoesNotWait,
    HistoryChecksBeforeItReads,
    ForgetsBeforeItSaysSo,
    OverflowIsSilent,
    RestartsAtNewestRow,
    LoseDoesNotEndQueues,
    ResumesAtNewest,
    HalfARevision,
    PastEndsInSilence,
}

impl Fault {
    /// With the engine that can have it, and a word of the property that it breaks.
    pub(super) const ALL: [(Fault, Engine, &'static str); 15] = [
        (
            Fault::CurrentBeforeQueues,
            Engine::Local,
            "ahead of the queue",
        ),
        (Fault::PublishBeforeCommit, Engine::Local, "not durable"),
        (Fault::AckBeforeCommit, Engine::Local, "not durable"),
        (Fault::AckBeforePublish, Engine::Local, "not published"),
        (
            Fault::SeatReadsCurrentBeforeItRegisters,
            Engine::Local,
            "ahead of the queue",
        ),
        (Fault::QueueBeforeCurrent, Engine::Local, "handed out"),
        (Fault::ListDoesNotWait, Engine::Local, "not published"),
        (
            Fault::HistoryChecksBeforeItReads,
            Engine::Local,
            "handed out",
        ),
        (Fault::ForgetsBeforeItSaysSo, Engine::Local, "went back"),
        (Fault::OverflowIsSilent, Engine::Local, "ahead of the queue"),
        (Fault::RestartsAtNewestRow, Engine::Local, "went back"),
        (
            Fault::LoseDoesNotEndQueues,
            Engine::Remote,
            "ahead of the queue",
        ),
        (Fault::ResumesAtNewest, Engine::Remote, "ahead of the queue"),
        (
            Fault::PastEndsInSilence,
            Engine::Local,
            "not told of progress",
        ),
        (Fault::HalfARevision, Engine::Remote, "ahead of the queue"),
    ];
}

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) revisions: Rev,
    pub(super) crashes: u8,
    pub(super) compactions: u8,
    pub(super) departures: u8,
}

/// A step of whoever feeds the hub, one section under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// The transaction is durable.
    Commit,
    /// Its events go into a queue; of a fault only those of one key.
    Push(usize, Option<char>),
    /// `current` is set. The hub's lock is held from the first push to this.
    Current,
    /// The writer is told.
    Ack,
    /// Rows are deleted and `meta.compacted` is set,
    Forget,
    /// or, of a fault, one after the other.
    ForgetRows,
    SetMeta,
    /// The hub knows.
    SetCompacted,
    /// A queue ends because events were lost.
    End(usize),
    /// The hub goes on at the newest revision.
    Jump,
}

/// The events that wait for a watcher.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Queue {
    after: Rev,
    events: Vec<Change>,
    lagged: bool,
}

/// Where a watcher is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// It knows nothing and will list.
    Ignorant,
    /// The list was read at a revision, which may not be published yet.
    Listed(Rev),
    /// It knows the state at `told` and will subscribe after it.
    Informed,
    /// Of a fault: `current` was read, the queue is not registered.
    Seating(Rev),
    /// Subscribed; history is still to be read after one revision and up to another.
    Seated(Rev, Rev),
    /// Of a fault: it was looked whether the history is compacted.
    Reading(Rev, Rev),
    /// `current` was read; the queue will be looked at.
    Taking(Rev),
    /// Of a fault: the queue was emptied; `current` will be read.
    Taken(Vec<Change>),
}

impl Phase {
    /// With one form for all that have no history left to read.
    fn seated(start: Rev, end: Rev) -> Phase {
        if start < end {
            Phase::Seated(start, end)
        } else {
            Phase::Seated(0, 0)
        }
    }
}

/// A client: it survives a crash of the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Watcher {
    phase: Phase,
    /// It has been told of everything up to here,
    told: Rev,
    /// and, without knowing, of nothing else up to here.
    handed_out: Rev,
    queue: Queue,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    // Durable.
    newest: Rev,
    rows: BTreeSet<Rev>,
    meta_compacted: Rev,
    // Of the process.
    steps: Vec<Step>,
    /// The revisions that the steps are about: after one, up to another.
    batch: (Rev, Rev),
    is_locked: bool,
    current: Rev,
    compacted: Rev,
    /// Whether etcd's watch stands.
    is_fed: bool,
    watchers: Vec<Watcher>,
    // What somebody was told.
    acked: Rev,
    seen: Rev,
    // What may still happen.
    left: (u8, u8, u8),
}

/// What can happen next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// A transaction, or several in one commit.
    Write(Rev),
    Feed,
    Compact(Rev),
    Step,
    Acknowledge,
    Watcher(usize),
    Leave(usize),
    Crash,
    Break,
    Reconnect,
}

impl Action {
    pub(super) fn describe(self) -> (&'static str, usize) {
        match self {
            Action::Write(count) => ("write", count.into()),
            Action::Feed => ("feed", 0),
            Action::Compact(up_to) => ("compact", up_to.into()),
            Action::Step => ("step", 0),
            Action::Acknowledge => ("acknowledge", 0),
            Action::Watcher(who) => ("watcher", who),
            Action::Leave(who) => ("leave", who),
            Action::Crash => ("crash", 0),
            Action::Break => ("break", 0),
            Action::Reconnect => ("reconnect", 0),
        }
    }
}

type Reached = BTreeSet<Outcome>;

pub(super) struct Model {
    pub(super) engine: Engine,
    pub(super) watchers: &'static [Kind],
    pub(super) fault: Option<Fault>,
    pub(super) bounds: Bounds,
}

impl Model {
    pub(super) fn first(&self) -> State {
        let watcher = Watcher {
            phase: Phase::Ignorant,
            told: 0,
            handed_out: 0,
            queue: Queue::default(),
        };
        let Bounds {
            crashes,
            compactions,
            departures,
            ..
        } = self.bounds;
        State {
            newest: 0,
            rows: BTreeSet::new(),
            meta_compacted: 0,
            steps: Vec::new(),
            batch: (0, 0),
            is_locked: false,
            current: 0,
            compacted: 0,
            is_fed: self.engine == Engine::Remote,
            watchers: vec![watcher; self.watchers.len()],
            acked: 0,
            seen: 0,
            left: (crashes, compactions, departures),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn wants_progress(&self, who: usize) -> bool {
        self.watchers[who] == Kind::OneKeyWithProgress
    }

    fn wanted(&self, who: usize, after: Rev, up_to: Rev) -> Vec<Change> {
        let wants_all = self.watchers[who] == Kind::AllKeys;
        let changes = self.engine.changes(after, up_to);
        changes
            .filter(|(_, key)| wants_all || *key == 'a')
            .collect()
    }

    pub(super) fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        let (crashes, compactions, departures) = state.left;
        let is_idle = state.steps.is_empty();
        let room = self.bounds.revisions - state.newest;
        match self.engine {
            Engine::Local if is_idle => {
                actions.extend((1..=room.min(2)).map(Action::Write));
                if compactions > 0 {
                    let range = state.compacted + 1..=state.current;
                    actions.extend(range.map(Action::Compact));
                }
            }
            Engine::Local => {}
            Engine::Remote => {
                if room > 0 {
                    actions.push(Action::Write(1));
                }
                if compactions > 0 {
                    let range = state.meta_compacted + 1..=state.newest;
                    actions.extend(range.map(Action::Compact));
                }
                if is_idle && state.is_fed && state.current < state.newest {
                    actions.push(Action::Feed);
                }
                if is_idle && !state.is_fed {
                    actions.push(Action::Reconnect);
                }
                if is_idle && state.is_fed && crashes > 0 {
                    actions.push(Action::Break);
                }
                if state.acked < state.current {
                    actions.push(Action::Acknowledge);
                }
            }
        }
        if !is_idle {
            actions.push(Action::Step);
        }
        if crashes > 0 {
            actions.push(Action::Crash);
        }
        for (who, watcher) in state.watchers.iter().enumerate() {
            if self.can_go_on(state, watcher) {
                actions.push(Action::Watcher(who));
            }
            let is_seated = matches!(watcher.phase, Phase::Seated(..));
            if departures > 0 && is_seated && !state.is_locked {
                actions.push(Action::Leave(who));
            }
        }
        actions
    }

    fn can_go_on(&self, state: &State, watcher: &Watcher) -> bool {
        match watcher.phase {
            // `Hub::published`.
            Phase::Listed(revision) => {
                self.has(Fault::ListDoesNotWait) || state.current >= revision
            }
            Phase::Informed | Phase::Seating(_) => !state.is_locked,
            _ => true,
        }
    }

    pub(super) fn act(
        &self,
        state: &mut State,
        action: Action,
        reached: &mut Reached,
    ) -> Result<(), String> {
        match action {
            Action::Write(count) => self.write(state, count),
            Action::Feed => {
                state.batch = (state.current, state.current + 1);
                state.steps = self.publication();
            }
            Action::Compact(up_to) => self.compact(state, up_to),
            Action::Step => return self.step(state, reached),
            Action::Acknowledge => {
                state.acked = state.current;
                reached.insert(Outcome::Acked);
            }
            Action::Watcher(who) => return self.watch(state, who, reached),
            Action::Leave(who) => {
                state.left.2 -= 1;
                let watcher = &mut state.watchers[who];
                watcher.phase = Phase::Informed;
                watcher.queue = Queue::default();
            }
            Action::Crash => return self.crash(state, reached),
            Action::Break => {
                state.left.0 -= 1;
                state.is_fed = false;
            }
            Action::Reconnect => self.reconnect(state),
        }
        Ok(())
    }

    fn publication(&self) -> Vec<Step> {
        let push = |key| (0..self.watchers.len()).map(move |who| Step::Push(who, key));
        if self.has(Fault::CurrentBeforeQueues) {
            return [Step::Current].into_iter().chain(push(None)).collect();
        }
        if self.has(Fault::HalfARevision) {
            let half = |key| push(Some(key)).chain([Step::Current]);
            return half('a').chain(half('b')).collect();
        }
        push(None).chain([Step::Current]).collect()
    }

    fn write(&self, state: &mut State, count: Rev) {
        let batch = (state.newest, state.newest + count);
        if self.engine == Engine::Remote {
            // By anybody, at any time.
            state.newest = batch.1;
            state.rows.insert(batch.1);
            return;
        }
        let (commit, ack, publication) = ([Step::Commit], [Step::Ack], self.publication());
        state.batch = batch;
        state.steps = match self.fault {
            Some(Fault::PublishBeforeCommit) => [&publication[..], &commit, &ack].concat(),
            Some(Fault::AckBeforeCommit) => [&ack[..], &commit, &publication].concat(),
            Some(Fault::AckBeforePublish) => [&commit[..], &ack, &publication].concat(),
            _ => [&commit[..], &publication, &ack].concat(),
        };
    }

    fn compact(&self, state: &mut State, up_to: Rev) {
        state.left.1 -= 1;
        if self.engine == Engine::Remote {
            // By others; the hub hears of it when it matters.
            self.forget_rows(state, up_to);
            state.meta_compacted = up_to;
            return;
        }
        state.batch = (state.compacted, up_to);
        state.steps = if self.has(Fault::ForgetsBeforeItSaysSo) {
            vec![Step::ForgetRows, Step::SetMeta, Step::SetCompacted]
        } else {
            vec![Step::Forget, Step::SetCompacted]
        };
    }

    /// What a later revision up to `up_to` replaced, and deletions.
    fn forget_rows(&self, state: &mut State, up_to: Rev) {
        let engine = self.engine;
        let keys = |revision: Rev| engine.changes(revision - 1, revision).map(|(_, key)| key);
        state.rows.retain(|row| {
            let is_live = keys(*row).any(|key| {
                let mut later = (row + 1..=up_to).flat_map(keys);
                !later.any(|other| other == key)
            });
            *row > up_to || (is_live && !engine.script(*row).starts_with('-'))
        });
    }

    fn step(&self, state: &mut State, reached: &mut Reached) -> Result<(), String> {
        let step = state.steps.remove(0);
        let (after, up_to) = state.batch;
        match step {
            Step::Commit => {
                state.newest = up_to;
                state.rows.extend(after + 1..=up_to);
            }
            Step::Push(who, key) => {
                state.is_locked = true;
                self.push(state, who, key);
            }
            Step::Current => {
                state.current = up_to;
            }
            Step::Ack => {
                state.acked = up_to;
                reached.insert(Outcome::Acked);
            }
            Step::Forget => {
                self.forget_rows(state, up_to);
                state.meta_compacted = up_to;
            }
            Step::ForgetRows => self.forget_rows(state, up_to),
            Step::SetMeta => state.meta_compacted = up_to,
            Step::SetCompacted => state.compacted = up_to,
            Step::End(who) => {
                state.is_locked = true;
                let queue = &mut state.watchers[who].queue;
                *queue = Queue {
                    lagged: true,
                    ..Queue::default()
                };
            }
            Step::Jump => {
                state.compacted = state.compacted.max(after);
                state.current = up_to.max(state.current);
                reached.insert(Outcome::Lost);
            }
        }
        let in_section = |step: &Step| {
            matches!(
                step,
                Step::Push(..) | Step::Current | Step::End(_) | Step::Jump
            )
        };
        state.is_locked = in_section(&step) && state.steps.first().is_some_and(in_section);
        if state.steps.is_empty() {
            state.batch = (0, 0);
        }
        Ok(())
    }

    fn push(&self, state: &mut State, who: usize, only: Option<char>) {
        let wanted = self.wanted(who, state.batch.0, state.batch.1);
        let watcher = &mut state.watchers[who];
        let is_registered = matches!(
            watcher.phase,
            Phase::Seated(..) | Phase::Reading(..) | Phase::Taking(_) | Phase::Taken(_)
        );
        let queue = &mut watcher.queue;
        if !is_registered || queue.lagged {
            return;
        }
        let new = wanted.into_iter().filter(|(revision, key)| {
            *revision > queue.after && only.is_none_or(|only| only == *key)
        });
        let new: Vec<Change> = new.collect();
        queue.events.extend(new);
        if queue.events.len() > QUEUE_LIMIT {
            if self.has(Fault::OverflowIsSilent) {
                queue.events.truncate(QUEUE_LIMIT);
            } else {
                queue.events.clear();
                queue.lagged = true;
            }
        }
    }

    /// `open`: what is durable says where the store is.
    fn position(&self, state: &State) -> Rev {
        let newest = state.rows.last().copied().unwrap_or(0);
        if self.has(Fault::RestartsAtNewestRow) {
            return newest;
        }
        newest.max(state.meta_compacted)
    }

    fn crash(&self, state: &mut State, reached: &mut Reached) -> Result<(), String> {
        state.left.0 -= 1;
        state.steps.clear();
        state.is_locked = false;
        state.compacted = state.meta_compacted;
        state.current = match self.engine {
            Engine::Local => self.position(state),
            // A read of etcd's newest revision.
            Engine::Remote => state.newest,
        };
        state.is_fed = self.engine == Engine::Remote;
        for watcher in &mut state.watchers {
            watcher.queue = Queue::default();
            watcher.phase = match watcher.phase {
                Phase::Ignorant | Phase::Listed(_) => Phase::Ignorant,
                _ => Phase::Informed,
            };
        }
        reached.insert(Outcome::Restarted);
        if state.current < state.seen.max(state.acked) {
            return Err(format!(
                "the revision went back to {} over a restart",
                state.current
            ));
        }
        Ok(())
    }

    /// Etcd's watch begins again after what is published, or the thread is lost.
    fn reconnect(&self, state: &mut State) {
        state.is_fed = true;
        if self.has(Fault::ResumesAtNewest) {
            state.current = state.newest;
        } else if state.current < state.meta_compacted {
            state.batch = (state.meta_compacted, state.newest);
            let ends = (0..self.watchers.len()).map(Step::End);
            let ends = ends.filter(|_| !self.has(Fault::LoseDoesNotEndQueues));
            state.steps = ends.chain([Step::Jump]).collect();
        }
    }

    fn watch(&self, state: &mut State, who: usize, reached: &mut Reached) -> Result<(), String> {
        let (current, compacted) = (state.current, state.compacted);
        let watcher = &mut state.watchers[who];
        match watcher.phase.clone() {
            Phase::Ignorant => {
                // A read transaction sees what is durable, published or not.
                let at = match self.engine {
                    Engine::Local => self.position(state),
                    Engine::Remote => state.newest,
                };
                state.watchers[who].phase = Phase::Listed(at);
            }
            Phase::Listed(revision) => {
                watcher.told = revision;
                watcher.phase = Phase::Informed;
                state.seen = state.seen.max(revision);
                if revision > current {
                    return Err(format!("a list shows {revision}, which is not published"));
                }
            }
            Phase::Informed if watcher.told < compacted => {
                reached.insert(Outcome::Compacted);
                watcher.phase = Phase::Ignorant;
            }
            Phase::Informed if self.has(Fault::SeatReadsCurrentBeforeItRegisters) => {
                watcher.phase = Phase::Seating(current);
            }
            Phase::Informed => Model::seat(watcher, current),
            Phase::Seating(live_after) => Model::seat(watcher, live_after),
            Phase::Seated(start, end) if start < end => {
                if self.has(Fault::HistoryChecksBeforeItReads) {
                    watcher.phase = match start < state.meta_compacted {
                        true => Phase::Ignorant,
                        false => Phase::Reading(start, end),
                    };
                    return Ok(());
                }
                if watcher.queue.lagged {
                    reached.insert(Outcome::Lagged);
                    watcher.phase = Phase::Ignorant;
                } else if start < state.meta_compacted {
                    reached.insert(Outcome::Compacted);
                    watcher.phase = Phase::Ignorant;
                } else {
                    return self.read(state, who, start..end, reached);
                }
            }
            Phase::Reading(start, end) => return self.read(state, who, start..end, reached),
            Phase::Seated(..) if self.has(Fault::QueueBeforeCurrent) => {
                let events = std::mem::take(&mut watcher.queue.events);
                if !events.is_empty() {
                    watcher.phase = Phase::Taken(events);
                }
            }
            Phase::Seated(..) => watcher.phase = Phase::Taking(current),
            Phase::Taking(current) => return self.take(state, who, current, reached),
            Phase::Taken(events) => {
                watcher.phase = Phase::Seated(0, 0);
                let through = events
                    .last()
                    .map_or(current, |(last, _)| current.max(*last));
                return self.hand_out(state, who, &events, through);
            }
        }
        Ok(())
    }

    /// `Hub::seat`.
    fn seat(watcher: &mut Watcher, live_after: Rev) {
        watcher.queue = Queue {
            after: live_after.max(watcher.told),
            ..Queue::default()
        };
        watcher.handed_out = watcher.told;
        watcher.phase = Phase::seated(watcher.told, live_after);
    }

    /// One turn of the loop in `Subscription::next` that reads history.
    fn read(
        &self,
        state: &mut State,
        who: usize,
        history: std::ops::Range<Rev>,
        reached: &mut Reached,
    ) -> Result<(), String> {
        let through = history.end.min(history.start + HISTORY_STEP);
        let mut events = self.wanted(who, history.start, through);
        events.retain(|(revision, _)| state.rows.contains(revision));
        let watcher = &mut state.watchers[who];
        watcher.phase = Phase::seated(through, history.end);
        watcher.handed_out = through;
        let is_end = through == history.end
            && self.wants_progress(who)
            && !self.has(Fault::PastEndsInSilence);
        if events.is_empty() && !is_end {
            return Ok(());
        }
        reached.insert(Outcome::FromHistory);
        self.hand_out(state, who, &events, through)
    }

    /// The section of `Queue::take` under the queue's lock, after `current` was read.
    fn take(
        &self,
        state: &mut State,
        who: usize,
        current: Rev,
        reached: &mut Reached,
    ) -> Result<(), String> {
        let watcher = &mut state.watchers[who];
        watcher.phase = Phase::Seated(0, 0);
        let events = std::mem::take(&mut watcher.queue.events);
        if let Some((last, _)) = events.last() {
            reached.insert(Outcome::Events);
            return self.hand_out(state, who, &events, current.max(*last));
        }
        if watcher.queue.lagged {
            reached.insert(Outcome::Lagged);
            watcher.phase = Phase::Ignorant;
        } else if self.wants_progress(who) && current > watcher.handed_out {
            reached.insert(Outcome::Progress);
            return self.hand_out(state, who, &[], current);
        }
        Ok(())
    }

    /// A batch: it must be exactly what there is between what the client knew and `through`.
    fn hand_out(
        &self,
        state: &mut State,
        who: usize,
        events: &[Change],
        through: Rev,
    ) -> Result<(), String> {
        let told = state.watchers[who].told;
        let through = through.max(state.watchers[who].handed_out);
        let expected = self.wanted(who, told, through);
        if events != expected {
            return Err(format!(
                "watcher {who} was handed out {events:?} up to {through}, knowing {told}; it is {expected:?}"
            ));
        }
        let watcher = &mut state.watchers[who];
        (watcher.told, watcher.handed_out) = (through, through);
        state.seen = state.seen.max(through);
        Ok(())
    }

    /// What holds in every state.
    pub(super) fn check(&self, state: &State) -> Result<(), String> {
        let durable = state.newest;
        if state.acked > durable || state.seen > durable {
            return Err(format!(
                "{} was acknowledged and {} seen, which is not durable",
                state.acked, state.seen
            ));
        }
        if state.current > durable {
            return Err(format!("the current {} is not durable", state.current));
        }
        if state.acked > state.current {
            return Err(format!(
                "{} was acknowledged, but not published",
                state.acked
            ));
        }
        for (who, watcher) in state.watchers.iter().enumerate() {
            if watcher.queue.events.len() > QUEUE_LIMIT {
                return Err("a queue is longer than its bound".to_owned());
            }
            let (start, end, taken) = match &watcher.phase {
                Phase::Seated(start, end) | Phase::Reading(start, end) => (*start, *end, &[][..]),
                Phase::Taking(_) => (0, 0, &[][..]),
                Phase::Taken(events) => (0, 0, events.as_slice()),
                _ => continue,
            };
            let has_history = matches!(watcher.phase, Phase::Seated(start, end) if start < end);
            if self.wants_progress(who) && !has_history && watcher.told < watcher.handed_out {
                return Err(format!("watcher {who} is not told of progress"));
            }
            let after = watcher.handed_out.max(end.max(start));
            if watcher.queue.lagged {
                continue;
            }
            for change in self.wanted(who, after, state.current) {
                if !watcher.queue.events.contains(&change) && !taken.contains(&change) {
                    return Err(format!(
                        "current is {}, ahead of the queue of {who}: it has not {change:?}",
                        state.current
                    ));
                }
            }
        }
        Ok(())
    }
}
