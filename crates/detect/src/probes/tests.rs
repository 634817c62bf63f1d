//! Recipes against the schema, and numbers of the C sources against ours.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::recipes::{STEPS, has_kernel_path, recipe};
use super::translate::{Table, lines};
use crate::event::{EventType, syscall};

#[test]
fn a_recipe_has_the_parameters_of_its_event() {
    let mut known = 0;
    for call in syscall::all() {
        if call.exit == EventType::GENERIC_X {
            continue;
        }
        let Some(recipe) = recipe(call.name) else {
            continue;
        };
        known += 1;
        let schema = call.exit.schema().unwrap();
        if recipe.program as u8 == 0 {
            let more = usize::from(has_kernel_path(call.exit));
            assert_eq!(
                recipe.steps.len(),
                schema.params.len() + more,
                "{}",
                call.name
            );
        }
        assert!(recipe.steps.len() <= STEPS, "{}", call.name);
    }
    assert!(known > 130, "{known} recipes");
}

#[test]
fn calls_without_a_recipe_are_those_that_are_named() {
    let without: Vec<_> = syscall::all()
        .iter()
        .filter(|call| call.exit != EventType::GENERIC_X && recipe(call.name).is_none())
        .map(|call| call.name)
        .collect();
    assert_eq!(without, ["semop", "quotactl"]);
}

#[test]
fn tables_fit_their_map() {
    for (place, table) in Table::ALL.into_iter().enumerate() {
        assert_eq!(table as usize, place);
        assert!(lines(table).len() <= 64);
    }
}

/// What `#define NAME number` says in a C source.
fn defined(source: &str, name: &str) -> u32 {
    source
        .lines()
        .find_map(|line| {
            let rest = line.strip_prefix("#define ")?.strip_prefix(name)?;
            rest.trim().parse().ok()
        })
        .unwrap_or_else(|| panic!("no #define {name}"))
}

#[test]
fn the_probes_have_the_numbers_of_the_schema() {
    let probes = include_str!("../../../../bpf/probes.bpf.c");
    for (name, params, kind) in [
        ("PROCEXIT_1_E", "PROCEXIT_PARAMS", EventType::PROCEXIT_1_E),
        (
            "SIGNALDELIVER_E",
            "SIGNALDELIVER_PARAMS",
            EventType::SIGNALDELIVER_E,
        ),
        ("CLONE_20_X", "CLONE_PARAMS", EventType::CLONE_20_X),
        ("EXECVE_19_X", "EXECVE_PARAMS", EventType::EXECVE_19_X),
    ] {
        assert_eq!(defined(probes, name), u32::from(kind.0), "{name}");
        let schema = kind.schema().unwrap();
        assert_eq!(
            defined(probes, params) as usize,
            schema.params.len(),
            "{params}"
        );
    }
    let execveat = EventType::EXECVEAT_X.schema().unwrap();
    assert_eq!(
        defined(probes, "EXECVEAT_PARAMS") as usize,
        execveat.params.len()
    );
    let call = include_str!("../../../../bpf/call.h");
    assert_eq!(defined(call, "STEPS") as usize, STEPS);
}
