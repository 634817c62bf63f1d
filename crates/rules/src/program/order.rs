//! In what order things are decided: what is cheap first, and what many rules need before all of them.

use std::collections::HashMap;

use crate::graph::{Atom, Graph, Mode, Node, NodeId, Test};
use crate::subject::Subject;

/// Up to this cost, deciding again is as good as remembering.
pub(super) const CHEAP: u32 = 6;
/// What is dearer is as dear as this.
const MAX_COST: u32 = 1 << 20;

/// What to do for an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Goes on if the node holds, and at `skip` if not.
    Guard { node: u32, skip: u32 },
    /// The rule matches.
    Match(u32),
}

/// What deciding each node may cost.
pub(super) fn costs(graph: &Graph) -> Vec<u32> {
    let mut costs: Vec<u32> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let cost = match node {
            Node::Constant(_) => 0,
            Node::And(children) | Node::Or(children) => children
                .iter()
                .map(|child| costs[child.0 as usize])
                .fold(1, u32::saturating_add),
            Node::Not(child) => costs[child.0 as usize],
            Node::Atom(atom) => {
                let atom = graph.atom(*atom);
                let subject = &graph.subjects[atom.subject.0 as usize];
                atom_cost(atom).saturating_add(subject_cost(subject))
            }
        };
        costs.push(cost.min(MAX_COST));
    }
    costs
}

fn atom_cost(atom: &Atom) -> u32 {
    let cost = test_cost(&atom.test);
    if atom.mode == Mode::One {
        cost
    } else {
        cost * 4
    }
}

fn test_cost(test: &Test) -> u32 {
    match test {
        Test::Exists => 1,
        Test::In(_) | Test::Order(..) => 2,
        Test::Prefix(_) | Test::Suffix(_) => 4,
        Test::Paths(_) => 12,
        Test::Contains(_) => 16,
        Test::IContains(_) => 24,
        Test::Glob(..) | Test::Other(..) => 20,
        Test::Regex(_) => 80,
        Test::Not(inner) => test_cost(inner),
        Test::Count(_, tests) => tests
            .iter()
            .map(test_cost)
            .fold(1, u32::saturating_add)
            .min(MAX_COST),
    }
}

fn subject_cost(subject: &Subject) -> u32 {
    match subject {
        Subject::Field(field) if field.kind.is_text() => 2,
        Subject::Field(_) => 1,
        _ => 30,
    }
}

/// Orders nodes by cost.
pub(super) struct Ordered<'a> {
    graph: &'a Graph,
    costs: &'a [u32],
}

/// A rule, and what must hold for it.
type Conjunction = (u32, Vec<NodeId>);

impl<'a> Ordered<'a> {
    pub(super) fn new(graph: &'a Graph, costs: &'a [u32]) -> Self {
        Self { graph, costs }
    }

    fn cost(&self, node: NodeId) -> u32 {
        self.costs[node.0 as usize]
    }

    /// Children, cheapest first; the order of the rule's author breaks ties.
    pub(super) fn children(&self, children: &[NodeId]) -> Vec<NodeId> {
        let mut children = children.to_vec();
        children.sort_by_key(|child| self.cost(*child));
        children
    }

    /// The steps for rules with these conditions.
    pub(super) fn steps(&self, rules: &[(u32, NodeId)]) -> Box<[Step]> {
        let conjunctions = rules
            .iter()
            .map(|(rule, root)| {
                let parts = match self.graph.node(*root) {
                    Node::And(children) => children.to_vec(),
                    Node::Constant(true) => Vec::new(),
                    _ => vec![*root],
                };
                (*rule, parts)
            })
            .collect();
        let mut steps = Vec::new();
        self.group(conjunctions, &mut steps);
        steps.into()
    }

    /// Puts what most rules have in common before all of them, again and again.
    fn group(&self, mut rules: Vec<Conjunction>, steps: &mut Vec<Step>) {
        while !rules.is_empty() {
            let Some(common) = self.most_common(&rules) else {
                break;
            };
            let (mut with, without): (Vec<_>, Vec<_>) = rules
                .into_iter()
                .partition(|(_, parts)| parts.contains(&common));
            for (_, parts) in &mut with {
                parts.retain(|part| *part != common);
            }
            let at = self.guard(common, steps);
            self.group(with, steps);
            Self::close(at, steps);
            rules = without;
        }
        for (rule, parts) in rules {
            let guards: Vec<usize> = self
                .children(&parts)
                .into_iter()
                .map(|part| self.guard(part, steps))
                .collect();
            steps.push(Step::Match(rule));
            for at in guards {
                Self::close(at, steps);
            }
        }
    }

    fn most_common(&self, rules: &[Conjunction]) -> Option<NodeId> {
        let mut counts: HashMap<NodeId, u32> = HashMap::new();
        for part in rules.iter().flat_map(|(_, parts)| parts) {
            *counts.entry(*part).or_default() += 1;
        }
        counts
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .max_by_key(|(part, count)| {
                let cost = std::cmp::Reverse(self.cost(*part));
                (*count, cost, std::cmp::Reverse(*part))
            })
            .map(|(part, _)| part)
    }

    fn guard(&self, node: NodeId, steps: &mut Vec<Step>) -> usize {
        steps.push(Step::Guard {
            node: node.0,
            skip: 0,
        });
        steps.len() - 1
    }

    fn close(at: usize, steps: &mut [Step]) {
        let end = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if let Some(Step::Guard { skip, .. }) = steps.get_mut(at) {
            *skip = end;
        }
    }
}
