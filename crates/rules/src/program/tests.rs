//! A program decides as its conditions read, one check after the other.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Program, Selection, atom};
use crate::condition::{Expr, parse};
use crate::event::{Event, Values};
use crate::events::{self, EventType};
use crate::fields::{Argument, FieldId, Source};
use crate::graph::{Graph, Lowering, Node, NodeId};
use crate::load::Loader;

#[derive(Clone, Debug)]
struct Random {
    kind: EventType,
    name: Option<&'static str>,
    path: Option<&'static str>,
    line: Option<&'static str>,
    ancestors: Vec<&'static str>,
    number: Option<i64>,
    ports: Vec<u64>,
    written: bool,
}

impl Event for Random {
    fn kind(&self) -> EventType {
        self.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        let text = match field {
            FieldId::ProcName => self.name,
            FieldId::FdName => self.path,
            FieldId::ProcCmdline => self.line,
            FieldId::ProcAname if *argument == Argument::None => {
                self.ancestors.iter().for_each(|name| out.text(name));
                None
            }
            FieldId::ProcAname => self.ancestors.first().copied(),
            FieldId::FdNum => {
                self.number
                    .into_iter()
                    .for_each(|number| out.signed(number));
                None
            }
            FieldId::FdPort => {
                self.ports.iter().for_each(|port| out.unsigned(*port));
                None
            }
            _ => None,
        };
        match text {
            Some(text) if self.written => {
                out.write(|store| store.extend_from_slice(text.as_bytes()))
            }
            Some(text) => out.text(text),
            None => {}
        }
    }

    fn time_ns(&self) -> u64 {
        0
    }
}

const CHECKS: &[&str] = &[
    "evt.type = open",
    "evt.type in (open, execve)",
    "evt.type != close",
    "evt.dir = <",
    "evt.num = 0",
    "evt.num > 0",
    "proc.name = bash",
    "proc.name = sh",
    "proc.name != bash",
    "proc.name in (sh, zsh, bash)",
    "proc.name in (curl)",
    "proc.name exists",
    "proc.name startswith b",
    "proc.name endswith sh",
    "proc.name > 5",
    "proc.name glob 'b*'",
    "proc.name iglob '*SH'",
    "proc.name regex '[bz].*sh'",
    "proc.name = oneof (bash, sh)",
    "proc.name startswith anyof (b, z)",
    "proc.name endswith allof (h, sh)",
    "proc.name = val(proc.cmdline)",
    "tolower(proc.name) = bash",
    "len(proc.name) > 3",
    "basename(fd.name) = val(proc.name)",
    "concat(proc.name, proc.name) = shsh",
    "fd.name startswith /etc",
    "fd.name startswith /etc/ssh",
    "fd.name startswith /",
    "fd.name startswith ''",
    "fd.name endswith /bash",
    "fd.name endswith bash",
    "fd.name contains ssh",
    "fd.name contains etc",
    "fd.name contains /",
    "fd.name contains bin",
    "fd.name contains usr/b",
    "fd.name icontains SSH",
    "fd.name pmatch (/etc, /usr/bin)",
    "fd.name pmatch (/etc/*)",
    "fd.name = /etc",
    "proc.cmdline icontains CURL",
    "proc.cmdline contains curl",
    "proc.aname = sshd",
    "proc.aname != sshd",
    "proc.aname in (init, sh)",
    "proc.aname contains s",
    "proc.aname[1] = sshd",
    "proc.aname exists",
    "fd.num > 1",
    "fd.num in (1, 2, -1)",
    "fd.num != 2",
    "fd.port = 22",
    "fd.port != 22",
    "fd.port in (80, 443)",
    "fd.port > 100",
];

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(CHECKS).prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("({})", parts.join(" and "))),
            prop::collection::vec(inner.clone(), 1..5)
                .prop_map(|parts| format!("({})", parts.join(" or "))),
            inner.prop_map(|part| format!("not ({part})")),
        ]
    })
}

