//! Upstream's rules, where those are at hand.

use std::path::PathBuf;

use rules::events;
use rules::load::{LoadResult, Loader, RuleSet};
use rules::program::{Action, Program, Selection};

const FILES: [(&str, usize); 3] = [
    ("falco_rules.yaml", 25),
    ("falco-incubating_rules.yaml", 31),
    ("falco-sandbox_rules.yaml", 37),
];

/// Upstream's published data: `KNARR_UPSTREAM`, or the `upstream` folder of the shared place.
pub(crate) fn upstream(file: &str) -> Option<String> {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from);
    let path = folder.join("falco-rules").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(_) => {
            println!("SKIPPED: no {}; set KNARR_UPSTREAM", path.display());
            None
        }
    }
}

fn clean(result: &LoadResult) {
    assert!(
        result.successful() && result.warnings.is_empty(),
        "{}",
        result.verbose()
    );
}

fn all() -> Option<RuleSet> {
    let mut loader = Loader::new();
    for (file, _) in FILES {
        clean(&loader.load(file, &upstream(file)?));
    }
    Some(loader.finish())
}

#[test]
fn files_load_apart_and_together() {
    let mut sum = 0;
    for (file, count) in FILES {
        let Some(text) = upstream(file) else { return };
        let mut loader = Loader::new();
        clean(&loader.load(file, &text));
        assert_eq!(loader.finish().rules().len(), count, "{file}");
        sum += count;
    }
    let set = all().unwrap();
    assert_eq!((set.rules().len(), sum), (93, 93));
    // Each in any order, since none needs another.
    let mut loader = Loader::new();
    for (file, _) in FILES.iter().rev() {
        clean(&loader.load(file, &upstream(file).unwrap()));
    }
    assert_eq!(loader.finish().rules().len(), 93);
}

#[test]
fn rules_match_the_types_of_events_that_they_name() {
    let Some(set) = all() else { return };
    let opens = "open openat openat2";
    let removes = "rename renameat renameat2 rmdir unlink unlinkat";
    let expected = |name: &str| {
        Some(match name {
            "Directory traversal monitored file read"
            | "Read sensitive file trusted after startup"
            | "Read sensitive file untrusted"
            | "Clear Log Activities"
            | "Detect release_agent File Container Escapes"
            | "Modify Shell Configuration File"
            | "Read ssh information"
            | "Write below etc"
            | "Write below root" => opens.to_owned(),
            "Schedule Cron Jobs" => format!("execve execveat {opens}"),
            "Create files below dev" | "Container Drift Detected (open+create)" => {
                format!("creat {opens}")
            }
            "Create Symlink Over Sensitive Files" => "symlink symlinkat".into(),
            "Create Hardlink Over Sensitive Files" => "link linkat".into(),
            "Packet socket created in container" => "socket".into(),
            "Redirect STDOUT/STDIN to Network Connection in Container" => "dup dup2 dup3".into(),
            "Linux Kernel Module Injection Detected" => "finit_module init_module".into(),
            "PTRACE attached to process" | "PTRACE anti-debug attempt" => "ptrace".into(),
            "Disallowed SSH Connection Non Standard Port" => "connect sendmsg sendto".into(),
            "System procs network activity" => "accept accept4 connect listen".into(),
            "Unexpected inbound connection source" => {
                "accept accept4 listen recvfrom recvmsg".into()
            }
            "Delete or rename shell history" | "Update Package Repository" => {
                format!("{opens} {removes}")
            }
            "Modify binary dirs" => removes.into(),
            "Mkdir binary dirs" => "mkdir mkdirat".into(),
            "Set Setuid or Setgid bit" => "chmod fchmod fchmodat".into(),
            "BPF Program Not Profiled" => "bpf".into(),
            "Non sudo setuid" => "setuid".into(),
            "Change thread namespace" => "setns".into(),
            "Java Process Class File Download" => "recvfrom".into(),
            "Run shell untrusted"
            | "Terminal shell in container"
            | "Container Run as Root User" => "execve execveat".into(),
            _ => return None,
        })
    };
    let mut checked = 0;
    for rule in set.rules() {
        assert!(!rule.events.is_empty(), "{}", rule.name);
        assert!(rule.events.len() < 12, "{}", rule.name);
        let Some(expected) = expected(&rule.name) else {
            continue;
        };
        let mut names: Vec<_> = rule.events.iter().map(events::EventType::name).collect();
        names.sort_unstable();
        let mut expected: Vec<_> = expected.split(' ').collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "{}", rule.name);
        checked += 1;
    }
    assert_eq!(checked, 34);
}

