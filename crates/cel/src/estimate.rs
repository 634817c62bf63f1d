//! What an expression can cost at most, by the sizes that its schema allows.
//!
//! Invariant: the numbers are upstream's, since they decide which rules may be written.

use std::collections::HashMap;

use crate::ast::{ACCUMULATOR, Comprehension, Expr, Id, Kind, Literal};
use crate::charge::{LIST, MAP, REGEX_FACTOR, STRING_FACTOR, STRUCT};
use crate::check::{Checked, Reference};
use crate::decl::Decl;
use crate::estimate_calls::call_estimate;
use crate::number::scaled;
use crate::types::Type;

/// From the least to the most that something can be: a cost, or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Span {
    pub(crate) const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    pub(crate) fn fixed(value: u64) -> Self {
        Self {
            min: value,
            max: value,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub(crate) fn by(self, factor: f64) -> Self {
        Self {
            min: scaled(self.min, factor),
            max: scaled(self.max, factor),
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// What a call costs itself, and how large what it returns is.
pub(crate) struct CallEstimate {
    pub(crate) cost: Span,
    pub(crate) size: Option<Span>,
}

/// The sizes of what a container holds.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Span,
    value: Span,
}

struct Local {
    path: Vec<String>,
    size: Option<Span>,
    entries: Option<Entries>,
}

/// An expression as an estimate sees it.
pub(crate) struct Part<'e> {
    pub(crate) expr: Option<&'e Expr>,
    pub(crate) ty: Type,
    pub(crate) path: Vec<String>,
    pub(crate) size: Option<Span>,
}

pub(crate) struct Estimator<'e> {
    checked: &'e Checked,
    root: Option<&'e Decl>,
    paths: HashMap<Id, Vec<String>>,
    locals: Vec<(String, Local)>,
    sizes: HashMap<Id, Span>,
    entries: HashMap<Id, Entries>,
}

/// The cost of a tree whose variables all have the shape of `root`.
pub(crate) fn estimate(expr: &Expr, checked: &Checked, root: Option<&Decl>) -> Span {
    let mut estimator = Estimator {
        checked,
        root,
        paths: HashMap::new(),
        locals: Vec::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
    };
    estimator.cost(expr)
}

impl<'e> Estimator<'e> {
    fn ty(&self, expr: &Expr) -> Type {
        self.checked
            .types
            .get(expr.id)
            .cloned()
            .unwrap_or(Type::Dyn)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals
            .iter()
            .rev()
            .find(|(local, _)| local == name)
            .map(|(_, local)| local)
    }

    fn path(&self, expr: &Expr) -> Vec<String> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn extended(&self, expr: &Expr, step: &str) -> Vec<String> {
        let mut path = self.path(expr);
        // No schema is deeper; a longer path leads nowhere.
        if path.len() < 2 * api::MAX_DEPTH {
            path.push(step.to_owned());
        }
        path
    }

    fn cost(&mut self, expr: &Expr) -> Span {
        if let Some(Reference::Type(_) | Reference::Variable(_) | Reference::Local(_)) = self
            .checked
            .references
            .get(expr.id)
            .and_then(Option::as_ref)
            && !matches!(expr.kind, Kind::Struct { .. })
        {
            let path = match &expr.kind {
                Kind::Ident(name) => match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.clone()],
                },
                _ => Vec::new(),
            };
            self.paths.insert(expr.id, path);
            return Span::fixed(1);
        }
        match &expr.kind {
            Kind::Literal(_) => Span::fixed(0),
            Kind::Ident(_) => Span::fixed(1),
            Kind::Select {
                operand,
                field,
                test,
            } => {
                let mut sum = self.cost(operand);
                if !*test
                    && matches!(
                        self.ty(operand),
                        Type::Map(..) | Type::Object(_) | Type::Param(_)
                    )
                {
                    sum = sum.plus(Span::fixed(1));
                }
                let path = self.extended(operand, field);
                self.paths.insert(expr.id, path);
                sum
            }
            Kind::Call { target, args, .. } => self.call(expr, target.as_deref(), args),
            Kind::List(elements) => {
                let mut sum = Span::fixed(LIST);
                let mut value = Self::nothing(elements.is_empty());
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    value = value.union(self.size_or_unknown(&element.value));
                }
                let key = Span::fixed(1);
                let list = true;
                self.entries.insert(expr.id, Entries { list, key, value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Span::fixed(MAP);
                let mut key = Self::nothing(entries.is_empty());
                let mut value = key;
                for entry in entries {
                    sum = sum
                        .plus(self.cost(&entry.key))
                        .plus(self.cost(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                let list = false;
                self.entries.insert(expr.id, Entries { list, key, value });
                sum
            }
            Kind::Struct { fields, .. } => fields.iter().fold(Span::fixed(STRUCT), |sum, field| {
                sum.plus(self.cost(&field.value))
            }),
            Kind::Comprehension(loops) => self.comprehension(expr, loops),
        }
    }

    fn nothing(empty: bool) -> Span {
        Span {
            min: if empty { 0 } else { u64::MAX },
            max: 0,
        }
    }

    pub(crate) fn part<'x>(&mut self, expr: &'x Expr) -> Part<'x> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| first == ACCUMULATOR) {
            path.clear();
        }
        Part {
            expr: Some(expr),
            ty: self.ty(expr),
            path,
            size: self.computed(expr),
        }
    }

    /// The size of what lies at a path of the data.
    pub(crate) fn at(&self, path: &[String]) -> Option<Span> {
        let (_, steps) = path.split_first()?;
        let mut decl = self.root?;
        for step in steps {
            decl = decl.step(step)?;
        }
        Some(Span {
            min: 0,
            max: decl.max_elements,
        })
    }

    fn computed(&mut self, expr: &Expr) -> Option<Span> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written(expr) {
            return Some(size);
        }
        if let Some(size) = self.at(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.ty(expr).is_scalar() {
            return Some(Span::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Span {
        self.computed(expr).unwrap_or(Span::UNKNOWN)
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) -> Span {
        let reference = self
            .checked
            .references
            .get(expr.id)
            .and_then(Option::as_ref);
        let Some(Reference::Function(function, overloads)) = reference else {
            return Span::fixed(0);
        };
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg);
            if let Some(size) = self.computed(arg) {
                self.sizes.insert(expr.id, size);
            }
            if let Some(entries) = self.entries_of(arg) {
                self.entries.insert(expr.id, entries);
            }
            return cost.plus(Span::fixed(1));
        }
        let costs: Vec<Span> = args.iter().map(|arg| self.cost(arg)).collect();
        let parts: Vec<Part<'_>> = args.iter().map(|arg| self.part(arg)).collect();
        let mut sum = Span::fixed(0);
        let target = target.filter(|_| !function.contains('.'));
        let target = target.map(|target| {
            sum = self.cost(target);
            self.part(target)
        });
        let mut spent = Span {
            min: u64::MAX,
            max: 0,
        };
        let mut size: Option<Span> = None;
        for overload in overloads {
            let each = self.overload(expr, function, overload, target.as_ref(), &parts, &costs);
            spent = spent.union(each.cost);
            if let Some(returned) = each.size {
                size = Some(size.map_or(returned, |size| size.union(returned)));
            }
            if let (step @ ("index_list" | "index_map"), Some(operand)) = (*overload, args.first())
            {
                size = self.entries_of(operand).map(|entries| entries.value);
                let step = if step == "index_list" {
                    "@items"
                } else {
                    "@values"
                };
                let path = self.extended(operand, step);
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.computed(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(spent)
    }

    fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Part<'_>>,
        args: &[Part<'_>],
        costs: &[Span],
    ) -> CallEstimate {
        let total = costs
            .iter()
            .fold(Span::fixed(0), |sum, cost| sum.plus(*cost));
        if let Some(estimate) = call_estimate(self, function, overload, target, args) {
            return CallEstimate {
                cost: estimate.cost.plus(total),
                size: estimate.size,
            };
        }
        let cost = |span: Span| CallEstimate {
            cost: span.plus(total),
            size: None,
        };
        let size = |index: usize| {
            args.get(index)
                .and_then(|arg| arg.size)
                .unwrap_or(Span::UNKNOWN)
        };
        match (overload, target, costs) {
            ("string_format", Some(target), _) => {
                cost(target.size.unwrap_or(Span::UNKNOWN).by(STRING_FACTOR))
            }
            ("string_to_bytes" | "bytes_to_string" | "strings_quote", _, [_]) => {
                let read = size(0);
                let made = match overload {
                    "string_to_bytes" => Span {
                        min: read.min,
                        max: read.max.saturating_mul(4),
                    },
                    "bytes_to_string" => Span {
                        min: read.min / 4,
                        max: read.max,
                    },
                    _ => Span {
                        min: read.min.saturating_add(2),
                        max: read.max.saturating_mul(2).saturating_add(2),
                    },
                };
                CallEstimate {
                    cost: read.by(STRING_FACTOR).plus(total),
                    size: Some(made),
                }
            }
            ("starts_with_string" | "ends_with_string", _, [_]) => cost(size(0).by(STRING_FACTOR)),
            ("in_list", _, [_, _]) => cost(size(1)),
            ("matches_string", Some(target), [_]) => {
                let text = target.size.unwrap_or(Span::UNKNOWN).plus(Span::fixed(1));
                cost(text.by(STRING_FACTOR).times(size(0).by(REGEX_FACTOR)))
            }
            ("contains_string", Some(target), [_]) => {
                let text = target.size.unwrap_or(Span::UNKNOWN);
                cost(text.by(STRING_FACTOR).times(size(0).by(STRING_FACTOR)))
            }
            ("logical_or" | "logical_and", _, [left, right]) => CallEstimate {
                // The left side alone may decide.
                cost: Span {
                    min: left.min,
                    max: left.plus(*right).max,
                },
                size: None,
            },
            ("conditional", _, [condition, yes, no]) => {
                self.conditional(expr, args, [*condition, *yes, *no])
            }
            ("add_string" | "add_bytes" | "add_list", _, [_, _]) => {
                let made = size(0).plus(size(1));
                self.join_entries(expr, args);
                let own = if overload == "add_list" {
                    Span::fixed(1)
                } else {
                    made.by(STRING_FACTOR)
                };
                CallEstimate {
                    cost: own.plus(total),
                    size: Some(made),
                }
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                ..,
            ) => {
                let max = size(0).max.min(size(1).max);
                let min = u64::from(max > 0);
                cost(Span { min, max }.by(STRING_FACTOR))
            }
            _ => cost(Span::fixed(1)),
        }
    }

    fn conditional(&mut self, expr: &Expr, args: &[Part<'_>], costs: [Span; 3]) -> CallEstimate {
        let size = |index: usize| {
            args.get(index)
                .and_then(|arg| arg.size)
                .unwrap_or(Span::UNKNOWN)
        };
        let size = size(1).union(size(2));
        self.join_entries(expr, args.get(1..).unwrap_or_default());
        let [condition, yes, no] = costs;
        CallEstimate {
            cost: condition.plus(yes.union(no)),
            size: Some(size),
        }
    }

    fn join_entries(&mut self, expr: &Expr, args: &[Part<'_>]) {
        let mut each = args.iter().map(|arg| self.entries_of(arg.expr?));
        if let (Some(Some(one)), Some(Some(other))) = (each.next(), each.next()) {
            let joined = Entries {
                list: one.list,
                key: one.key.union(other.key),
                value: one.value.union(other.value),
            };
            self.entries.insert(expr.id, joined);
        }
    }

    fn push(&mut self, name: &str, local: Local) {
        self.locals.push((name.to_owned(), local));
    }

    fn comprehension(&mut self, expr: &Expr, loops: &Comprehension) -> Span {
        let empty = matches!(&loops.range.kind, Kind::List(elements) if elements.is_empty());
        let never = matches!(loops.condition.kind, Kind::Literal(Literal::Bool(false)));
        let mut sum = self.cost(&loops.range).plus(self.cost(&loops.init));
        let accu = Local {
            path: self.path(&loops.init),
            size: self.computed(&loops.init),
            entries: self.entries_of(&loops.init),
        };
        let outside = self.locals.len();
        self.push(&loops.accu, accu);
        if empty && never && loops.accu != ACCUMULATOR {
            sum = sum.plus(self.cost(&loops.result));
            if let Some(size) = self.computed(&loops.result) {
                self.sizes.insert(expr.id, size);
            }
            if let Some(entries) = self.entries_of(&loops.result) {
                self.entries.insert(expr.id, entries);
            }
            self.locals.truncate(outside);
            return sum;
        }
        self.push_vars(loops);
        let condition = self.cost(&loops.condition);
        let step = self.cost(&loops.step);
        // What the step was measured with the loop's own names must be known before they go.
        let made = self.entries_of(&loops.step);
        self.locals.truncate(outside + 1);
        sum = sum.plus(self.cost(&loops.result));
        self.locals.truncate(outside);
        let turns = self.size_or_unknown(&loops.range);
        sum = sum.plus(turns.times(step.plus(condition)));
        match &loops.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.computed(&loops.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, turns);
                if let Some(made) = made {
                    self.entries.insert(expr.id, made);
                }
            }
            _ => {}
        }
        sum
    }

    fn push_vars(&mut self, loops: &Comprehension) {
        let entries = self.entries_of(&loops.range);
        let list = entries.map_or_else(
            || matches!(self.ty(&loops.range), Type::List(_)),
            |entries| entries.list,
        );
        let key = entries.map(|entries| entries.key);
        let value = entries.map(|entries| entries.value);
        let mut vars = Vec::new();
        match (&loops.var2, list) {
            (None, true) => vars.push((&loops.var, "@items", value)),
            (None, false) => vars.push((&loops.var, "@keys", key)),
            (Some(second), _) => {
                vars.push((&loops.var, if list { "@indices" } else { "@keys" }, key));
                vars.push((second, if list { "@items" } else { "@values" }, value));
            }
        }
        for (name, step, size) in vars {
            let path = self.extended(&loops.range, step);
            let entries = None;
            self.push(
                name,
                Local {
                    path,
                    size,
                    entries,
                },
            );
        }
    }
}

/// The size that can be read off the source.
fn written(expr: &Expr) -> Option<Span> {
    let size = match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List(elements) => elements.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(Span::fixed(size as u64))
}
