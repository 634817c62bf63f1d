//! Conditions as one graph: what is equal is there once, whatever rules and macros it comes from.
//!
//! Invariant: a node's children have smaller numbers than the node.

mod check;
mod events;
mod lower;

use std::collections::HashMap;

pub(crate) use check::{Atom, Mode, Test, counted, decide, number};
pub(crate) use events::event_types;
pub(crate) use lower::Lowering;

use crate::subject::Subject;

/// How deep a condition may be nested once its macros are resolved.
pub(crate) const MAX_DEPTH: u32 = 400;

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AtomId(pub(crate) u32);

/// What yields values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubjectId(pub(crate) u32);

/// What a condition is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Constant(bool),
    And(Box<[NodeId]>),
    Or(Box<[NodeId]>),
    Not(NodeId),
    Atom(AtomId),
}

/// All conditions of a source.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) depths: Vec<u32>,
    node_ids: HashMap<Node, NodeId>,
    pub(crate) atoms: Vec<Atom>,
    atom_ids: HashMap<Atom, AtomId>,
    pub(crate) subjects: Vec<Subject>,
    subject_ids: HashMap<Subject, SubjectId>,
}

fn id(index: usize) -> u32 {
    u32::try_from(index).expect("a rule file has no four thousand million parts")
}

impl Graph {
    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    pub(crate) fn atom(&self, atom: AtomId) -> &Atom {
        &self.atoms[atom.0 as usize]
    }

    pub(crate) fn depth(&self, node: NodeId) -> u32 {
        self.depths[node.0 as usize]
    }

    pub(crate) fn subject(&mut self, subject: Subject) -> SubjectId {
        if let Some(known) = self.subject_ids.get(&subject) {
            return *known;
        }
        let new = SubjectId(id(self.subjects.len()));
        self.subjects.push(subject.clone());
        self.subject_ids.insert(subject, new);
        new
    }

    fn intern(&mut self, node: Node) -> NodeId {
        if let Some(known) = self.node_ids.get(&node) {
            return *known;
        }
        let deepest = |children: &[NodeId]| {
            let depths = children.iter().map(|child| self.depth(*child));
            1 + depths.max().unwrap_or(0)
        };
        let depth = match &node {
            Node::Constant(_) | Node::Atom(_) => 1,
            Node::Not(child) => 1 + self.depth(*child),
            Node::And(children) | Node::Or(children) => deepest(children),
        };
        let new = NodeId(id(self.nodes.len()));
        self.nodes.push(node.clone());
        self.depths.push(depth);
        self.node_ids.insert(node, new);
        new
    }

    pub(crate) fn constant(&mut self, truth: bool) -> NodeId {
        self.intern(Node::Constant(truth))
    }

    pub(crate) fn check(&mut self, atom: Atom) -> NodeId {
        let known = match self.atom_ids.get(&atom) {
            Some(known) => *known,
            None => {
                let new = AtomId(id(self.atoms.len()));
                self.atoms.push(atom.clone());
                self.atom_ids.insert(atom, new);
                new
            }
        };
        self.intern(Node::Atom(known))
    }

    pub(crate) fn not(&mut self, child: NodeId) -> NodeId {
        match *self.node(child) {
            Node::Constant(truth) => self.constant(!truth),
            Node::Not(inner) => inner,
            _ => self.intern(Node::Not(child)),
        }
    }

    pub(crate) fn and(&mut self, children: Vec<NodeId>) -> NodeId {
        self.chain(children, false)
    }

    pub(crate) fn or(&mut self, children: Vec<NodeId>) -> NodeId {
        self.chain(children, true)
    }

    /// Children of the same sort are taken in, those that change nothing are left out, and one that
    /// decides decides.
    fn chain(&mut self, children: Vec<NodeId>, or: bool) -> NodeId {
        let mut flat: Vec<NodeId> = Vec::with_capacity(children.len());
        let mut seen = std::collections::HashSet::new();
        for child in children {
            let inner: &[NodeId] = match self.node(child) {
                Node::Constant(truth) if *truth == or => return self.constant(or),
                Node::Constant(_) => &[],
                Node::And(inner) if !or => inner,
                Node::Or(inner) if or => inner,
                _ => &[child],
            };
            flat.extend(inner.iter().filter(|child| seen.insert(**child)));
        }
        if or {
            flat = check::unite(self, flat);
        }
        // Something and its opposite.
        let opposites = flat.iter().any(|child| match self.node(*child) {
            Node::Not(inner) => flat.contains(inner),
            _ => false,
        });
        if opposites {
            return self.constant(or);
        }
        match flat.as_slice() {
            [] => self.constant(!or),
            [one] => *one,
            _ if or => self.intern(Node::Or(flat.into())),
            _ => self.intern(Node::And(flat.into())),
        }
    }
}
