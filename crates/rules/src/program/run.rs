//! Deciding about one event.

use std::ops::Range;

use super::atom::{AtomPlan, Check, by_mode, others};
use super::order::Step;
use super::{Op, OpKind, SourceProgram};
use crate::event::{Event, Values};
use crate::graph::Mode;

/// Nothing is noted for a node.
const NO_MEMO: u32 = u32::MAX;
/// Not looked up yet.
const UNKNOWN: u32 = u32::MAX;

/// Memory that a thread decides with, kept from event to event.
#[derive(Debug, Default)]
pub struct Scratch {
    epoch: u32,
    slots: Vec<Slot>,
    memos: Vec<u32>,
    bits: Vec<u64>,
    values: Values<'static>,
}

/// What is known of a subject.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    epoch: u32,
    from: u32,
    to: u32,
    missing: bool,
    contains: bool,
    icontains: bool,
    equal: u32,
    prefix: u32,
    suffix: u32,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Makes room for a program, and forgets the event before.
    fn begin(&mut self, program: &SourceProgram) {
        if self.slots.len() < program.subjects.len() {
            self.slots.resize(program.subjects.len(), Slot::default());
        }
        if self.memos.len() < program.memos {
            self.memos.resize(program.memos, 0);
        }
        if self.bits.len() < program.words {
            self.bits.resize(program.words, 0);
        }
        self.epoch += 1;
        if self.epoch > u32::MAX / 2 {
            self.epoch = 1;
            self.slots.fill(Slot::default());
            self.memos.fill(0);
        }
    }
}

impl SourceProgram {
    /// Calls `matched` with each rule that matches.
    pub(super) fn run<'a>(
        &'a self,
        event: &'a (impl Event + ?Sized),
        scratch: &mut Scratch,
        mut matched: impl FnMut(u32),
    ) {
        let Some(of_type) = self.by_type.get(event.kind().index()) else {
            return;
        };
        let steps = &self.steps[*of_type as usize];
        if steps.is_empty() {
            return;
        }
        scratch.begin(self);
        let values = std::mem::take(&mut scratch.values);
        let mut runner = Runner {
            program: self,
            event,
            scratch,
            values,
        };
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            match step {
                Step::Guard { node, skip } => {
                    at = if runner.node(*node) {
                        at + 1
                    } else {
                        *skip as usize
                    };
                }
                Step::Match(rule) => {
                    matched(*rule);
                    at += 1;
                }
            }
        }
        let values = runner.values;
        scratch.values = values.recycle();
    }
}

struct Runner<'a, 's, E: ?Sized> {
    program: &'a SourceProgram,
    event: &'a E,
    scratch: &'s mut Scratch,
    values: Values<'a>,
}

impl<E: Event + ?Sized> Runner<'_, '_, E> {
    #[inline]
    fn node(&mut self, node: u32) -> bool {
        let op = self.program.ops[node as usize];
        match op.kind {
            OpKind::Atom(atom) if op.memo == NO_MEMO => self.atom(atom),
            OpKind::Not(atom) => !self.node_apart(atom),
            _ => self.remembered(op),
        }
    }

    /// The same, called rather than put in place.
    fn node_apart(&mut self, node: u32) -> bool {
        self.node(node)
    }

    fn remembered(&mut self, op: Op) -> bool {
        if op.memo != NO_MEMO {
            let memo = self.scratch.memos[op.memo as usize];
            if memo >> 1 == self.scratch.epoch {
                return memo & 1 == 1;
            }
        }
        let program = self.program;
        let children = |from: u32, to: u32| &program.children[from as usize..to as usize];
        let truth = match op.kind {
            OpKind::Constant(truth) => truth,
            OpKind::And(from, to) => children(from, to)
                .iter()
                .all(|child| self.node_apart(*child)),
            OpKind::Or(from, to) => children(from, to)
                .iter()
                .any(|child| self.node_apart(*child)),
            OpKind::Not(child) => !self.node_apart(child),
            OpKind::Atom(atom) => self.atom(atom),
        };
        if op.memo != NO_MEMO {
            self.scratch.memos[op.memo as usize] = self.scratch.epoch << 1 | u32::from(truth);
        }
        truth
    }

