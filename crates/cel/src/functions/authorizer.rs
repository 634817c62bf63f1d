//! Questions to the authorizer.

use api::validate::names;

use super::{Table, fail, no_overload};
use crate::eval::Context;
use crate::extension::{Decision, Extension, Question};
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("path", path),
    ("group", group),
    ("serviceAccount", service_account),
    ("resource", resource),
    ("subresource", |_, args| {
        with(args, |question, text| question.subresource = text)
    }),
    ("namespace", |_, args| {
        with(args, |question, text| question.namespace = text)
    }),
    ("name", |_, args| {
        with(args, |question, text| question.name = text)
    }),
    ("fieldSelector", |_, args| {
        with(args, |question, text| question.field_selector = text)
    }),
    ("labelSelector", |_, args| {
        with(args, |question, text| question.label_selector = text)
    }),
    ("check", check),
    ("errored", |_, args| {
        of_decision(args, |decision| Value::Bool(!decision.error.is_empty()))
    }),
    ("error", |_, args| {
        of_decision(args, |decision| Value::made(decision.error.as_str()))
    }),
    ("allowed", |_, args| {
        of_decision(args, |decision| Value::Bool(decision.allowed))
    }),
    ("reason", |_, args| {
        of_decision(args, |decision| Value::made(decision.reason.as_str()))
    }),
];

fn extension<'v>(args: &'v [Value<'_>]) -> Option<&'v Extension> {
    match args.first() {
        Some(Value::Extension(extension)) => Some(extension),
        _ => None,
    }
}

fn word(args: &[Value<'_>], index: usize) -> Option<String> {
    args.get(index)?.as_str().map(str::to_owned)
}

fn path<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Some(Extension::Authorizer(account)), Some(path)) = (extension(args), word(args, 1))
    else {
        return no_overload();
    };
    if path.trim().is_empty() {
        return fail("path must not be empty");
    }
    Ok(Value::extension(Extension::PathCheck(Question {
        service_account: account.clone(),
        path: Some(path),
        ..Question::default()
    })))
}

fn group<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Some(Extension::Authorizer(account)), Some(group)) = (extension(args), word(args, 1))
    else {
        return no_overload();
    };
    Ok(Value::extension(Extension::GroupCheck(Question {
        service_account: account.clone(),
        group,
        ..Question::default()
    })))
}

fn service_account<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Some(Extension::Authorizer(_)), Some(namespace), Some(name)) =
        (extension(args), word(args, 1), word(args, 2))
    else {
        return no_overload();
    };
    if !names::dns_subdomain(&name).is_empty() {
        return fail("Invalid service account name");
    }
    if !names::dns_label(&namespace).is_empty() {
        return fail("Invalid service account namespace");
    }
    Ok(Value::extension(Extension::Authorizer(Some((
        namespace, name,
    )))))
}

fn resource<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Some(Extension::GroupCheck(question)), Some(resource)) = (extension(args), word(args, 1))
    else {
        return no_overload();
    };
    if resource.trim().is_empty() {
        return fail("resource must not be empty");
    }
    Ok(Value::extension(Extension::ResourceCheck(Question {
        resource,
        ..question.clone()
    })))
}

fn with<'a>(args: &[Value<'a>], set: fn(&mut Question, String)) -> Evaluated<'a> {
    let (Some(Extension::ResourceCheck(question)), Some(text)) = (extension(args), word(args, 1))
    else {
        return no_overload();
    };
    let mut question = question.clone();
    set(&mut question, text);
    Ok(Value::extension(Extension::ResourceCheck(question)))
}

fn check<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Some(Extension::PathCheck(question) | Extension::ResourceCheck(question)), Some(verb)) =
        (extension(args), word(args, 1))
    else {
        return no_overload();
    };
    let question = Question {
        verb,
        ..question.clone()
    };
    let decision = match context.authorizer {
        Some(authorizer) => authorizer.decide(&question),
        None => Decision {
            error: "no authorizer".to_owned(),
            ..Decision::default()
        },
    };
    Ok(Value::extension(Extension::Decision(decision)))
}

fn of_decision<'a>(args: &[Value<'a>], part: fn(&Decision) -> Value<'a>) -> Evaluated<'a> {
    match extension(args) {
        Some(Extension::Decision(decision)) => Ok(part(decision)),
        _ => no_overload(),
    }
}
