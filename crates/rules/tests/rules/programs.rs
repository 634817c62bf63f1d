//! Programs: what is enabled, in what order it matches, what is kept from event to event.

use rules::fields::Source;
use rules::load::{Loader, RuleSet};
use rules::program::{Action, Program, Scratch, Selection};
use rules::{Event, Priority};

use crate::Made;

fn set() -> RuleSet {
    let rule = |name: &str, priority: &str, tags: &str, enabled: bool, condition: &str| {
        format!(
            "- rule: {name}\n  desc: d\n  condition: {condition}\n  output: o\n  priority: {priority}\n  tags: [{tags}]\n  enabled: {enabled}\n"
        )
    };
    let file = [
        rule(
            "Shell in container",
            "WARNING",
            "shell, container",
            true,
            "evt.type=execve and proc.name=bash",
        ),
        rule(
            "Shell on host",
            "NOTICE",
            "shell",
            false,
            "evt.type=execve and proc.name in (bash, sh)",
        ),
        rule(
            "Anything",
            "DEBUG",
            "all",
            true,
            "evt.type in (execve, open) and proc.name exists",
        ),
        rule(
            "Network",
            "CRITICAL",
            "network",
            true,
            "evt.type=connect and fd.sport=22",
        ),
    ]
    .concat();
    let mut loader = Loader::new();
    let result = loader.load("f", &file);
    assert!(result.successful(), "{}", result.verbose());
    loader.finish()
}

fn bash() -> Made {
    Made::new("execve").with("proc.name", "bash")
}

fn matches(selection: &Selection) -> Vec<usize> {
    let program = Program::new(&set(), selection);
    let mut matches = Vec::new();
    program.all(
        Source::Syscall,
        &bash(),
        &mut program.scratch(),
        &mut matches,
    );
    matches
}

fn select(actions: &[Action]) -> Selection {
    Selection {
        actions: actions.to_vec(),
        lowest: None,
    }
}

#[test]
fn selection() {
    let name = |enable, name: &str| Action::Name(enable, name.to_owned());
    let tag = |enable, tag: &str| Action::Tag(enable, tag.to_owned());
    assert_eq!(matches(&Selection::default()), [0, 2]);
    assert_eq!(matches(&select(&[name(true, "Shell on host")])), [0, 1, 2]);
    assert_eq!(matches(&select(&[name(false, "*")])), [0_usize; 0]);
    assert_eq!(
        matches(&select(&[name(false, "*"), name(true, "Shell*")])),
        [0, 1]
    );
    assert_eq!(matches(&select(&[name(false, "*ell in*")])), [2]);
    assert_eq!(matches(&select(&[name(false, "*container")])), [2]);
    assert_eq!(matches(&select(&[name(false, "Shell")])), [0, 2]);
    assert_eq!(matches(&select(&[tag(false, "shell")])), [2]);
    assert_eq!(
        matches(&select(&[tag(true, "shell"), tag(false, "container")])),
        [1, 2]
    );
    assert_eq!(
        matches(&select(&[Action::Substring(false, "hing".into())])),
        [0]
    );
    let lowest = |lowest| Selection {
        lowest: Some(lowest),
        ..Selection::default()
    };
    assert_eq!(matches(&lowest(Priority::Warning)), [0]);
    assert_eq!(matches(&lowest(Priority::Critical)), [0_usize; 0]);
    assert_eq!(matches(&lowest(Priority::Debug)), [0, 2]);
}

#[test]
fn only_what_rules_need() {
    let program = Program::new(&set(), &Selection::default());
    let names: Vec<_> = program
        .events(Source::Syscall)
        .iter()
        .map(|event| event.name())
        .collect();
    assert_eq!(names, ["open", "execve", "connect"]);
    assert!(program.events(Source::K8sAudit).is_empty());
    let fields: Vec<_> = program
        .condition_fields(Source::Syscall)
        .iter()
        .map(|field| field.info().name)
        .collect();
    assert_eq!(fields.len(), 2, "{fields:?}");
    let mut scratch = program.scratch();
    let first =
        |event: &Made, scratch: &mut Scratch| program.first(Source::Syscall, event, scratch);
    assert_eq!(first(&bash(), &mut scratch), Some(0));
    assert_eq!(
        first(&Made::new("open").with("proc.name", "x"), &mut scratch),
        Some(2)
    );
    assert_eq!(
        first(&Made::new("connect").with("fd.sport", 22_u64), &mut scratch),
        Some(3)
    );
    assert_eq!(first(&Made::new("close"), &mut scratch), None);
    assert_eq!(program.first(Source::K8sAudit, &bash(), &mut scratch), None);
}

#[test]
fn threads_share_a_program() {
    let program = Program::new(&set(), &Selection::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut scratch = program.scratch();
                for _ in 0..1000 {
                    let first = program.first(Source::Syscall, &bash(), &mut scratch);
                    assert_eq!(first, Some(0));
                }
            });
        }
    });
}

/// An event may be of any type, known to its crate only.
#[test]
fn events_are_objects() {
    let program = Program::new(&set(), &Selection::default());
    let made = bash();
    let event: &dyn Event = &made;
    assert_eq!(
        program.first(Source::Syscall, event, &mut program.scratch()),
        Some(0)
    );
}
