//! Profiles in JSON: the OCI runtime specification's form, and Docker's with `includes` and
//! `excludes` by capability and architecture.
//!
//! Invariant: an action or operator that we cannot honour is an error.

use std::path::Path;

use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
use serde::Deserialize;

use super::{Profile, Rule, SeccompError, table};
use crate::caps::{self, CapSet};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

pub(super) fn read(path: &Path, caps: CapSet) -> Result<Profile, SeccompError> {
    let bytes = std::fs::read(path).map_err(|source| SeccompError::Read {
        path: path.into(),
        source,
    })?;
    let json = serde_json::from_slice(&bytes).map_err(|source| SeccompError::Json {
        path: path.into(),
        source,
    })?;
    resolve(json, caps)
}

fn resolve(json: Json, caps: CapSet) -> Result<Profile, SeccompError> {
    let default = action(&json.default_action, json.default_errno_ret)?;
    let mut flags = 0;
    for flag in &json.flags {
        flags |= match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_TSYNC" => 0, // there is one thread
            other => return Err(SeccompError::Unsupported(other.into())),
        };
    }
    let mut rules = Vec::new();
    for entry in &json.syscalls {
        if !applies(entry, caps) {
            continue;
        }
        let names = entry.names.iter().chain(&entry.name);
        let numbers = names.filter_map(|name| table::number(name)).collect();
        let alternatives = alternatives(entry.args.as_deref().unwrap_or_default())?;
        rules.push(Rule {
            numbers,
            action: action(&entry.action, entry.errno_ret)?,
            alternatives,
        });
    }
    // Docker's lists name the same call with and without conditions; a rule that repeats the
    // default adds nothing.
    rules.retain(|rule| rule.action != default);
    Ok(Profile {
        default,
        rules,
        flags,
    })
}

fn applies(entry: &Syscalls, has: CapSet) -> bool {
    let names_us = |arches: &[String]| arches.iter().any(|a| a == "amd64" || a == "x86_64");
    let any_cap = |names: &[String]| {
        names
            .iter()
            .any(|name| caps::by_name(name).is_some_and(|cap| has.contains(cap)))
    };
    let included = entry.includes.as_ref().is_none_or(|f| {
        (f.arches.is_empty() || names_us(&f.arches))
            && f.caps
                .iter()
                .all(|name| caps::by_name(name).is_some_and(|cap| has.contains(cap)))
    });
    let excluded = entry
        .excludes
        .as_ref()
        .is_some_and(|f| names_us(&f.arches) || any_cap(&f.caps));
    included && !excluded
}

/// All conditions must hold, unless two look at the same argument: then any will do, as in runc.
fn alternatives(args: &[Argument]) -> Result<Vec<Vec<SeccompCondition>>, SeccompError> {
    let conditions: Result<Vec<_>, _> = args.iter().map(condition).collect();
    let conditions = conditions?;
    let repeated = args
        .iter()
        .enumerate()
        .any(|(at, a)| args[..at].iter().any(|b| a.index == b.index));
    Ok(match conditions.len() {
        0 => vec![],
        _ if repeated => conditions.into_iter().map(|c| vec![c]).collect(),
        _ => vec![conditions],
    })
}

fn condition(arg: &Argument) -> Result<SeccompCondition, SeccompError> {
    let (op, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, arg.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, arg.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, arg.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, arg.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, arg.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, arg.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
        other => return Err(SeccompError::Unsupported(other.into())),
    };
    Ok(SeccompCondition::new(
        arg.index,
        SeccompCmpArgLen::Qword,
        op,
        value,
    )?)
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, SeccompError> {
    let number = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(number),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(number),
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        other => return Err(SeccompError::Unsupported(other.into())),
    })
}
