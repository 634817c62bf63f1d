//! Exceptions: read out of YAML, checked, and written as conditions.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::code::WarningCode;
use super::context::{Context, Item};
use super::decode::{self, Thrown, invalid, structure};
use super::item::{Entry, ExceptionItem};
use super::result::LoadResult;
use crate::condition::Operator;
use crate::yaml::Node;

fn entry(node: &Node, key: &str, context: &Context) -> Result<Entry, Thrown> {
    let context = context.node(node, Item::ValueFor, key);
    if let Some(text) = node.scalar() {
        if text.is_empty() {
            return Err(structure("Value must be non-empty", &context));
        }
        return Ok(Entry::One(text.to_owned()));
    }
    let Some(items) = node.sequence() else {
        return Ok(Entry::none());
    };
    let items = items
        .iter()
        .map(|item| entry(item, "", &context.node(item, Item::Exception, "")));
    Ok(Entry::Many(items.collect::<Result<_, _>>()?))
}

fn optional_entry(item: &Node, key: &str, context: &Context) -> Result<Entry, Thrown> {
    match item.get(key) {
        Some(node) => entry(node, key, context),
        None => Ok(Entry::none()),
    }
}

/// The exceptions of a rule.
pub(crate) fn read(
    item: &Node,
    append: bool,
    parent: &Context,
    result: &mut LoadResult,
) -> Result<Vec<ExceptionItem>, Thrown> {
    let mut exceptions: Vec<ExceptionItem> = Vec::new();
    let Some(all) = item.get("exceptions").filter(|all| !all.is_null()) else {
        return Ok(exceptions);
    };
    let all_context = parent.node(all, Item::Exceptions, "");
    let Some(nodes) = all.sequence() else {
        return Err(structure(
            "Rule exceptions must be a sequence",
            &all_context,
        ));
    };
    for node in nodes {
        let context = all_context.node(node, Item::Exception, "");
        if node.mapping().is_none() {
            return Err(structure("Rule exception must be a mapping", &context));
        }
        let name = decode::text(node, "name", &context)?;
        let context = parent.node(node, Item::Exception, &name);
        if exceptions.iter().any(|known| known.name == name) {
            let message = format!("Multiple definitions of exception '{name}' in the same rule");
            result.warn(WarningCode::ExceptionNameNotUnique, &message, &context);
        }
        if !append && node.get("fields").is_none() {
            let message = "Item has no mapping for key 'fields'";
            return Err(structure(message, &context));
        }
        let fields = optional_entry(node, "fields", &context)?;
        let comps = optional_entry(node, "comps", &context)?;
        let values = values(node, append, &context, result)?;
        exceptions.push(ExceptionItem {
            context,
            name,
            fields,
            comps,
            values,
        });
    }
    Ok(exceptions)
}

fn values(
    node: &Node,
    append: bool,
    context: &Context,
    result: &mut LoadResult,
) -> Result<Vec<Entry>, Thrown> {
    let Some(values) = node.get("values") else {
        if append {
            let message = "Overriding/appending exception with no values";
            result.warn(WarningCode::AppendNoValues, message, context);
        }
        return Ok(Vec::new());
    };
    let context = context.node(values, Item::ExceptionValues, "");
    let Some(items) = values.sequence() else {
        return Err(structure(
            "Rule exception values must be a sequence",
            &context,
        ));
    };
    items
        .iter()
        .map(|item| entry(item, "", &context.node(item, Item::ExceptionValue, "")))
        .collect()
}

