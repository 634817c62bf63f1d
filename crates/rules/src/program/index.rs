//! Constants that a subject is compared with, prepared to be looked up together.
//!
//! Invariant: an index answers with a row of bits, one for each check that it was made of.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use foldhash::fast::FixedState;

use super::atom::{AtomPlan, Check, Each};
use crate::constant::Constant;
use crate::graph::{Graph, Mode, Node, Test};
use crate::subject::Subject;

/// Fewer texts than these are searched for one by one.
const FEW_TEXTS: usize = 4;
/// With more texts than these, a table of all states would take too much memory.
const MANY_TEXTS: usize = 500;

/// A subject and its indices.
#[derive(Debug)]
pub(super) struct SubjectPlan {
    pub(super) subject: Subject,
    pub(super) equal: Option<Equal>,
    pub(super) prefix: Option<Radix<false>>,
    pub(super) suffix: Option<Radix<true>>,
    pub(super) contains: Option<Contains>,
    pub(super) icontains: Option<Contains>,
}

/// Rows of bits; the first has none set.
#[derive(Debug, Default)]
pub(super) struct Rows {
    words: usize,
    bits: Vec<u64>,
}

impl Rows {
    fn new(checks: usize) -> Self {
        let words = checks.div_ceil(64);
        Self {
            words,
            bits: vec![0; words],
        }
    }

    fn add(&mut self, checks: impl IntoIterator<Item = u32>) -> u32 {
        let row = self.bits.len() / self.words.max(1);
        self.bits.resize(self.bits.len() + self.words, 0);
        for check in checks {
            self.bits[row * self.words + check as usize / 64] |= 1 << (check % 64);
        }
        u32::try_from(row).unwrap_or(0)
    }

    pub(super) fn get(&self, row: u32, check: u32) -> bool {
        self.bits[row as usize * self.words + check as usize / 64] >> (check % 64) & 1 == 1
    }

    fn row(&self, row: u32) -> &[u64] {
        &self.bits[row as usize * self.words..][..self.words]
    }
}

/// Texts that are equal.
#[derive(Debug)]
pub(super) struct Equal {
    table: HashMap<Box<[u8]>, u32, FixedState>,
    /// Bit n: some text is n bytes long, or 63 and more.
    lengths: u64,
    pub(super) rows: Rows,
}

impl Equal {
    fn new(checks: &[Vec<Box<[u8]>>]) -> Self {
        let mut rows = Rows::new(checks.len());
        let mut table = HashMap::default();
        let mut lengths = 0;
        for (text, checks) in by_text(checks) {
            lengths |= 1 << text.len().min(63);
            table.insert(text.into(), rows.add(checks));
        }
        Self {
            table,
            lengths,
            rows,
        }
    }

    pub(super) fn find(&self, text: &[u8]) -> u32 {
        if self.lengths >> text.len().min(63) & 1 == 0 {
            return 0;
        }
        self.table.get(text).copied().unwrap_or(0)
    }
}

/// Each text with the checks that have it.
fn by_text(checks: &[Vec<Box<[u8]>>]) -> BTreeMap<&[u8], Vec<u32>> {
    let mut texts: BTreeMap<&[u8], Vec<u32>> = BTreeMap::new();
    for (check, of_check) in (0..).zip(checks) {
        for text in of_check {
            texts.entry(text).or_default().push(check);
        }
    }
    texts
}

/// Texts that others begin with, or end with.
#[derive(Debug)]
pub(super) struct Radix<const REVERSED: bool> {
    nodes: Vec<RadixNode>,
    pub(super) rows: Rows,
}

#[derive(Debug)]
struct RadixNode {
    label: Box<[u8]>,
    row: u32,
    /// The first bytes of the labels of those below, and where these are.
    firsts: Box<[u8]>,
    below: Box<[u32]>,
}

impl<const REVERSED: bool> Radix<REVERSED> {
    fn new(checks: &[Vec<Box<[u8]>>]) -> Self {
        let mut turned = checks.to_vec();
        if REVERSED {
            turned.iter_mut().flatten().for_each(|text| text.reverse());
        }
        let texts: Vec<(&[u8], Vec<u32>)> = by_text(&turned).into_iter().collect();
        let mut radix = Self {
            nodes: Vec::new(),
            rows: Rows::new(checks.len()),
        };
        radix.build(&texts, 0, 0, &[]);
        radix
    }

