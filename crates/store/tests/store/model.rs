//! The protocol of publication and resumption as a model, looked through exhaustively: every order in
//! which the sections under a lock of the writer (or of etcd's watch), of two subscribers, of
//! compaction and of crashes can follow one another.
//!
//! What stands for what: `Step` is the writer's `commit` and the hub's `publish` (or `lose`), one step
//! for each section under a lock; `Phase` is `Store::list`, `Hub::seat` and `Subscription::next`. Each
//! fault is a wrong order, or something left out, that the search must find, or it proves nothing.
//!
//! Not in the model: whether a sleeping subscriber is woken (it is always allowed to look), and values.

mod protocol;
mod search;

use std::collections::BTreeSet;

use self::protocol::{Bounds, Engine, Fault, Kind, Model};
use self::search::{Verdict, search};

const BOUNDS: Bounds = Bounds {
    revisions: 4,
    crashes: 1,
    compactions: 1,
    departures: 1,
};
const BOUNDS_LONG: Bounds = Bounds {
    revisions: 5,
    crashes: 2,
    compactions: 2,
    departures: 1,
};

/// Watchers meet only in the hub's lock, so they are looked at alone, and both in a smaller world.
const ALONE: [&[Kind]; 3] = [
    &[Kind::OneKey],
    &[Kind::AllKeys],
    &[Kind::OneKeyWithProgress],
];
const TOGETHER: &[Kind] = &[Kind::OneKeyWithProgress, Kind::AllKeys];
const BOUNDS_TOGETHER: Bounds = Bounds {
    revisions: 2,
    crashes: 1,
    compactions: 1,
    departures: 0,
};
const BOUNDS_TOGETHER_LONG: Bounds = Bounds {
    revisions: 3,
    crashes: 1,
    compactions: 1,
    departures: 0,
};

fn holds(engine: Engine, bounds: Bounds, together: Bounds) {
    let mut outcomes = BTreeSet::new();
    let alone = ALONE.map(|watchers| (watchers, bounds));
    for (watchers, bounds) in alone.into_iter().chain([(TOGETHER, together)]) {
        let model = Model {
            engine,
            watchers,
            fault: None,
            bounds,
        };
        match search(&model) {
            Verdict::Holds { states, reached } => {
                println!("{engine:?}, {watchers:?}: {states} states, reached {reached:?}");
                outcomes.extend(reached);
            }
            Verdict::Broken { violation, trace } => panic!("{violation}\n{}", trace.join("\n")),
        }
    }
    for outcome in engine.outcomes() {
        assert!(outcomes.contains(outcome), "{outcome:?} is never reached");
    }
}

#[test]
fn the_protocol_holds_with_a_writer_of_our_own() {
    holds(Engine::Local, BOUNDS, BOUNDS_TOGETHER);
}

#[test]
fn the_protocol_holds_with_a_watch_that_can_be_lost() {
    holds(Engine::Remote, BOUNDS, BOUNDS_TOGETHER);
}

#[test]
#[ignore = "long: more revisions and crashes"]
fn the_protocol_holds_with_a_writer_of_our_own_long() {
    holds(Engine::Local, BOUNDS_LONG, BOUNDS_TOGETHER_LONG);
}

#[test]
#[ignore = "long: more revisions and crashes"]
fn the_protocol_holds_with_a_watch_that_can_be_lost_long() {
    holds(Engine::Remote, BOUNDS_LONG, BOUNDS_TOGETHER_LONG);
}

#[test]
fn every_fault_is_found() {
    for (fault, engine, expected) in Fault::ALL {
        let is_found = ALONE.iter().any(|watchers| {
            let model = Model {
                engine,
                watchers,
                fault: Some(fault),
                bounds: BOUNDS,
            };
            let Verdict::Broken { violation, trace } = search(&model) else {
                return false;
            };
            assert!(
                violation.contains(expected),
                "{fault:?} was found by another property: {violation}"
            );
            println!("{fault:?}: {violation} after {} steps", trace.len());
            true
        });
        assert!(is_found, "{fault:?} was not found");
    }
}