/// Checks an exception and fills in what it leaves out; `known` tells fields of the rule's source.
pub(crate) fn validate(
    exception: &mut ExceptionItem,
    known: Option<&dyn Fn(&str) -> bool>,
) -> Result<(), Thrown> {
    let ExceptionItem {
        context,
        fields,
        comps,
        ..
    } = exception;
    let field = |field: &str| match known {
        Some(known) if !known(field) => Err(invalid(
            format!("'{field}' is not a supported filter field"),
            context,
        )),
        _ => Ok(()),
    };
    let Entry::Many(names) = fields else {
        if !comps.is_valid() {
            *comps = Entry::One("in".into());
        }
        let Entry::One(comp) = comps else {
            return Err(invalid("Fields and comps must both be strings", context));
        };
        *comp = comp.trim_matches([' ', '\t', '\r', '\n']).to_owned();
        let plain = matches!(comp.as_str(), "in" | "pmatch" | "intersects");
        if !plain && Operator::modified(comp).is_none() {
            return Err(invalid(
                "When fields is a single value, comps must be one of (in, pmatch, intersects) or a \
                 modifier operator (e.g. startswith oneof)",
                context,
            ));
        }
        return field(fields.text());
    };
    if !comps.is_valid() {
        *comps = Entry::Many(vec![Entry::One("=".into()); names.len()]);
    }
    if names.len() != comps.items().len() {
        return Err(invalid(
            "Fields and comps lists must have equal length",
            context,
        ));
    }
    if let Entry::Many(comps) = comps {
        for comp in comps {
            let text = comp.text().trim_matches([' ', '\t', '\r', '\n']).to_owned();
            if Operator::find(&text).is_none() && Operator::modified(&text).is_none() {
                return Err(invalid(
                    format!("'{text}' is not a supported comparison operator"),
                    context,
                ));
            }
            if let Entry::One(comp) = comp {
                *comp = text;
            }
        }
    }
    names.iter().try_for_each(|name| field(name.text()))
}

fn quoted(item: &str) -> String {
    if item.contains(' ') && !item.starts_with(['"', '\'']) {
        format!("\"{item}\"")
    } else {
        item.to_owned()
    }
}

/// An item of a list, with quotes where a blank needs them.
pub(crate) fn quote(item: &str) -> String {
    quoted(item)
}

fn for_list(comp: &str) -> bool {
    Operator::LIST
        .iter()
        .any(|operator| operator.text() == comp)
        || Operator::modified(comp).is_some()
}

/// The condition with the exceptions in it, and the fields that they name.
pub(crate) fn condition(
    condition: &str,
    exceptions: &[ExceptionItem],
) -> Result<(String, BTreeSet<String>), Thrown> {
    let mut out = format!("({condition})");
    let mut fields = BTreeSet::new();
    for exception in exceptions {
        let unless = if exception.fields.is_list() {
            tuples(exception, &mut fields)?
        } else {
            singles(exception, &mut fields)?
        };
        if !unless.is_empty() {
            let _infallible = write!(out, " and not {unless}");
        }
    }
    Ok((out, fields))
}

fn singles(exception: &ExceptionItem, names: &mut BTreeSet<String>) -> Result<String, Thrown> {
    let mut out = String::new();
    let (field, comp) = (exception.fields.text(), exception.comps.text());
    for value in &exception.values {
        if value.is_list() {
            return Err(invalid(
                "Expected values array to contain a list of strings",
                &exception.context,
            ));
        }
        if out.is_empty() {
            let _infallible = write!(out, "({field} {comp} (");
        } else {
            out.push_str(", ");
        }
        names.insert(field.to_owned());
        out.push_str(&quoted(value.text()));
    }
    if !out.is_empty() {
        out.push_str("))");
    }
    Ok(out)
}

fn tuples(exception: &ExceptionItem, names: &mut BTreeSet<String>) -> Result<String, Thrown> {
    let mut alternatives = Vec::new();
    let fields = exception.fields.items();
    for values in &exception.values {
        if fields.len() != values.items().len() {
            return Err(invalid(
                "Fields and values lists must have equal length",
                &exception.context,
            ));
        }
        let mut checks = Vec::new();
        for ((field, comp), value) in fields
            .iter()
            .zip(exception.comps.items())
            .zip(values.items())
        {
            let comp = comp.text();
            let value = match value {
                Entry::Many(items) => {
                    let items: Vec<_> = items.iter().map(|item| quoted(item.text())).collect();
                    format!("({})", items.join(", "))
                }
                Entry::One(item) if for_list(comp) && !item.starts_with('(') => {
                    format!("({item})")
                }
                Entry::One(item) if for_list(comp) => item.clone(),
                Entry::One(item) => quoted(item),
            };
            checks.push(format!(" {} {comp} {value}", field.text()));
            names.insert(field.text().to_owned());
        }
        alternatives.push(format!("({})", checks.join(" and ")));
    }
    Ok(match alternatives.is_empty() {
        true => String::new(),
        false => format!("({})", alternatives.join(" or ")),
    })
}