    /// A node for sorted texts that have `depth` bytes in common with all above, `from` of them there.
    fn build(
        &mut self,
        texts: &[(&[u8], Vec<u32>)],
        from: usize,
        depth: usize,
        above: &[u32],
    ) -> u32 {
        let at = self.nodes.len();
        let label = texts
            .first()
            .map_or(&[][..], |(text, _)| &text[from..depth]);
        let mut checks = above.to_vec();
        let mut rest = texts;
        while let Some(((text, of_text), behind)) = rest.split_first() {
            if text.len() > depth {
                break;
            }
            checks.extend(of_text);
            rest = behind;
        }
        let row = if checks.is_empty() {
            0
        } else {
            self.rows.add(checks.iter().copied())
        };
        self.nodes.push(RadixNode {
            label: label.into(),
            row,
            firsts: Box::default(),
            below: Box::default(),
        });
        let (mut firsts, mut below) = (Vec::new(), Vec::new());
        for group in rest.chunk_by(|(one, _), (other, _)| one[depth] == other[depth]) {
            let (first, last) = (group[0].0, group[group.len() - 1].0);
            let common = first
                .iter()
                .zip(last)
                .take_while(|(one, other)| one == other)
                .count();
            firsts.push(first[depth]);
            below.push(self.build(group, depth, common, &checks));
        }
        self.nodes[at].firsts = firsts.into();
        self.nodes[at].below = below.into();
        u32::try_from(at).unwrap_or(0)
    }

    pub(super) fn find(&self, text: &[u8]) -> u32 {
        let mut node = &self.nodes[0];
        let mut rest = text;
        loop {
            let first = if REVERSED { rest.last() } else { rest.first() };
            let Some(first) = first else { return node.row };
            let Some(at) = node.firsts.iter().position(|byte| byte == first) else {
                return node.row;
            };
            let next = &self.nodes[node.below[at] as usize];
            let length = next.label.len();
            if length > rest.len() {
                return node.row;
            }
            if REVERSED {
                let (before, part) = rest.split_at(rest.len() - length);
                if !part.iter().rev().eq(next.label.iter()) {
                    return node.row;
                }
                rest = before;
            } else {
                let (part, behind) = rest.split_at(length);
                if *part != *next.label {
                    return node.row;
                }
                rest = behind;
            }
            node = next;
        }
    }
}

/// Texts that others contain.
#[derive(Debug)]
pub(super) struct Contains {
    automaton: AhoCorasick,
    /// The row of each text.
    texts: Vec<u32>,
    rows: Rows,
    /// Where the row of an event is kept.
    pub(super) offset: usize,
}

impl Contains {
    fn new(checks: &[Vec<Box<[u8]>>], fold: bool, offset: usize) -> Option<Self> {
        let mut rows = Rows::new(checks.len());
        let by_text = by_text(checks);
        if by_text.len() < FEW_TEXTS && !fold {
            return None;
        }
        // Texts of events are short: what starts quickest wins.
        let kind = (by_text.len() <= MANY_TEXTS).then_some(AhoCorasickKind::DFA);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(kind)
            .prefilter(false)
            .ascii_case_insensitive(fold)
            .build(by_text.keys())
            .ok()?;
        let texts = by_text
            .into_values()
            .map(|checks| rows.add(checks))
            .collect();
        Some(Self {
            automaton,
            texts,
            rows,
            offset,
        })
    }

    pub(super) fn words(&self) -> usize {
        self.rows.words
    }

    /// Sets the bits of all checks whose texts are in the text.
    pub(super) fn scan(&self, text: &[u8], bits: &mut [u64]) {
        bits.fill(0);
        for found in self.automaton.find_overlapping_iter(text) {
            let row = self.rows.row(self.texts[found.pattern().as_usize()]);
            for (bit, more) in bits.iter_mut().zip(row) {
                *bit |= more;
            }
        }
    }
}

/// Texts of the checks of one subject, by sort.
#[derive(Default)]
struct Texts {
    equal: Vec<Vec<Box<[u8]>>>,
    prefix: Vec<Vec<Box<[u8]>>>,
    suffix: Vec<Vec<Box<[u8]>>>,
    contains: Vec<Vec<Box<[u8]>>>,
    icontains: Vec<Vec<Box<[u8]>>>,
}