fn event() -> impl Strategy<Value = Random> {
    let names = ["bash", "sh", "zsh", "curl", "", "BASH"];
    let paths = [
        "/etc",
        "/etc/ssh/sshd_config",
        "/usr/bin/bash",
        "/",
        "",
        "/ETC/SSH",
        "bash",
    ];
    let lines = ["curl x", "bash", "sh -c 'Curl'", ""];
    (
        prop::sample::select(vec!["open", "execve", "close", "procexit", "connect"]),
        prop::option::of(prop::sample::select(names.to_vec())),
        prop::option::of(prop::sample::select(paths.to_vec())),
        prop::option::of(prop::sample::select(lines.to_vec())),
        prop::collection::vec(prop::sample::select(vec!["sshd", "init", "sh"]), 0..3),
        prop::option::of(-1..4_i64),
        prop::collection::vec(prop::sample::select(vec![22_u64, 80, 443]), 0..3),
        any::<bool>(),
    )
        .prop_map(
            |(kind, name, path, line, ancestors, number, ports, written)| Random {
                kind: events::find(kind).expect("a type"),
                name,
                path,
                line,
                ancestors,
                number,
                ports,
                written,
            },
        )
}

/// Decides as the condition reads.
fn plain(expr: &Arc<Expr>, event: &Random) -> bool {
    match &**expr {
        Expr::And(children, _) => children.iter().all(|child| plain(child, event)),
        Expr::Or(children, _) => children.iter().any(|child| plain(child, event)),
        Expr::Not(child, _) => !plain(child, event),
        _ => {
            let mut graph = Graph::default();
            let lowered = Lowering::new(Source::Syscall, &mut graph).run(expr);
            let Ok(lowered) = lowered else {
                panic!("{expr:?}");
            };
            by_graph(&graph, lowered.root, event)
        }
    }
}

fn by_graph(graph: &Graph, node: NodeId, event: &Random) -> bool {
    match graph.node(node) {
        Node::Constant(truth) => *truth,
        Node::And(children) => children.iter().all(|child| by_graph(graph, *child, event)),
        Node::Or(children) => children.iter().any(|child| by_graph(graph, *child, event)),
        Node::Not(child) => !by_graph(graph, *child, event),
        Node::Atom(id) => atom::holds(&graph.subjects, graph.atom(*id), &Full(event)),
    }
}

/// The event with the fields that a program knows from its type.
struct Full<'a>(&'a Random);

impl Event for Full<'_> {
    fn kind(&self) -> EventType {
        self.0.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        let info = self.0.kind.info();
        match field {
            FieldId::EvtType => out.text(info.name),
            FieldId::SyscallType if info.sort == events::Sort::Syscall => out.text(info.name),
            FieldId::EvtDir => out.text(if info.enter { ">" } else { "<" }),
            FieldId::EvtNum => out.unsigned(1),
            _ => self.0.field(field, argument, out),
        }
    }

    fn time_ns(&self) -> u64 {
        0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_program_decides_as_its_conditions_read(
        conditions in prop::collection::vec(condition(), 1..12),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let rules: Vec<_> = conditions
            .iter()
            .enumerate()
            .map(|(at, condition)| serde_json::json!({
                "rule": format!("r{at}"), "desc": "d", "output": "o", "priority": "INFO",
                "condition": condition, "warn_evttypes": false,
            }))
            .collect();
        let mut loader = Loader::new();
        let result = loader.load("random", &serde_json::json!(rules).to_string());
        prop_assert!(result.successful(), "{}", result.verbose());
        let program = Program::new(&loader.finish(), &Selection::default());
        let mut scratch = program.scratch();
        for event in &events {
            let expected: Vec<usize> = conditions
                .iter()
                .enumerate()
                .filter(|(_, condition)| {
                    plain(&parse(condition).expect("was loaded"), event)
                })
                .map(|(at, _)| at)
                .collect();
            let mut found = Vec::new();
            program.all(Source::Syscall, event, &mut scratch, &mut found);
            prop_assert_eq!(&found, &expected, "{:?}", event);
            let first = program.first(Source::Syscall, event, &mut scratch);
            prop_assert_eq!(first, expected.first().copied());
        }
    }
}
