//! A checked tree made ready to be evaluated: names become slots, functions pointers.
//!
//! Invariant: evaluation looks up no name; a plan is as deep as its tree.

use std::collections::BTreeSet;

use crate::ast::{ACCUMULATOR, Comprehension, Element, Entry, Expr, Field, Kind, Literal};
use crate::check::{Checked, Reference};
use crate::functions::{self, Function};
use crate::types::Type;

/// A step of an evaluation.
#[derive(Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Type(Type),
    /// A variable of a loop, by its place on the stack.
    Local(usize),
    /// A variable of the environment, by its place among them.
    Variable(usize),
    Select {
        operand: Box<Node>,
        field: String,
        optional: bool,
    },
    Has {
        operand: Box<Node>,
        field: String,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    Call {
        function: Function,
        name: &'static str,
        /// The one overload that it can be, if it is one.
        overload: &'static str,
        args: Vec<Node>,
    },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    NotStrictlyFalse(Box<Node>),
    /// `optional.or(...)`, and `orValue`, which unwraps.
    OptionalOr {
        optional: Box<Node>,
        other: Box<Node>,
        unwrap: bool,
    },
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct {
        name: String,
        fields: Vec<(String, Node, bool)>,
    },
    /// Adds elements to the list that a loop gathers.
    Append(usize, Vec<(Node, bool)>),
    /// Adds entries to the map that a loop gathers.
    Insert(usize, Vec<Node>),
    Fold(Box<Fold>),
    Bind {
        value: Box<Node>,
        result: Box<Node>,
    },
}

/// A loop.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Box<Node>,
    pub(crate) init: Box<Node>,
    pub(crate) condition: Box<Node>,
    pub(crate) step: Box<Node>,
    pub(crate) result: Box<Node>,
    pub(crate) two: bool,
    /// Whether an error of a step is kept, since a later one may absorb it.
    pub(crate) absorbs: bool,
}

pub(crate) struct Planner<'a> {
    pub(crate) checked: &'a Checked,
    pub(crate) variables: &'a [String],
    pub(crate) used: BTreeSet<String>,
    locals: Vec<String>,
}

/// What cannot be planned, although it checked: a function without a body.
#[derive(Debug)]
pub(crate) struct Unknown(pub(crate) String);

impl<'a> Planner<'a> {
    pub(crate) fn new(checked: &'a Checked, variables: &'a [String]) -> Self {
        Self {
            checked,
            variables,
            used: BTreeSet::new(),
            locals: Vec::new(),
        }
    }

    fn reference(&self, expr: &Expr) -> Option<&'a Reference> {
        self.checked.references.get(expr.id)?.as_ref()
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<Node>, Unknown> {
        self.plan(expr).map(Box::new)
    }

    /// Leads to what an expression is. It and what it leads to are on the stack once for each level of
    /// the tree, so that each of them is small.
    pub(crate) fn plan(&mut self, expr: &Expr) -> Result<Node, Unknown> {
        if let Some(done) = self.named(expr) {
            return done;
        }
        match &expr.kind {
            Kind::Literal(literal) => Ok(Node::Literal(literal.clone())),
            Kind::Ident(name) => Err(Unknown(name.clone())),
            Kind::Select {
                operand,
                field,
                test,
            } => self.select(operand, field, *test),
            Kind::Call { target, args, .. } => self.call(expr, target.as_deref(), args),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(name, fields),
            Kind::Comprehension(loops) => self.comprehension(loops),
        }
    }

    /// What a name stands for.
    fn named(&mut self, expr: &Expr) -> Option<Result<Node, Unknown>> {
        let (slot, name) = match self.reference(expr)? {
            Reference::Type(ty) if !matches!(expr.kind, Kind::Struct { .. }) => {
                return Some(Ok(Node::Type(ty.clone())));
            }
            Reference::Local(name) => {
                let slot = self.locals.iter().rposition(|local| local == name);
                (slot.map(Node::Local), name)
            }
            Reference::Variable(name) => {
                self.used.insert(name.clone());
                let slot = self.variables.iter().position(|variable| variable == name);
                (slot.map(Node::Variable), name)
            }
            _ => return None,
        };
        Some(slot.ok_or_else(|| Unknown(name.clone())))
    }

    fn select(&mut self, operand: &Expr, field: &str, test: bool) -> Result<Node, Unknown> {
        let (operand, field) = (self.boxed(operand)?, field.to_owned());
        Ok(if test {
            Node::Has { operand, field }
        } else {
            let optional = false;
            Node::Select {
                operand,
                field,
                optional,
            }
        })
    }

    fn list(&mut self, elements: &[Element]) -> Result<Node, Unknown> {
        let mut nodes = Vec::with_capacity(elements.len());
        for element in elements {
            nodes.push((self.plan(&element.value)?, element.optional));
        }
        Ok(Node::List(nodes))
    }

