//! A real shim, real containers, a busybox root: through the door that the node uses.
//!
//! This program is its own shim: executed with `shim` as first argument it becomes one. So it has
//! no test harness but the few flags that cargo and nextest use.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/mod.rs"]
mod support;

mod cases {
    pub(crate) mod confinement;
    pub(crate) mod exec;
    pub(crate) mod life;
    pub(crate) mod measure;
    pub(crate) mod run;
}

use std::process::ExitCode;

type Case = (&'static str, fn());

/// Each test's name and body; those whose name starts with `measure` are ignored by default.
macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((
            concat!(stringify!($module), "::", stringify!($name)),
            || support::run(cases::$module::$name()),
        )),*]
    };
}

const CASES: &[Case] = cases![
    run::starts_logs_and_reports_the_exit,
    run::a_lingering_grandchild_delays_nothing,
    run::failures_are_told_in_words,
    run::mounts_user_and_environment,
    run::signals_and_terminals,
    run::stdin_and_attach,
    run::logs_rotate,
    exec::runs_beside_the_container,
    exec::with_a_terminal,
    exec::is_killed_with_its_session,
    confinement::limits_and_out_of_memory,
    confinement::capabilities_and_seccomp,
    confinement::exec_is_confined_the_same,
    confinement::a_bad_profile_fails_the_start,
    confinement::privileged_is_unconfined,
    confinement::the_program_file_is_safe,
    life::survives_its_client,
    life::killed_shims_are_cleaned_up,
    life::shutdown_leaves_nothing,
    life::sandboxes_have_namespaces_of_their_own,
    life::shared_process_namespace,
    life::host_namespaces,
    life::works_where_there_is_only_version_2,
    measure::start_and_memory,
];

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|a| a == "shim") {
        return runtime::shim_main(args[1..].to_vec());
    }
    let args: Vec<String> = args.into_iter().map(|a| a.into_string().unwrap()).collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let ignored = |name: &str| name.starts_with("measure");
    let wanted = |name: &&Case| {
        let names: Vec<_> = args
            .iter()
            .filter(|a| !a.starts_with('-') && *a != "terse")
            .collect();
        let named = names.is_empty()
            || names.iter().any(|n| {
                if has("--exact") {
                    *n == name.0
                } else {
                    name.0.contains(n.as_str())
                }
            });
        named && (has("--include-ignored") || ignored(name.0) == has("--ignored"))
    };
    for (name, body) in CASES.iter().filter(wanted) {
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        println!("test {name}");
        body(); // a panic ends the program, as nextest runs one case a process
    }
    ExitCode::SUCCESS
}
