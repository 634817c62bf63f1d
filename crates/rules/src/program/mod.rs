//! Rules as a program that decides about events.
//!
//! What is the same in several conditions is decided once an event; what depends on nothing but the type
//! of an event is decided when the program is made; constants that a field is compared with are looked
//! up together.
//!
//! Invariant: a program does not change and is shared by threads; each has a [`Scratch`] of its own. An
//! event that matches no rule allocates nothing, once the scratch has grown to what events need.

mod atom;
mod fold;
mod index;
mod order;
mod run;
mod select;

use std::collections::{BTreeMap, HashMap};

pub use run::Scratch;
pub use select::{Action, Matching, Selection};

use crate::event::Event;
use crate::events::EventSet;
use crate::fields::{FieldRef, Source};
use crate::graph::{Graph, Node, NodeId};
use crate::load::{Rule, RuleSet};
use crate::subject::Subject;
use atom::AtomPlan;
use fold::Fold;
use index::SubjectPlan;
use order::Step;

/// The rules of all sources, ready to decide.
#[derive(Debug)]
pub struct Program {
    rules: Vec<Rule>,
    sources: BTreeMap<Source, SourceProgram>,
}

/// The rules of one source.
#[derive(Debug)]
pub(crate) struct SourceProgram {
    subjects: Vec<SubjectPlan>,
    atoms: Vec<AtomPlan>,
    ops: Vec<Op>,
    /// The children of all operations.
    children: Vec<u32>,
    memos: usize,
    words: usize,
    /// What to do for an event, by its type: an index of `steps`.
    by_type: Vec<u32>,
    steps: Vec<Box<[Step]>>,
    events: EventSet,
}

/// How a node is decided.
#[derive(Clone, Copy, Debug)]
struct Op {
    kind: OpKind,
    /// Where what was decided is noted; `u32::MAX` if it is not.
    memo: u32,
}

#[derive(Clone, Copy, Debug)]
enum OpKind {
    Constant(bool),
    And(u32, u32),
    Or(u32, u32),
    Not(u32),
    Atom(u32),
}

impl Program {
    /// Makes a program of those rules that the selection leaves enabled.
    pub fn new(set: &RuleSet, selection: &Selection) -> Self {
        let enabled = selection.enabled(set.rules());
        let mut sources = BTreeMap::new();
        for (source, graph) in set.graphs() {
            let rules: Vec<(u32, &Rule)> = (0..)
                .zip(set.rules())
                .filter(|(at, rule)| enabled[*at as usize] && rule.source == *source)
                .collect();
            if !rules.is_empty() {
                sources.insert(*source, SourceProgram::new(graph, &rules));
            }
        }
        Self {
            rules: set.rules().to_vec(),
            sources,
        }
    }

    /// The rules, enabled or not; matches are indices of them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Memory for a thread.
    pub fn scratch(&self) -> Scratch {
        Scratch::new()
    }

    /// The first rule, in the order of their definition, that matches.
    pub fn first<'a>(
        &'a self,
        source: Source,
        event: &'a (impl Event + ?Sized),
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let program = self.sources.get(&source)?;
        let mut first = u32::MAX;
        program.run(event, scratch, |rule| first = first.min(rule));
        (first != u32::MAX).then_some(first as usize)
    }

    /// All rules that match, in the order of their definition, appended to `matches`.
    pub fn all<'a>(
        &'a self,
        source: Source,
        event: &'a (impl Event + ?Sized),
        scratch: &mut Scratch,
        matches: &mut Vec<usize>,
    ) {
        let from = matches.len();
        if let Some(program) = self.sources.get(&source) {
            program.run(event, scratch, |rule| matches.push(rule as usize));
        }
        matches[from..].sort_unstable();
    }

    /// The types of events that can match, for capturing no others.
    pub fn events(&self, source: Source) -> EventSet {
        match self.sources.get(&source) {
            Some(program) => program.events.clone(),
            None => EventSet::empty(),
        }
    }

    /// The fields that conditions ask events for.
    pub fn condition_fields(&self, source: Source) -> Vec<FieldRef> {
        let mut fields = Vec::new();
        if let Some(program) = self.sources.get(&source) {
            for plan in &program.subjects {
                plan.subject.fields(&mut fields);
            }
        }
        let mut seen = std::collections::HashSet::new();
        fields.retain(|field| seen.insert(field.clone()));
        fields
    }
}

