//! Trees as text. Macros are written out wherever they are used, so the text is bounded.

use super::escape::escape;
use super::{Expr, Right, Term};

/// What is longer ends in dots: macros can make it grow without end.
const MAX_TEXT: usize = 1 << 20;

/// A condition as text.
pub fn print(expr: &Expr) -> String {
    let mut out = String::new();
    write(expr, &mut out);
    if out.len() > MAX_TEXT {
        out.push_str("...");
    }
    out
}

fn write(expr: &Expr, out: &mut String) {
    if out.len() > MAX_TEXT {
        return;
    }
    let chain = |children: &[std::sync::Arc<Expr>], word: &str, out: &mut String| {
        out.push('(');
        for (at, child) in children.iter().enumerate() {
            if at > 0 {
                out.push_str(word);
            }
            write(child, out);
        }
        out.push(')');
    };
    match expr {
        Expr::And(children, _) => chain(children, " and ", out),
        Expr::Or(children, _) => chain(children, " or ", out),
        Expr::Not(child, _) => {
            out.push_str("not ");
            write(child, out);
        }
        Expr::Macro(name, _) => out.push_str(name),
        Expr::Exists(term, _) => {
            write_term(term, out);
            out.push_str(" exists");
        }
        Expr::Check {
            left,
            operator,
            modifier,
            right,
            ..
        } => {
            write_term(left, out);
            out.push(' ');
            out.push_str(operator.text());
            if let Some(modifier) = modifier {
                out.push(' ');
                out.push_str(modifier.text());
            }
            out.push(' ');
            match right {
                Right::Value(value, _) => out.push_str(&escape(value)),
                Right::List(values, _) => {
                    let values: Vec<_> = values.iter().map(|value| escape(value)).collect();
                    out.push_str(&format!("({})", values.join(", ")));
                }
                Right::Term(term) => write_term(term, out),
            }
        }
    }
}

/// A field or transformer as text.
pub fn print_term(term: &Term) -> String {
    let mut out = String::new();
    write_term(term, &mut out);
    out
}

fn write_term(term: &Term, out: &mut String) {
    let list = |terms: &[Term], out: &mut String| {
        out.push('(');
        for (at, term) in terms.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_term(term, out);
        }
        out.push(')');
    };
    match term {
        Term::Field { name, argument, .. } => {
            out.push_str(name);
            write_argument(argument.as_deref(), out);
        }
        Term::Transformer {
            name,
            values,
            argument,
            ..
        } => {
            out.push_str(name);
            list(values, out);
            write_argument(argument.as_deref(), out);
        }
        Term::Value(value, _) => out.push_str(&escape(value)),
        Term::List(items, _) => list(items, out),
    }
}

fn write_argument(argument: Option<&str>, out: &mut String) {
    if let Some(argument) = argument {
        let argument = match argument {
            "" => "\"\"".to_owned(),
            _ => escape(argument.as_bytes()),
        };
        out.push('[');
        out.push_str(&argument);
        out.push(']');
    }
}
