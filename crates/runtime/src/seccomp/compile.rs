//! From a profile to BPF programs, one an action: the kernel takes the strictest answer.
//!
//! Invariant: the first program holds the default action and lets pass whatever has a rule of its
//! own; each further program answers for the rules of one action and lets pass the rest.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

use super::{Filters, Profile, Rule, SeccompError};

/// The kernel's limit of a program.
const MAX_INSTRUCTIONS: usize = 4096;

pub(super) fn compile(profile: Profile) -> Result<Filters, SeccompError> {
    let mut programs = Vec::new();
    if profile.default != SeccompAction::Allow {
        let all = chains(profile.rules.iter())?;
        programs.push(program(all, profile.default.clone(), SeccompAction::Allow)?);
    } else {
        programs.push(deny_x32());
    }
    let mut actions: Vec<&SeccompAction> = Vec::new();
    for rule in &profile.rules {
        if rule.action != SeccompAction::Allow
            && rule.action != profile.default
            && !actions.contains(&&rule.action)
        {
            actions.push(&rule.action);
        }
    }
    for action in actions {
        let chains = chains(profile.rules.iter().filter(|r| r.action == *action))?;
        programs.push(program(chains, SeccompAction::Allow, action.clone())?);
    }
    Ok(Filters {
        programs,
        flags: profile.flags,
    })
}

type Chains = BTreeMap<i64, Vec<SeccompRule>>;

/// Rules by number; an empty chain means "always".
fn chains<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<Chains, SeccompError> {
    let mut chains = Chains::new();
    let mut always: Vec<i64> = Vec::new();
    for rule in rules {
        for number in &rule.numbers {
            let chain = chains.entry(*number).or_default();
            if rule.alternatives.is_empty() {
                always.push(*number);
            }
            for conditions in &rule.alternatives {
                chain.push(SeccompRule::new(conditions.clone())?);
            }
        }
    }
    for number in always {
        chains.insert(number, Vec::new());
    }
    Ok(chains)
}

fn program(
    chains: Chains,
    mismatch: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    if mismatch == matched {
        return Err(SeccompError::Unsupported(
            "a profile whose rules change nothing".into(),
        ));
    }
    let filter = SeccompFilter::new(chains, mismatch, matched, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(program.len()));
    }
    Ok(program)
}

/// Numbers from 0x4000_0000 on are the x32 twins of the calls that a deny-list names: refused with
/// ENOSYS, so that they cannot be used to go around it.
fn deny_x32() -> BpfProgram {
    let statement = |code: u16, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        statement(0x20, 0, 0, 0),           // load the number
        statement(0x35, 0, 1, 0x4000_0000), // at least x32's first?
        statement(0x06, 0, 0, 0x0005_0000 | libc::ENOSYS.cast_unsigned()), // errno
        statement(0x06, 0, 0, 0x7fff_0000), // allow
    ]
}
