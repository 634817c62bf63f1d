//! How many events a second are decided about.
//!
//! `cargo test --release -p rules --test rules measure -- --ignored --nocapture`

use std::time::Instant;

use rules::events::{self, EventType};
use rules::fields::{Argument, FieldId, Source};
use rules::load::Loader;
use rules::program::{Program, Selection};
use rules::{Event, Values};

/// An event that is asked as a real one would be: by a jump over the field's number.
struct Fast {
    kind: EventType,
    name: &'static str,
    exepath: &'static str,
    cmdline: String,
    args: &'static str,
    pname: &'static str,
    fd_name: String,
    container: &'static str,
    write: bool,
    flags: &'static str,
    tty: u64,
}

impl Event for Fast {
    fn kind(&self) -> EventType {
        self.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        match field {
            FieldId::ProcName => out.text(self.name),
            FieldId::ProcExe | FieldId::ProcExepath => out.text(self.exepath),
            FieldId::ProcCmdline => out.text(&self.cmdline),
            FieldId::ProcArgs => out.text(self.args),
            FieldId::ProcPname | FieldId::ProcSname => out.text(self.pname),
            FieldId::ProcPcmdline => out.text("systemd --user"),
            FieldId::ProcAname => match argument {
                Argument::Index(_) => out.text(self.pname),
                _ => {
                    out.text(self.pname);
                    out.text("containerd-shim");
                    out.text("systemd");
                }
            },
            FieldId::FdName | FieldId::FsPathName => out.text(&self.fd_name),
            FieldId::FdDirectory => out.text("/usr/lib/x86_64-linux-gnu"),
            FieldId::FdFilename => out.text("libc.so.6"),
            FieldId::FdTypechar => out.text("f"),
            FieldId::FdType => out.text("file"),
            FieldId::FdNum | FieldId::EvtRawres => out.signed(3),
            FieldId::ProcTty => out.unsigned(self.tty),
            FieldId::ContainerId => out.text(self.container),
            FieldId::ContainerImageRepository => out.text("docker.io/library/nginx"),
            FieldId::EvtIsOpenWrite => out.boolean(self.write),
            FieldId::EvtIsOpenRead => out.boolean(!self.write),
            FieldId::EvtIsOpenExec | FieldId::EvtFailed => out.boolean(false),
            FieldId::EvtArg => out.text(self.flags),
            FieldId::UserName => out.text("root"),
            FieldId::UserUid => out.unsigned(0),
            FieldId::UserLoginuid => out.signed(-1),
            FieldId::ProcIsExeUpperLayer | FieldId::ProcIsExeFromMemfd => out.boolean(false),
            FieldId::FdSip | FieldId::FdCip | FieldId::FdRip | FieldId::FdSnet => {
                out.address("10.1.2.3".parse().unwrap_or([0; 4].into()));
            }
            FieldId::FdSport | FieldId::FdRport => out.unsigned(443),
            FieldId::FdL4proto => out.text("tcp"),
            _ => {}
        }
    }

    fn time_ns(&self) -> u64 {
        0
    }
}

fn event(kind: &str) -> Fast {
    Fast {
        kind: events::find(kind).unwrap(),
        name: "nginx",
        exepath: "/usr/sbin/nginx",
        cmdline: "nginx -g daemon off; --with-some --more-arguments=that --make-it=longer".into(),
        args: "-g daemon off; --with-some --more-arguments=that --make-it=longer",
        pname: "containerd-shim",
        fd_name: "/usr/lib/x86_64-linux-gnu/libc.so.6".into(),
        container: "3ad7b26ded6d",
        write: false,
        flags: "O_RDONLY|O_CLOEXEC",
        tty: 0,
    }
}

#[test]
#[ignore = "a measure, not a test"]
fn measure() {
    let mut loader = Loader::new();
    for file in [
        "falco_rules.yaml",
        "falco-incubating_rules.yaml",
        "falco-sandbox_rules.yaml",
    ] {
        let Some(text) = crate::upstream::upstream(file) else {
            return;
        };
        assert!(loader.load(file, &text).successful());
    }
    let set = loader.finish();
    let all = Selection {
        actions: vec![rules::program::Action::Name(true, "*".into())],
        lowest: None,
    };
    let start = Instant::now();
    let program = Program::new(&set, &all);
    println!(
        "program of {} rules in {:?}",
        program.rules().len(),
        start.elapsed()
    );
    let mut scratch = program.scratch();
    let mut one = |name: &str, events: &[Fast]| {
        let count = 2_000_000_u32;
        for event in events {
            program.first(Source::Syscall, event, &mut scratch);
        }
        let start = Instant::now();
        let mut matched = 0;
        for event in events.iter().cycle().take(count as usize) {
            let first = program.first(Source::Syscall, event, &mut scratch);
            matched += u32::from(first.is_some());
        }
        let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / f64::from(count);
        let millions = 1000.0 / nanoseconds;
        println!(
            "{name}: {nanoseconds:.0} ns an event, {millions:.2} million a second, {matched} matched"
        );
    };
    let mix = "openat openat openat openat close read connect execve openat fstat";
    let mix: Vec<Fast> = mix.split(' ').map(event).collect();
    one("mix", &mix);
    for kind in [
        "openat", "execve", "connect", "close", "unlink", "sendto", "rename",
    ] {
        one(kind, &[event(kind)]);
    }
    let mut write = event("openat");
    write.write = true;
    write.flags = "O_WRONLY|O_CREAT|O_TRUNC";
    write.fd_name = "/var/log/app/access.log".into();
    one("openat to write", &[write]);
}
