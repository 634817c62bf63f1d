//! Conditions for one type of events: what depends on the type alone is decided.

use std::collections::HashMap;

use super::atom;
use crate::condition::Operator;
use crate::constant::Constant;
use crate::event::{Event, Values};
use crate::events::{EventType, Sort};
use crate::fields::{Argument, FieldId};
use crate::graph::{Atom, Graph, Node, NodeId, SubjectId, Test};
use crate::subject::Subject;

/// An event of which only the type is known.
struct TypeOnly(EventType);

impl Event for TypeOnly {
    fn kind(&self) -> EventType {
        self.0
    }

    fn field<'a>(&'a self, field: FieldId, _argument: &Argument, out: &mut Values<'a>) {
        let info = self.0.info();
        match field {
            FieldId::EvtType => out.text(info.name),
            FieldId::SyscallType if matches!(info.sort, Sort::Syscall | Sort::Generic) => {
                out.text(info.name);
            }
            FieldId::EvtDir => out.text(if info.enter { ">" } else { "<" }),
            _ => {}
        }
    }

    fn time_ns(&self) -> u64 {
        0
    }
}

/// Whether a subject depends on the type of an event alone.
fn is_static(subject: &Subject) -> bool {
    match subject {
        Subject::Field(field) => matches!(
            field.id,
            FieldId::EvtType | FieldId::SyscallType | FieldId::EvtDir
        ),
        Subject::Text(_) => true,
        Subject::List(items) | Subject::Concat(items) => items.iter().all(is_static),
        Subject::Map(_, inner) => is_static(inner),
        Subject::Join(parts) | Subject::Getopt(parts, _) => parts.iter().all(is_static),
    }
}

/// Whether a check depends on the type of an event alone.
fn is_static_atom(graph: &Graph, atom: &Atom) -> bool {
    let of = |id: SubjectId| is_static(&graph.subjects[id.0 as usize]);
    of(atom.subject)
        && match &atom.test {
            Test::Other(_, other) => of(*other),
            _ => true,
        }
}

/// What a check of `evt.num` says of all events: their numbers begin with 1.
fn of_number(test: &Test) -> Option<bool> {
    let zero = Constant::Number(0);
    let one = Constant::Number(1);
    match test {
        Test::In(constants) => constants
            .iter()
            .all(|constant| *constant == zero)
            .then_some(false),
        Test::Not(inner) => of_number(inner).map(|truth| !truth),
        Test::Order(Operator::Lt, constant) if *constant <= one => Some(false),
        Test::Order(Operator::Le, constant) if *constant <= zero => Some(false),
        Test::Order(Operator::Gt, constant) if *constant <= zero => Some(true),
        Test::Order(Operator::Ge, constant) if *constant <= one => Some(true),
        _ => None,
    }
}

/// Takes conditions from one graph into another.
pub(super) struct Fold<'a> {
    graph: &'a Graph,
    pub(super) residual: Graph,
    event: EventType,
    /// Whether a node is another one for each type.
    varies: Vec<bool>,
    /// Nodes that are the same for all types.
    same: HashMap<NodeId, NodeId>,
    /// Nodes for this type.
    known: HashMap<NodeId, NodeId>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let mut varies: Vec<bool> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let of = |child: &NodeId| varies[child.0 as usize];
            let this = match node {
                Node::Constant(_) => false,
                Node::And(children) | Node::Or(children) => children.iter().any(of),
                Node::Not(child) => of(child),
                Node::Atom(atom) => is_static_atom(graph, graph.atom(*atom)),
            };
            varies.push(this);
        }
        Self {
            graph,
            residual: Graph::default(),
            event: EventType::plugin(),
            varies,
            same: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Goes on with another type.
    pub(super) fn begin(&mut self, event: EventType) {
        self.event = event;
        self.known.clear();
    }

    pub(super) fn node(&mut self, node: NodeId) -> NodeId {
        let varies = self.varies[node.0 as usize];
        let memory = if varies { &self.known } else { &self.same };
        if let Some(known) = memory.get(&node) {
            return *known;
        }
        let graph = self.graph;
        let folded = match graph.node(node) {
            Node::Constant(truth) => self.residual.constant(*truth),
            Node::And(children) => {
                let children = children.iter().map(|child| self.node(*child)).collect();
                self.residual.and(children)
            }
            Node::Or(children) => {
                let children = children.iter().map(|child| self.node(*child)).collect();
                self.residual.or(children)
            }
            Node::Not(child) => {
                let child = self.node(*child);
                self.residual.not(child)
            }
            Node::Atom(atom) => {
                let atom = graph.atom(*atom);
                match self.decided(atom) {
                    Some(truth) => self.residual.constant(truth),
                    None => {
                        let atom = Atom {
                            subject: self.subject(atom.subject),
                            test: self.test(&atom.test),
                            ..atom.clone()
                        };
                        self.residual.check(atom)
                    }
                }
            }
        };
        let memory = if varies {
            &mut self.known
        } else {
            &mut self.same
        };
        memory.insert(node, folded);
        folded
    }

    fn subject(&mut self, subject: SubjectId) -> SubjectId {
        let subject = self.graph.subjects[subject.0 as usize].clone();
        self.residual.subject(subject)
    }

    fn test(&mut self, test: &Test) -> Test {
        match test {
            Test::Other(operator, other) => Test::Other(*operator, self.subject(*other)),
            test => test.clone(),
        }
    }

    fn decided(&self, atom: &Atom) -> Option<bool> {
        let subject = |id: SubjectId| &self.graph.subjects[id.0 as usize];
        if let Subject::Field(field) = subject(atom.subject)
            && field.id == FieldId::EvtNum
        {
            return of_number(&atom.test);
        }
        if !is_static_atom(self.graph, atom) {
            return None;
        }
        Some(atom::holds(
            &self.graph.subjects,
            atom,
            &TypeOnly(self.event),
        ))
    }
}
