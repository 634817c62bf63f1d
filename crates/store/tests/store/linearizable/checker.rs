//! Wing and Gong's search with Lowe's memory: calls are put in order one by one, among those that were
//! begun before any other had ended, until all that were answered have their place. What was tried
//! once, the same calls done and the same state, is not tried again.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// The keys of all histories.
pub(super) const KEYS: [&str; 3] = ["a", "b", "c"];

/// A value; each is written at most once.
type Id = Option<u64>;
type World = [Id; KEYS.len()];

#[derive(Debug, Clone, PartialEq)]
enum Op {
    Get(usize),
    List,
    /// Keys with what they must have and what they get.
    Transact(Vec<(usize, Id, Id)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Got(Id),
    Listed(World),
    Done,
    Conflict(usize, Id),
}

#[derive(Debug)]
struct Call {
    op: Op,
    /// Positions in the history.
    begun: usize,
    ended: usize,
    /// None when nobody was told.
    answer: Option<Answer>,
}

impl Call {
    /// The world after this call, if its answer fits the world before it.
    fn apply(&self, world: &World) -> Option<World> {
        let mut next = *world;
        let fits = match (&self.op, &self.answer) {
            (Op::Get(key), Some(Answer::Got(id))) => world[*key] == *id,
            (Op::List, Some(Answer::Listed(seen))) => world == seen,
            (Op::Transact(writes), Some(Answer::Conflict(key, current))) => {
                let expected = writes.iter().find(|(other, ..)| other == key);
                world[*key] == *current && expected.is_some_and(|(_, id, _)| id != current)
            }
            // What was never answered matters only if it changed something.
            (Op::Transact(writes), Some(Answer::Done) | None) => {
                for (key, _, new) in writes {
                    next[*key] = *new;
                }
                writes.iter().all(|(key, expect, _)| world[*key] == *expect)
            }
            _ => false,
        };
        fits.then_some(next)
    }
}

/// What clients did and were told.
#[derive(Debug)]
pub(super) struct History {
    calls: Vec<Call>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Call) -> bool| self.calls.iter().filter(|call| is(call)).count();
        write!(
            f,
            "{} calls: {} swaps done, {} conflicts, {} never answered",
            self.calls.len(),
            count(|call| call.answer == Some(Answer::Done)),
            count(|call| matches!(call.answer, Some(Answer::Conflict(..)))),
            count(|call| call.answer.is_none()),
        )
    }
}

impl History {
    /// Reads the lines `inv CLIENT OPERATION` and `ret CLIENT ANSWER`.
    pub(super) fn parse(lines: &[String]) -> History {
        let mut calls: Vec<Call> = Vec::new();
        let mut open = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["inv", client, ref op @ ..] => {
                    let before = open.insert(client, calls.len());
                    assert!(before.is_none(), "one call at a time: {line}");
                    calls.push(Call {
                        op: operation(op),
                        begun: at,
                        ended: usize::MAX,
                        answer: None,
                    });
                }
                ["ret", client, ref answer @ ..] => {
                    let call = &mut calls[open.remove(client).unwrap()];
                    call.ended = at;
                    call.answer = Some(parse_answer(answer));
                }
                _ => panic!("{line:?} is not of a history"),
            }
        }
        // Reads without an answer say nothing.
        calls.retain(|call| call.answer.is_some() || matches!(call.op, Op::Transact(_)));
        History { calls }
    }

    /// Whether there is an order; else how far the search came.
    pub(super) fn check(&self) -> Result<(), String> {
        let answered = self.calls.iter().filter(|call| call.answer.is_some());
        let answered = answered.count();
        let mut tried = HashSet::new();
        let mut furthest = (0, [None; KEYS.len()]);
        let mut stack = vec![(Done::default(), World::default(), 0)];
        while let Some((done, world, count)) = stack.pop() {
            if count == answered {
                return Ok(());
            }
            if count > furthest.0 {
                furthest = (count, world);
            }
            let left = || (done.all_before..self.calls.len()).filter(|at| !done.has(*at));
            // Whatever begins after this end comes later in every order.
            let first_end = left().map(|at| self.calls[at].ended).min();
            let first_end = first_end.unwrap_or(usize::MAX);
            let next = left().take_while(|at| self.calls[*at].begun < first_end);
            let next = next.filter_map(|at| Some((at, self.calls[at].apply(&world)?)));
            let mut next: Vec<(usize, World)> = next.collect();
            // What changes nothing can as well come first: then there is nothing else to try.
            let changes_nothing =
                |(at, after): &&(usize, World)| *after == world && self.calls[*at].answer.is_some();
            if let Some(only) = next.iter().find(changes_nothing).copied() {
                next = vec![only];
            }
            for (at, after) in next {
                let done = done.with(at);
                if tried.insert((done.clone(), after)) {
                    let more = usize::from(self.calls[at].answer.is_some());
                    stack.push((done, after, count + more));
                }
            }
        }
        let (count, world) = furthest;
        Err(format!(
            "{count} of {answered} calls can be put in order, up to {world:?}"
        ))
    }
}

/// Which calls have their place: all before an index, and some after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Done {
    all_before: usize,
    more: Vec<usize>,
}

impl Done {
    fn has(&self, at: usize) -> bool {
        at < self.all_before || self.more.binary_search(&at).is_ok()
    }

    fn with(&self, at: usize) -> Done {
        let mut done = self.clone();
        if let Err(place) = done.more.binary_search(&at) {
            done.more.insert(place, at);
        }
        let before = done.all_before;
        let follows = (before..)
            .zip(&done.more)
            .take_while(|(at, more)| at == *more);
        let count = follows.count();
        done.more.drain(..count);
        done.all_before += count;
        done
    }
}

fn key(word: &str) -> usize {
    KEYS.iter().position(|key| *key == word).unwrap()
}

fn id(word: &str) -> Id {
    (word != "-").then(|| word.parse().unwrap())
}

fn operation(words: &[&str]) -> Op {
    match words {
        ["g", word] => Op::Get(key(word)),
        ["l"] => Op::List,
        ["t", writes] => {
            let write = |write: &str| {
                let fields: Vec<&str> = write.split(':').collect();
                (key(fields[0]), id(fields[1]), id(fields[2]))
            };
            Op::Transact(writes.split(',').map(write).collect())
        }
        _ => panic!("{words:?} is not an operation"),
    }
}

fn parse_answer(words: &[&str]) -> Answer {
    match words {
        ["got", word] => Answer::Got(id(word)),
        ["list", words] => {
            let ids: Vec<Id> = words.split(',').map(id).collect();
            Answer::Listed(ids.try_into().unwrap())
        }
        ["ok"] => Answer::Done,
        ["conflict", word, current] => Answer::Conflict(key(word), id(current)),
        _ => panic!("{words:?} is not an answer"),
    }
}
