//! The tree that a source text is parsed to.
//!
//! Invariant: ids are dense and count from 0, so that what is known of an expression lies in a vector.

/// Names an expression within its tree.
pub(crate) type Id = usize;

/// The variable that macros gather their result in; no source text can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        /// `has(operand.field)`.
        test: bool,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

/// An element of a list, perhaps written `?element`.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// What every macro that loops becomes.
#[derive(Debug, Clone)]
pub(crate) struct Comprehension {
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    pub(crate) accu: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

/// A parsed source: the tree and where each expression begins, in code points.
#[derive(Debug)]
pub(crate) struct Ast {
    pub(crate) root: Expr,
    pub(crate) positions: Vec<usize>,
}

/// Whether `variable.field` or `variable.?field` is anywhere in a tree.
pub(crate) fn selects(expr: &Expr, variable: &str, field: &str) -> bool {
    let is_variable = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if name == variable);
    let within = |expr: &Expr| selects(expr, variable, field);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => false,
        Kind::Select {
            operand,
            field: name,
            ..
        } => (name == field && is_variable(operand)) || within(operand),
        Kind::Call {
            function,
            target,
            args,
        } => {
            let optional = match args.as_slice() {
                [operand, name] if function == "_?._" && is_variable(operand) => {
                    matches!(&name.kind, Kind::Literal(Literal::String(name)) if name == field)
                }
                _ => false,
            };
            optional || target.as_deref().is_some_and(within) || args.iter().any(within)
        }
        Kind::List(items) => items.iter().any(|item| within(&item.value)),
        Kind::Map(entries) => entries
            .iter()
            .any(|entry| within(&entry.key) || within(&entry.value)),
        Kind::Struct { fields, .. } => fields.iter().any(|field| within(&field.value)),
        Kind::Comprehension(looped) => [
            &looped.range,
            &looped.init,
            &looped.condition,
            &looped.step,
            &looped.result,
        ]
        .into_iter()
        .any(within),
    }
}

/// The dotted name that nothing but identifiers and selections make up.
pub(crate) fn qualified_name(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select {
            operand,
            field,
            test: false,
        } => Some(format!("{}.{field}", qualified_name(operand)?)),
        _ => None,
    }
}