    fn map(&mut self, entries: &[Entry]) -> Result<Node, Unknown> {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = self.plan(&entry.key)?;
            nodes.push((key, self.plan(&entry.value)?, entry.optional));
        }
        Ok(Node::Map(nodes))
    }

    fn structure(&mut self, name: &str, fields: &[Field]) -> Result<Node, Unknown> {
        let mut nodes = Vec::with_capacity(fields.len());
        for field in fields {
            nodes.push((field.name.clone(), self.plan(&field.value)?, field.optional));
        }
        Ok(Node::Struct {
            name: name.to_owned(),
            fields: nodes,
        })
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) -> Result<Node, Unknown> {
        let Some(Reference::Function(name, overloads)) = self.reference(expr) else {
            return Err(Unknown("call".into()));
        };
        if let ("_?._", [operand, field]) = (name.as_str(), args)
            && let Kind::Literal(Literal::String(field)) = &field.kind
        {
            return self.optional_select(operand, field);
        }
        if let Some(done) = self.gathering(name, args) {
            return done;
        }
        // A target that is a part of the function's name is no argument.
        let target = target.filter(|_| !name.contains('.'));
        let nodes = self.arguments(target, args)?;
        called(name, overloads, nodes)
    }

    fn optional_select(&mut self, operand: &Expr, field: &str) -> Result<Node, Unknown> {
        Ok(Node::Select {
            operand: self.boxed(operand)?,
            field: field.to_owned(),
            optional: true,
        })
    }

    fn arguments(&mut self, target: Option<&Expr>, args: &[Expr]) -> Result<Vec<Node>, Unknown> {
        let mut nodes = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            nodes.push(self.plan(arg)?);
        }
        Ok(nodes)
    }

    /// A step that adds to what a loop gathers does so in place.
    fn gathering(&mut self, name: &str, args: &[Expr]) -> Option<Result<Node, Unknown>> {
        let (first, rest) = args.split_first()?;
        if !matches!(&first.kind, Kind::Ident(ident) if ident == ACCUMULATOR) {
            return None;
        }
        let Ok(Node::Local(slot)) = self.plan(first) else {
            return None;
        };
        match (name, rest) {
            ("_+_", [list]) if matches!(list.kind, Kind::List(_)) => match self.plan(list) {
                Ok(Node::List(elements)) => Some(Ok(Node::Append(slot, elements))),
                Ok(_) => None,
                Err(unknown) => Some(Err(unknown)),
            },
            ("cel.@mapInsert", rest) => match self.arguments(None, rest) {
                Ok(nodes) => Some(Ok(Node::Insert(slot, nodes))),
                Err(unknown) => Some(Err(unknown)),
            },
            _ => None,
        }
    }

    fn comprehension(&mut self, loops: &Comprehension) -> Result<Node, Unknown> {
        let empty = matches!(&loops.range.kind, Kind::List(elements) if elements.is_empty());
        let never = matches!(loops.condition.kind, Kind::Literal(Literal::Bool(false)));
        let outside = self.locals.len();
        let planned = if empty && never && loops.accu != ACCUMULATOR {
            self.bind(loops)
        } else {
            self.fold(loops, outside)
        };
        self.locals.truncate(outside);
        planned
    }

    fn bind(&mut self, loops: &Comprehension) -> Result<Node, Unknown> {
        let value = self.boxed(&loops.init)?;
        self.locals.push(loops.accu.clone());
        let result = self.boxed(&loops.result)?;
        Ok(Node::Bind { value, result })
    }

    fn fold(&mut self, loops: &Comprehension, outside: usize) -> Result<Node, Unknown> {
        let range = self.boxed(&loops.range)?;
        let init = self.boxed(&loops.init)?;
        self.locals.push(loops.accu.clone());
        self.locals.push(loops.var.clone());
        self.locals.extend(loops.var2.clone());
        let condition = self.boxed(&loops.condition)?;
        let step = self.boxed(&loops.step)?;
        self.locals.truncate(outside + 1);
        let result = self.boxed(&loops.result)?;
        Ok(Node::Fold(Box::new(Fold {
            absorbs: matches!(*step, Node::And(..) | Node::Or(..)),
            range,
            init,
            condition,
            step,
            result,
            two: loops.var2.is_some(),
        })))
    }
}

/// A call of a function with its arguments.
fn called(name: &str, overloads: &[&'static str], mut nodes: Vec<Node>) -> Result<Node, Unknown> {
    let mut next = || {
        let first = if nodes.is_empty() {
            Node::Literal(Literal::Null)
        } else {
            nodes.remove(0)
        };
        Box::new(first)
    };
    Ok(match name {
        "_&&_" => Node::And(next(), next()),
        "_||_" => Node::Or(next(), next()),
        "_?_:_" => Node::If(next(), next(), next()),
        "@not_strictly_false" => Node::NotStrictlyFalse(next()),
        "_[_]" | "_[?_]" => Node::Index {
            operand: next(),
            index: next(),
            optional: name == "_[?_]",
        },
        "or" | "orValue" => Node::OptionalOr {
            optional: next(),
            other: next(),
            unwrap: name == "orValue",
        },
        _ => {
            let found = functions::lookup(name);
            let (name, function) = found.ok_or_else(|| Unknown(name.to_owned()))?;
            let overload = match overloads {
                [one] => one,
                _ => "",
            };
            Node::Call {
                function,
                name,
                overload,
                args: nodes,
            }
        }
    })
}