    /// Asks the event for the values of a subject.
    #[cold]
    #[inline(never)]
    fn extract(&mut self, subject: usize) {
        let program = self.program;
        let range = program.subjects[subject]
            .subject
            .extract(self.event, &mut self.values);
        let (from, to) = match &range {
            Some(range) => (range.start, range.end),
            None => (0, 0),
        };
        self.scratch.slots[subject] = Slot {
            epoch: self.scratch.epoch,
            from: u32::try_from(from).unwrap_or(0),
            to: u32::try_from(to).unwrap_or(0),
            missing: range.is_none(),
            contains: false,
            icontains: false,
            equal: UNKNOWN,
            prefix: UNKNOWN,
            suffix: UNKNOWN,
        };
    }

    /// Where the values of a subject are; nothing if there are none.
    #[inline]
    fn load(&mut self, subject: u32) -> Option<Range<usize>> {
        let at = subject as usize;
        if self.scratch.slots[at].epoch != self.scratch.epoch {
            self.extract(at);
        }
        let slot = &self.scratch.slots[at];
        (!slot.missing).then_some(slot.from as usize..slot.to as usize)
    }

    fn atom(&mut self, atom: u32) -> bool {
        let program = self.program;
        let atom: &AtomPlan = &program.atoms[atom as usize];
        let Some(range) = self.load(atom.subject) else {
            return false;
        };
        let at = atom.subject as usize;
        let plan = &program.subjects[at];
        let values = &self.values;
        let Some(first) = values.items.get(range.start) else {
            return self.without_values(atom);
        };
        let slot = &mut self.scratch.slots[at];
        let text = || values.bytes(first).unwrap_or_default();
        let truth = match &atom.check {
            Check::Exists => true,
            Check::Equal(check) => plan.equal.as_ref().is_some_and(|index| {
                if slot.equal == UNKNOWN {
                    slot.equal = index.find(text());
                }
                index.rows.get(slot.equal, *check)
            }),
            Check::Prefix(check) => plan.prefix.as_ref().is_some_and(|index| {
                if slot.prefix == UNKNOWN {
                    slot.prefix = index.find(text());
                }
                index.rows.get(slot.prefix, *check)
            }),
            Check::Suffix(check) => plan.suffix.as_ref().is_some_and(|index| {
                if slot.suffix == UNKNOWN {
                    slot.suffix = index.find(text());
                }
                index.rows.get(slot.suffix, *check)
            }),
            Check::Contains(check) => plan.contains.as_ref().is_some_and(|index| {
                let bits = &mut self.scratch.bits[index.offset..][..index.words()];
                if !slot.contains {
                    slot.contains = true;
                    index.scan(text(), bits);
                }
                bits[*check as usize / 64] >> (check % 64) & 1 == 1
            }),
            Check::IContains(check) => plan.icontains.as_ref().is_some_and(|index| {
                let bits = &mut self.scratch.bits[index.offset..][..index.words()];
                if !slot.icontains {
                    slot.icontains = true;
                    index.scan(text(), bits);
                }
                bits[*check as usize / 64] >> (check % 64) & 1 == 1
            }),
            Check::Each(each) if atom.mode == Mode::One => each.passes(first, values),
            Check::Each(each) => by_mode(atom.mode, &values.items[range], |value| {
                each.passes(value, values)
            }),
            Check::Other(operator, other) => {
                let Some(other) = self.load(*other) else {
                    return false;
                };
                let values = &self.values;
                let (left, right) = (&values.items[range], &values.items[other]);
                others(atom.mode, *operator, left, right, values)
            }
        };
        truth != atom.negated
    }

    /// What a check says of a list that is there and empty.
    #[cold]
    fn without_values(&self, atom: &AtomPlan) -> bool {
        matches!(atom.check, Check::Exists) || atom.mode == Mode::Every
    }
}