fn bit(checks: &mut Vec<Vec<Box<[u8]>>>, texts: Vec<Box<[u8]>>) -> u32 {
    checks.push(texts);
    u32::try_from(checks.len() - 1).unwrap_or(0)
}

/// The subjects and checks of a graph, and how many words of bits an event needs.
pub(super) fn plans(graph: &Graph, uses: &[u32]) -> (Vec<SubjectPlan>, Vec<AtomPlan>, usize) {
    let mut used = vec![false; graph.atoms.len()];
    for (node, uses) in graph.nodes.iter().zip(uses) {
        if let (Node::Atom(atom), true) = (node, *uses > 0) {
            used[atom.0 as usize] = true;
        }
    }
    let mut texts: Vec<Texts> = Vec::new();
    texts.resize_with(graph.subjects.len(), Texts::default);
    let mut atoms: Vec<AtomPlan> = Vec::with_capacity(graph.atoms.len());
    for (atom, used) in graph.atoms.iter().zip(&used) {
        let of_subject = &mut texts[atom.subject.0 as usize];
        let (test, negated) = match &atom.test {
            Test::Not(inner) if atom.mode == Mode::One => (&**inner, true),
            test => (test, false),
        };
        let check = match test {
            _ if !used => Check::Exists,
            Test::Exists => Check::Exists,
            Test::Other(operator, other) => Check::Other(*operator, other.0),
            test if atom.mode == Mode::One => indexed(test, of_subject),
            test => Check::Each(Each::new(test)),
        };
        atoms.push(AtomPlan {
            subject: atom.subject.0,
            mode: atom.mode,
            negated,
            check,
        });
    }
    let mut words = 0;
    let subjects: Vec<SubjectPlan> = graph
        .subjects
        .iter()
        .zip(&texts)
        .map(|(subject, texts)| {
            let mut contains = |checks: &[Vec<Box<[u8]>>], fold| {
                let index = (!checks.is_empty())
                    .then(|| Contains::new(checks, fold, words))
                    .flatten();
                words += index.as_ref().map_or(0, Contains::words);
                index
            };
            SubjectPlan {
                contains: contains(&texts.contains, false),
                icontains: contains(&texts.icontains, true),
                subject: subject.clone(),
                equal: (!texts.equal.is_empty()).then(|| Equal::new(&texts.equal)),
                prefix: (!texts.prefix.is_empty()).then(|| Radix::new(&texts.prefix)),
                suffix: (!texts.suffix.is_empty()).then(|| Radix::new(&texts.suffix)),
            }
        })
        .collect();
    // Where an index is not worth it, or could not be made.
    for (plan, atom) in atoms.iter_mut().zip(&graph.atoms) {
        let subject = &subjects[plan.subject as usize];
        let missing = match plan.check {
            Check::Contains(_) => subject.contains.is_none(),
            Check::IContains(_) => subject.icontains.is_none(),
            _ => false,
        };
        if missing {
            let test = match &atom.test {
                Test::Not(inner) if plan.negated => inner,
                test => test,
            };
            plan.check = Check::Each(Each::new(test));
        }
    }
    (subjects, atoms, words)
}

fn indexed(test: &Test, texts: &mut Texts) -> Check {
    match test {
        Test::In(constants)
            if !constants.is_empty()
                && constants
                    .iter()
                    .all(|constant| matches!(constant, Constant::Bytes(_))) =>
        {
            let of_check = constants
                .iter()
                .filter_map(|constant| match constant {
                    Constant::Bytes(text) => Some(text.clone()),
                    _ => None,
                })
                .collect();
            Check::Equal(bit(&mut texts.equal, of_check))
        }
        Test::Prefix(of_check) => Check::Prefix(bit(&mut texts.prefix, of_check.to_vec())),
        Test::Suffix(of_check) => Check::Suffix(bit(&mut texts.suffix, of_check.to_vec())),
        Test::Contains(of_check) => Check::Contains(bit(&mut texts.contains, of_check.to_vec())),
        Test::IContains(of_check) => Check::IContains(bit(&mut texts.icontains, of_check.to_vec())),
        test => Check::Each(Each::new(test)),
    }
}
