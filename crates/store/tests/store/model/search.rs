//! Breadth-first search through all states of a model. The first violation found is a shortest one.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::protocol::{Model, Outcome, State};

/// What a search came to.
pub(super) enum Verdict {
    Holds {
        states: usize,
        reached: BTreeSet<Outcome>,
    },
    Broken {
        violation: String,
        trace: Vec<String>,
    },
}

/// Looks at every state that can be reached.
pub(super) fn search(model: &Model) -> Verdict {
    let first = model.first();
    // Each state with where it came from, and by what.
    let mut states: Vec<(State, usize, &'static str, usize)> = vec![(first.clone(), 0, "start", 0)];
    let mut known = HashMap::from([(first, 0)]);
    let mut open = VecDeque::from([0]);
    let mut reached = BTreeSet::new();
    while let Some(at) = open.pop_front() {
        let state = states[at].0.clone();
        for action in model.actions(&state) {
            let mut next = state.clone();
            let result = model
                .act(&mut next, action, &mut reached)
                .and_then(|()| model.check(&next));
            let (name, who) = action.describe();
            if let Err(violation) = result {
                let mut trace = vec![format!("{name} {who}: {next:?}")];
                let mut at = at;
                while at != 0 {
                    let (state, before, name, who) = &states[at];
                    trace.push(format!("{name} {who}: {state:?}"));
                    at = *before;
                }
                trace.reverse();
                return Verdict::Broken { violation, trace };
            }
            if !known.contains_key(&next) {
                known.insert(next.clone(), states.len());
                open.push_back(states.len());
                states.push((next, at, name, who));
            }
        }
    }
    Verdict::Holds {
        states: states.len(),
        reached,
    }
}
