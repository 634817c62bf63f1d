//! In what order things are decided: what is cheap and likely to settle the matter first, and what many
//! rules need before all of them.

use std::collections::HashMap;

use crate::constant::Constant;
use crate::graph::{Graph, Mode, Node, NodeId, Test};
use crate::subject::Subject;

/// Up to this cost, deciding again is as good as remembering.
const CHEAP: f32 = 6.0;
/// How often common parts are looked for among the same rules: it takes time for each.
const MAX_GROUPS: usize = 100;
/// What is dearer is as dear as this.
const MAX_COST: f32 = 1e6;

/// What to do for an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Goes on if the node holds, and at `skip` if not.
    Guard { node: u32, skip: u32 },
    /// The rule matches.
    Match(u32),
}

/// What deciding a node may cost, and how likely it holds. Guesses: they change how fast events are
/// decided about, not what is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    cost: f32,
    chance: f32,
}

impl Estimate {
    /// Whether it should rather be remembered.
    pub(super) fn is_dear(self) -> bool {
        self.cost > CHEAP
    }

    /// The lower, the sooner it should be asked where all must hold.
    fn rank_in_and(self) -> f32 {
        self.cost / (1.0 - self.chance).max(0.001)
    }

    /// The lower, the sooner it should be asked where one suffices.
    fn rank_in_or(self) -> f32 {
        self.cost / self.chance.max(0.001)
    }
}

/// The estimates of all nodes.
pub(super) fn estimates(graph: &Graph) -> Vec<Estimate> {
    let mut estimates: Vec<Estimate> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let of = |node: &NodeId| estimates[node.0 as usize];
        let estimate = match node {
            Node::Constant(truth) => Estimate {
                cost: 0.0,
                chance: if *truth { 1.0 } else { 0.0 },
            },
            Node::And(children) => Estimate {
                cost: children.iter().map(|child| of(child).cost).sum(),
                chance: children.iter().map(|child| of(child).chance).product(),
            },
            Node::Or(children) => {
                let none: f32 = children
                    .iter()
                    .map(|child| 1.0 - of(child).chance)
                    .product();
                Estimate {
                    cost: children.iter().map(|child| of(child).cost).sum(),
                    chance: 1.0 - none,
                }
            }
            Node::Not(child) => Estimate {
                cost: of(child).cost,
                chance: 1.0 - of(child).chance,
            },
            Node::Atom(atom) => {
                let atom = graph.atom(*atom);
                let subject = &graph.subjects[atom.subject.0 as usize];
                let several = if atom.mode == Mode::One { 1.0 } else { 4.0 };
                Estimate {
                    cost: test_cost(&atom.test) * several + subject_cost(subject),
                    chance: chance(&atom.test),
                }
            }
        };
        estimates.push(Estimate {
            cost: estimate.cost.min(MAX_COST),
            ..estimate
        });
    }
    estimates
}

fn test_cost(test: &Test) -> f32 {
    match test {
        Test::Exists => 1.0,
        Test::In(_) | Test::Order(..) => 2.0,
        Test::Prefix(_) | Test::Suffix(_) => 4.0,
        Test::Paths(_) => 12.0,
        Test::Contains(_) => 16.0,
        Test::IContains(_) => 24.0,
        Test::Glob(..) | Test::Other(..) => 20.0,
        Test::Regex(_) => 80.0,
        Test::Not(inner) => test_cost(inner),
        Test::Count(_, tests) => tests.iter().map(test_cost).sum(),
    }
}

fn chance(test: &Test) -> f32 {
    match test {
        Test::Exists => 0.9,
        Test::In(constants) => match &**constants {
            [] => 0.0,
            [Constant::Bool(true)] => 0.3,
            [Constant::Bool(false)] => 0.7,
            [Constant::Bytes(_)] => 0.05,
            [_] => 0.2,
            _ => 0.1,
        },
        Test::Order(..) | Test::Other(..) => 0.5,
        Test::Prefix(_) | Test::Suffix(_) => 0.05,
        Test::Contains(_) | Test::IContains(_) | Test::Paths(_) => 0.1,
        Test::Glob(..) | Test::Regex(_) => 0.1,
        Test::Not(inner) => 1.0 - chance(inner),
        Test::Count(..) => 0.2,
    }
}

fn subject_cost(subject: &Subject) -> f32 {
    match subject {
        Subject::Field(field) if field.kind.is_text() => 2.0,
        Subject::Field(_) => 1.0,
        _ => 30.0,
    }
}

/// Puts nodes in order.
pub(super) struct Ordered<'a> {
    graph: &'a Graph,
    estimates: &'a [Estimate],
}

/// A rule, and what must hold for it.
type Conjunction = (u32, Vec<NodeId>);

impl<'a> Ordered<'a> {
    pub(super) fn new(graph: &'a Graph, estimates: &'a [Estimate]) -> Self {
        Self { graph, estimates }
    }

    fn estimate(&self, node: NodeId) -> Estimate {
        self.estimates[node.0 as usize]
    }

    /// Children of which all must hold; the order of the rule's author breaks ties.
    pub(super) fn all_of(&self, children: &[NodeId]) -> Vec<NodeId> {
        self.sorted(children, Estimate::rank_in_and)
    }

    /// Children of which one suffices.
    pub(super) fn one_of(&self, children: &[NodeId]) -> Vec<NodeId> {
        self.sorted(children, Estimate::rank_in_or)
    }

    fn sorted(&self, children: &[NodeId], rank: fn(Estimate) -> f32) -> Vec<NodeId> {
        let mut children = children.to_vec();
        children.sort_by(|one, other| {
            rank(self.estimate(*one)).total_cmp(&rank(self.estimate(*other)))
        });
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
        for _ in 0..MAX_GROUPS {
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
                .all_of(&parts)
                .into_iter()
                .map(|part| self.guard(part, steps))
                .collect();
            steps.push(Step::Match(rule));
            for at in guards {
                Self::close(at, steps);
            }
        }
    }

    /// What spares most: it is in many conditions, and seldom holds.
    fn most_common(&self, rules: &[Conjunction]) -> Option<NodeId> {
        let mut counts: HashMap<NodeId, f32> = HashMap::new();
        for part in rules.iter().flat_map(|(_, parts)| parts) {
            *counts.entry(*part).or_default() += 1.0;
        }
        let spares = |part: NodeId, count: f32| count * (1.0 - self.estimate(part).chance);
        counts
            .into_iter()
            .filter(|(part, count)| *count > 1.0 && self.estimate(*part).chance < 0.9)
            .max_by(|(one, of_one), (other, of_other)| {
                let cost = |part: NodeId| self.estimate(part).cost;
                spares(*one, *of_one)
                    .total_cmp(&spares(*other, *of_other))
                    .then(cost(*other).total_cmp(&cost(*one)))
                    .then(other.cmp(one))
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