#[test]
fn all_compile_into_one_program() {
    let Some(set) = all() else { return };
    let everything = Selection {
        actions: vec![Action::Name(true, "*".into())],
        lowest: None,
    };
    let program = Program::new(&set, &everything);
    let fields = program.condition_fields(rules::fields::Source::Syscall);
    assert!(fields.iter().any(|field| field.info().name == "proc.name"));
    // What depends on the type of an event is settled beforehand.
    assert!(
        fields
            .iter()
            .all(|field| !matches!(field.info().name, "evt.type" | "evt.dir" | "evt.num"))
    );
    assert!(set.describe()["rules"].as_array().unwrap().len() == 93);
}

#[test]
fn audit_rules_load() {
    let Some(text) = upstream("k8s_audit_rules.yaml") else {
        return;
    };
    let mut loader = Loader::new();
    let result = loader.load("k8s_audit_rules.yaml", &text);
    assert!(result.successful(), "{}", result.verbose());
    println!("{}", result.summary());
    let set = loader.finish();
    assert!(set.rules().len() > 25, "{}", set.rules().len());
    Program::new(&set, &Selection::default());
}

mod matches {
    //! What some of the rules are about, done and not done.

    use rules::fields::Source;
    use rules::program::{Program, Selection};

    use super::all;
    use crate::Made;

    fn names(event: &Made) -> Vec<String> {
        let Some(set) = all() else { return vec![] };
        let everything = Selection {
            actions: vec![rules::program::Action::Name(true, "*".into())],
            lowest: None,
        };
        let program = Program::new(&set, &everything);
        let mut matches = Vec::new();
        program.all(Source::Syscall, event, &mut program.scratch(), &mut matches);
        let rules = program.rules();
        matches
            .into_iter()
            .map(|at| rules[at].name.clone())
            .collect()
    }

    fn opened(path: &str, write: bool) -> Made {
        let (directory, file) = path.rsplit_once('/').unwrap();
        Made::new("openat")
            .with("evt.is_open_write", write)
            .with("evt.is_open_read", !write)
            .with("fd.num", 3_i64)
            .with("fd.typechar", "f")
            .with("fd.name", path)
            .with("fd.directory", directory)
            .with("fd.filename", file)
            .with("proc.name", "cat")
            .with("proc.cmdline", "cat x")
            .with("proc.pname", "bash")
            .with("container.id", "host")
    }

    #[test]
    fn reading_shadow() {
        if all().is_none() {
            return;
        }
        let found = names(&opened("/etc/shadow", false));
        assert_eq!(found, ["Read sensitive file untrusted"]);
        let trusted = names(&opened("/etc/shadow", false).with("proc.aname[2]", "x"));
        assert_eq!(trusted, ["Read sensitive file untrusted"]);
        assert_eq!(names(&opened("/etc/hosts", false)), Vec::<String>::new());
    }

    #[test]
    fn writing_below_etc() {
        if all().is_none() {
            return;
        }
        let found = names(&opened("/etc/passwd", true));
        assert!(found.contains(&"Write below etc".to_owned()), "{found:?}");
        let found = names(&opened("/tmp/passwd", true));
        assert!(!found.contains(&"Write below etc".to_owned()), "{found:?}");
    }

    #[test]
    fn a_shell_in_a_container() {
        if all().is_none() {
            return;
        }
        let shell = || {
            Made::new("execve")
                .with("container.id", "0123456789ab")
                .with("proc.name", "bash")
                .with("proc.exepath", "/bin/bash")
                .with("proc.cmdline", "bash -i")
                .with("proc.pname", "runc")
                .with("proc.tty", 34816_u64)
                .with("user.uid", 0_u64)
        };
        let found = names(&shell().with("container.image.repository", "nginx"));
        assert!(
            found.contains(&"Terminal shell in container".to_owned()),
            "{found:?}"
        );
    }
}
