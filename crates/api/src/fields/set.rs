//! A set of fields as a tree of path elements.
//!
//! Invariant: the nodes of every level are sorted and differ; each is a member or has members below.

use std::fmt;

use super::element::Element;

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(Vec<Node>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) element: Element,
    /// Whether the field itself is in the set, whatever is below it.
    pub(super) member: bool,
    pub(super) below: Set,
}

/// A pattern of fields to keep: all at and below a path, where `*` stands for any element.
pub(super) type Pattern = &'static [&'static str];

impl Set {
    /// The set of the members at paths of names.
    #[must_use]
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// A set of nodes in any order.
    pub(super) fn from_nodes(mut nodes: Vec<Node>) -> Self {
        nodes.retain(|node| node.member || !node.below.is_empty());
        if nodes.is_sorted_by(|a, b| a.element < b.element) {
            return Self(nodes);
        }
        let mut set = Self::default();
        for node in nodes {
            set.unite_node(node);
        }
        set
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.0.binary_search_by(|node| node.element.cmp(element))
    }

    /// What is at an element.
    pub(super) fn at(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|i| &self.0[i])
    }

    /// As [`Set::at`] for a member's name, without making an element of it.
    pub(super) fn at_field(&self, name: &str) -> Option<&Node> {
        let order = |node: &Node| match &node.element {
            Element::Field(own) => (**own).cmp(name),
            _ => std::cmp::Ordering::Greater,
        };
        self.0.binary_search_by(order).ok().map(|i| &self.0[i])
    }

    /// Whether the field at a path is in the set.
    #[must_use]
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.at(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.at(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Puts a field in; the empty path is nobody's.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = self.find(first).unwrap_or_else(|at| {
            let node = Node {
                element: first.clone(),
                member: false,
                below: Self::default(),
            };
            self.0.insert(at, node);
            at
        });
        let node = &mut self.0[at];
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Adds what `other` has.
    pub fn unite(&mut self, other: Self) {
        if self.0.is_empty() {
            *self = other;
            return;
        }
        for node in other.0 {
            self.unite_node(node);
        }
    }

    fn unite_node(&mut self, node: Node) {
        match self.find(&node.element) {
            Ok(at) => {
                let own = &mut self.0[at];
                own.member |= node.member;
                own.below.unite(node.below);
            }
            Err(at) => self.0.insert(at, node),
        }
    }

    /// Takes the fields out that `other` has; what is below them stays.
    pub fn subtract(&mut self, other: &Self) {
        self.each_shared(other, |own, node| {
            own.member &= !node.member;
            own.below.subtract(&node.below);
        });
    }

    /// Takes the fields out that `other` has, with all that is below them.
    pub fn subtract_whole(&mut self, other: &Self) {
        self.each_shared(other, |own, node| {
            if node.member {
                own.member = false;
                own.below = Self::default();
            } else {
                own.below.subtract_whole(&node.below);
            }
        });
    }

    fn each_shared(&mut self, other: &Self, mut change: impl FnMut(&mut Node, &Node)) {
        let mut rest = other.0.as_slice();
        self.0.retain_mut(|own| {
            while let [first, after @ ..] = rest {
                match first.element.cmp(&own.element) {
                    std::cmp::Ordering::Less => rest = after,
                    std::cmp::Ordering::Equal => {
                        change(own, first);
                        rest = after;
                        break;
                    }
                    std::cmp::Ordering::Greater => break,
                }
            }
            own.member || !own.below.is_empty()
        });
    }

    /// What both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.as_slice(), other.0.as_slice());
        let mut nodes = Vec::new();
        while let ([first, after @ ..], [second, later @ ..]) = (a, b) {
            match first.element.cmp(&second.element) {
                std::cmp::Ordering::Less => a = after,
                std::cmp::Ordering::Greater => b = later,
                std::cmp::Ordering::Equal => {
                    let node = Node {
                        element: first.element.clone(),
                        member: first.member && second.member,
                        below: first.below.intersection(&second.below),
                    };
                    if node.member || !node.below.is_empty() {
                        nodes.push(node);
                    }
                    (a, b) = (after, later);
                }
            }
        }
        Self(nodes)
    }

    /// Keeps only what is at or below one of the patterns.
    pub(super) fn keep(&mut self, patterns: &[Pattern]) {
        self.0.retain_mut(|node| {
            let fits = |step: &&str| {
                *step == "*" || matches!(&node.element, Element::Field(name) if **name == **step)
            };
            let below: Vec<Pattern> = patterns
                .iter()
                .filter_map(|pattern| pattern.split_first())
                .filter(|(step, _)| fits(step))
                .map(|(_, rest)| rest)
                .collect();
            if below.is_empty() {
                return false;
            }
            if below.iter().all(|rest| !rest.is_empty()) {
                node.below.keep(&below);
            }
            node.member || !node.below.is_empty()
        });
    }

    /// The paths of all its fields; the members of a level before those below it, as upstream
    /// tells them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for node in self.0.iter().filter(|node| node.member) {
            path.push(node.element.clone());
            out.push(path.clone());
            path.pop();
        }
        for node in &self.0 {
            path.push(node.element.clone());
            node.below.collect(path, out);
            path.pop();
        }
    }
}

/// A path as conflicts show it: `.spec.containers[name="a"].image`.
pub(super) fn show(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// One path a line.
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in self.paths() {
            writeln!(f, "{}", show(&path))?;
        }
        Ok(())
    }
}
