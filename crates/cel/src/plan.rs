//! A checked tree made ready to be evaluated: names become slots, functions pointers.
//!
//! Invariant: evaluation looks up no name; a plan is as deep as its tree.

use std::collections::BTreeSet;

use crate::ast::{ACCUMULATOR, Comprehension, Expr, Kind, Literal};
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
    pub(crate) range: Node,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
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

    pub(crate) fn plan(&mut self, expr: &Expr) -> Result<Node, Unknown> {
        match self.reference(expr) {
            Some(Reference::Type(ty)) if !matches!(expr.kind, Kind::Struct { .. }) => {
                return Ok(Node::Type(ty.clone()));
            }
            Some(Reference::Local(name)) => {
                let slot = self.locals.iter().rposition(|local| local == name);
                return slot.map(Node::Local).ok_or_else(|| Unknown(name.clone()));
            }
            Some(Reference::Variable(name)) => {
                self.used.insert(name.clone());
                let slot = self.variables.iter().position(|variable| variable == name);
                return slot
                    .map(Node::Variable)
                    .ok_or_else(|| Unknown(name.clone()));
            }
            _ => {}
        }
        Ok(match &expr.kind {
            Kind::Literal(literal) => Node::Literal(literal.clone()),
            Kind::Ident(name) => return Err(Unknown(name.clone())),
            Kind::Select {
                operand,
                field,
                test,
            } => {
                let operand = self.boxed(operand)?;
                let field = field.clone();
                if *test {
                    Node::Has { operand, field }
                } else {
                    Node::Select {
                        operand,
                        field,
                        optional: false,
                    }
                }
            }
            Kind::Call { target, args, .. } => self.call(expr, target.as_deref(), args)?,
            Kind::List(elements) => Node::List(
                elements
                    .iter()
                    .map(|element| Ok((self.plan(&element.value)?, element.optional)))
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Map(entries) => Node::Map(
                entries
                    .iter()
                    .map(|entry| {
                        Ok((
                            self.plan(&entry.key)?,
                            self.plan(&entry.value)?,
                            entry.optional,
                        ))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Kind::Struct { name, fields } => Node::Struct {
                name: name.clone(),
                fields: fields
                    .iter()
                    .map(|field| Ok((field.name.clone(), self.plan(&field.value)?, field.optional)))
                    .collect::<Result<_, _>>()?,
            },
            Kind::Comprehension(loops) => self.comprehension(loops)?,
        })
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) -> Result<Node, Unknown> {
        let Some(Reference::Function(name, overloads)) = self.reference(expr) else {
            return Err(Unknown("call".into()));
        };
        if let ("_?._", [operand, field]) = (name.as_str(), args)
            && let Kind::Literal(Literal::String(field)) = &field.kind
        {
            return Ok(Node::Select {
                operand: self.boxed(operand)?,
                field: field.clone(),
                optional: true,
            });
        }
        if let Some(node) = self.gathering(name, args)? {
            return Ok(node);
        }
        // A target that is a part of the function's name is no argument.
        let qualified = name.contains('.');
        let target = target.filter(|_| !qualified);
        let mut nodes = target
            .into_iter()
            .chain(args)
            .map(|arg| self.plan(arg))
            .collect::<Result<Vec<_>, _>>()?;
        let mut next = || {
            let first = if nodes.is_empty() {
                Node::Literal(Literal::Null)
            } else {
                nodes.remove(0)
            };
            Box::new(first)
        };
        Ok(match name.as_str() {
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
                let (name, function) =
                    functions::lookup(name).ok_or_else(|| Unknown(name.clone()))?;
                Node::Call {
                    function,
                    name,
                    overload: match overloads.as_slice() {
                        [one] => one,
                        _ => "",
                    },
                    args: nodes,
                }
            }
        })
    }

    /// A step that adds to what a loop gathers does so in place.
    fn gathering(&mut self, name: &str, args: &[Expr]) -> Result<Option<Node>, Unknown> {
        let Some((first, rest)) = args.split_first() else {
            return Ok(None);
        };
        if !matches!(&first.kind, Kind::Ident(ident) if ident == ACCUMULATOR) {
            return Ok(None);
        }
        let Node::Local(slot) = self.plan(first)? else {
            return Ok(None);
        };
        Ok(match (name, rest) {
            ("_+_", [list]) => match &list.kind {
                Kind::List(_) => match self.plan(list)? {
                    Node::List(elements) => Some(Node::Append(slot, elements)),
                    _ => None,
                },
                _ => None,
            },
            ("cel.@mapInsert", rest) => {
                let nodes = rest
                    .iter()
                    .map(|arg| self.plan(arg))
                    .collect::<Result<_, _>>()?;
                Some(Node::Insert(slot, nodes))
            }
            _ => None,
        })
    }

    fn comprehension(&mut self, loops: &Comprehension) -> Result<Node, Unknown> {
        let empty = matches!(&loops.range.kind, Kind::List(elements) if elements.is_empty());
        let never = matches!(loops.condition.kind, Kind::Literal(Literal::Bool(false)));
        let outside = self.locals.len();
        if empty && never && loops.accu != ACCUMULATOR {
            let value = self.boxed(&loops.init)?;
            self.locals.push(loops.accu.clone());
            let result = self.boxed(&loops.result);
            self.locals.truncate(outside);
            return Ok(Node::Bind {
                value,
                result: result?,
            });
        }
        let range = self.plan(&loops.range)?;
        let init = self.plan(&loops.init)?;
        self.locals.push(loops.accu.clone());
        self.locals.push(loops.var.clone());
        self.locals.extend(loops.var2.clone());
        let condition = self.plan(&loops.condition)?;
        let step = self.plan(&loops.step)?;
        self.locals.truncate(outside + 1);
        let result = self.plan(&loops.result)?;
        self.locals.truncate(outside);
        Ok(Node::Fold(Box::new(Fold {
            absorbs: matches!(step, Node::And(..) | Node::Or(..)),
            range,
            init,
            condition,
            step,
            result,
            two: loops.var2.is_some(),
        })))
    }
}