impl Subject {
    /// Appends the fields that are in it.
    pub(crate) fn fields(&self, out: &mut Vec<FieldRef>) {
        match self {
            Self::Field(field) => out.push(field.clone()),
            Self::Text(_) => {}
            Self::List(items) | Self::Concat(items) => {
                items.iter().for_each(|item| item.fields(out));
            }
            Self::Map(_, inner) => inner.fields(out),
            Self::Join(parts) | Self::Getopt(parts, _) => {
                parts.iter().for_each(|part| part.fields(out));
            }
        }
    }
}

impl SourceProgram {
    fn new(graph: &Graph, rules: &[(u32, &Rule)]) -> Self {
        let mut fold = Fold::new(graph);
        let mut events = EventSet::empty();
        // Many types have the same rules left.
        let mut roots: Vec<Vec<(u32, NodeId)>> = Vec::new();
        let mut known: HashMap<Vec<(u32, NodeId)>, u32> = HashMap::new();
        let mut by_type = Vec::new();
        for event in crate::events::all() {
            fold.begin(event);
            let mut of_event = Vec::new();
            for (at, rule) in rules.iter().filter(|(_, rule)| rule.events.contains(event)) {
                let root = fold.node(rule.root);
                if *fold.residual.node(root) != Node::Constant(false) {
                    of_event.push((*at, root));
                }
            }
            if !of_event.is_empty() {
                events.insert(event);
            }
            by_type.push(*known.entry(of_event).or_insert_with_key(|of_event| {
                roots.push(of_event.clone());
                u32::try_from(roots.len() - 1).unwrap_or(u32::MAX)
            }));
        }
        let residual = fold.residual;
        let estimates = order::estimates(&residual);
        let ordered = order::Ordered::new(&residual, &estimates);
        let steps: Vec<Box<[Step]>> = roots.iter().map(|roots| ordered.steps(roots)).collect();
        let uses = uses(&residual, &steps);
        let (subjects, atoms, words) = index::plans(&residual, &uses);
        let mut program = Self {
            subjects,
            atoms,
            ops: Vec::new(),
            children: Vec::new(),
            memos: 0,
            words,
            by_type,
            steps,
            events,
        };
        program.assemble(&residual, &estimates, &uses);
        program
    }

    fn assemble(&mut self, graph: &Graph, estimates: &[order::Estimate], uses: &[u32]) {
        let ordered = order::Ordered::new(graph, estimates);
        let mut memos = 0;
        for (at, node) in graph.nodes.iter().enumerate() {
            let mut range = |children: Vec<NodeId>| {
                let from = u32::try_from(self.children.len()).unwrap_or(u32::MAX);
                self.children.extend(children.iter().map(|child| child.0));
                (from, u32::try_from(self.children.len()).unwrap_or(u32::MAX))
            };
            let kind = match node {
                Node::Constant(truth) => OpKind::Constant(*truth),
                Node::And(children) => {
                    let (from, to) = range(ordered.all_of(children));
                    OpKind::And(from, to)
                }
                Node::Or(children) => {
                    let (from, to) = range(ordered.one_of(children));
                    OpKind::Or(from, to)
                }
                Node::Not(child) => OpKind::Not(child.0),
                Node::Atom(atom) => OpKind::Atom(atom.0),
            };
            // What is cheap is decided again rather than noted.
            let worth = match node {
                Node::And(_) | Node::Or(_) => true,
                Node::Atom(_) => estimates[at].is_dear(),
                _ => false,
            };
            let memo = if worth && uses[at] > 1 {
                memos += 1;
                memos - 1
            } else {
                u32::MAX
            };
            self.ops.push(Op { kind, memo });
        }
        self.memos = memos as usize;
    }
}

/// How often each node is used, by other nodes that are and by steps.
fn uses(graph: &Graph, steps: &[Box<[Step]>]) -> Vec<u32> {
    let mut uses = vec![0_u32; graph.nodes.len()];
    for step in steps.iter().flat_map(|steps| steps.iter()) {
        if let Step::Guard { node, .. } = step {
            uses[*node as usize] += 1;
        }
    }
    // Children have smaller numbers.
    for at in (0..graph.nodes.len()).rev() {
        if uses[at] == 0 {
            continue;
        }
        match &graph.nodes[at] {
            Node::And(children) | Node::Or(children) => {
                children
                    .iter()
                    .for_each(|child| uses[child.0 as usize] += 1);
            }
            Node::Not(child) => uses[child.0 as usize] += 1,
            Node::Constant(_) | Node::Atom(_) => {}
        }
    }
    uses
}

#[cfg(test)]
mod tests;
