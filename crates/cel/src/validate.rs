//! Literals that cannot be what the function around them wants.

use crate::ast::{Ast, Expr, Kind, Literal};
use crate::check::{Checked, Reference};
use crate::functions::regex;
use crate::functions::time::{parse_duration, parse_timestamp};
use crate::issue::Issues;

/// Refuses durations, timestamps and patterns that are written out and wrong.
pub(crate) fn literals(source: &str, ast: &Ast, checked: &Checked) -> Result<(), Issues> {
    let mut issues = Issues::new(source);
    visit(&ast.root, ast, checked, &mut issues);
    if issues.is_empty() {
        Ok(())
    } else {
        Err(issues)
    }
}

fn visit(expr: &Expr, ast: &Ast, checked: &Checked, issues: &mut Issues) {
    let mut each = |expr: &Expr| visit(expr, ast, checked, issues);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => each(operand),
        Kind::Call { target, args, .. } => {
            target.iter().for_each(|target| each(target));
            args.iter().for_each(&mut each);
            call(expr, target.is_some(), args, ast, checked, issues);
        }
        Kind::List(elements) => elements.iter().for_each(|element| each(&element.value)),
        Kind::Map(entries) => entries.iter().for_each(|entry| {
            each(&entry.key);
            each(&entry.value);
        }),
        Kind::Struct { fields, .. } => fields.iter().for_each(|field| each(&field.value)),
        Kind::Comprehension(loops) => {
            for part in [
                &loops.range,
                &loops.init,
                &loops.condition,
                &loops.step,
                &loops.result,
            ] {
                each(part);
            }
        }
    }
}

fn call(
    expr: &Expr,
    member: bool,
    args: &[Expr],
    ast: &Ast,
    checked: &Checked,
    issues: &mut Issues,
) {
    let reference = checked.references.get(expr.id).and_then(Option::as_ref);
    let Some(Reference::Function(name, _)) = reference else {
        return;
    };
    let argument = match (name.as_str(), args) {
        ("matches", [pattern]) if member => pattern,
        ("matches", [_, pattern]) => pattern,
        ("duration" | "timestamp", [text]) => text,
        _ => return,
    };
    let Kind::Literal(Literal::String(text)) = &argument.kind else {
        return;
    };
    let wrong = match name.as_str() {
        "matches" => regex::compile(text).is_err(),
        "duration" => parse_duration(text).is_err(),
        _ => parse_timestamp(text).is_err(),
    };
    if wrong {
        let position = ast.positions.get(argument.id).copied();
        issues.add(position, format!("invalid {name} argument"));
    }
}
