//! Cases: a line of text says what happened, and an event that has the values of it.
//!
//! A line is made of parts with ` ~ ` between them. The first says what happened:
//!
//! ```text
//! exec COMMAND LINE        a program was started
//! read PATH, write PATH    a file was opened
//! move FROM TO, remove P   a file was renamed, or deleted
//! chmod MODE PATH          a mode was set, named as in evt.arg.mode
//! connect ADDRESS PORT     a connection over TCP; unix PATH: to a socket
//! mount SOURCE TARGET      something was mounted
//! kill SIGNAL NAME         a signal was sent to a process of that name
//! call TYPE                any other event
//! VERB RESOURCE NAME       in files of audit rules: a request; NAME may have a namespace before it
//! ```
//!
//! The others say more: `by COMMAND LINE` who did it, `under NAME NAME …` its ancestors from the parent
//! outward, `in pod`, `at terminal`, `user NAME UID`, `as USER` for requests, or `field=value`.

use std::collections::HashMap;
use std::net::IpAddr;

use rules::events::{self, EventType};
use rules::fields::{self, Argument, FieldId, Source, Type};
use rules::{Event, Values};

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Bool(bool),
    Address(IpAddr),
}

/// An event made of a line.
#[derive(Debug)]
pub(crate) struct Case {
    source: Source,
    kind: EventType,
    fields: HashMap<(FieldId, Argument), Vec<Value>>,
}

impl Case {
    pub(crate) fn parse(source: Source, line: &str) -> Self {
        let mut parts = line.split(" ~ ").map(str::trim);
        let what = parts.next().unwrap();
        let mut case = match source {
            Source::Syscall => Self::happened(what),
            Source::K8sAudit => Self::asked(what),
        };
        for part in parts {
            case.more(part);
        }
        case
    }

    fn new(source: Source, kind: &str) -> Self {
        let mut case = Self {
            source,
            kind: events::find(kind).unwrap_or_else(|| panic!("no event {kind}")),
            fields: HashMap::new(),
        };
        if source == Source::Syscall {
            case.set("evt.type", kind);
        }
        case
    }

    fn happened(what: &str) -> Self {
        let (action, rest) = what.split_once(' ').unwrap_or((what, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let kind = match action {
            "exec" => "execve",
            "read" | "write" => "openat",
            "move" => "renameat2",
            "remove" => "unlinkat",
            "chmod" => "fchmodat",
            "unix" => "connect",
            "call" => words[0],
            other => other,
        };
        let mut case = Self::new(Source::Syscall, kind);
        case.set_all(&[
            ("evt.rawres", "0"),
            ("evt.res", "SUCCESS"),
            ("evt.failed", "false"),
            ("user.name", "root"),
            ("user.uid", "0"),
            ("user.loginuid", "-1"),
            ("proc.tty", "0"),
            ("proc.cwd", "/root/"),
            ("proc.vpid", "4242"),
            ("proc.is_exe_upper_layer", "false"),
            ("proc.is_exe_from_memfd", "false"),
            ("container.id", "host"),
            ("container.privileged", "false"),
            ("container.host_network", "false"),
        ]);
        case.command("bash");
        case.ancestors("bash sshd systemd");
        match action {
            "exec" => {
                case.command(rest);
                case.set("proc.stdin.type", "pipe");
            }
            "read" | "write" => case.opened(rest, action == "write"),
            "move" => case.set_all(&[
                ("fs.path.source", words[0]),
                ("fs.path.target", words[1]),
                ("evt.arg.flags", "0"),
            ]),
            "remove" => case.set("fs.path.name", rest),
            "chmod" => case.set_all(&[
                ("evt.arg.mode", words[0]),
                ("evt.arg.filename", words[1]),
                ("fs.path.name", words[1]),
            ]),
            "connect" => case.connected(words[0], words[1]),
            "unix" => case.set_all(&[
                ("fd.name", rest),
                ("fd.type", "unix"),
                ("fd.typechar", "u"),
                ("fd.num", "5"),
            ]),
            "mount" => case.set_all(&[("fs.path.source", words[0]), ("fs.path.target", words[1])]),
            "kill" => case.set_all(&[("evt.arg.sig", words[0]), ("evt.arg.pid", words[1])]),
            "call" => {}
            other => panic!("what is {other}?"),
        }
        case
    }

    fn opened(&mut self, path: &str, write: bool) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let (flags, write, read) = match write {
            true => ("O_TRUNC|O_CREAT|O_WRONLY|O_F_CREATED", "true", "false"),
            false => ("O_RDONLY", "false", "true"),
        };
        self.set_all(&[
            ("fd.name", path),
            ("fd.nameraw", path),
            ("fd.directory", folder),
            ("fd.filename", name),
            ("fd.num", "3"),
            ("fd.type", "file"),
            ("fd.typechar", "f"),
            ("evt.arg.flags", flags),
            ("evt.is_open_write", write),
            ("evt.is_open_read", read),
        ]);
    }

    fn connected(&mut self, address: &str, port: &str) {
        let v6 = address.contains(':');
        self.set_all(&[
            ("fd.name", &format!("10.42.0.5:40000->{address}:{port}")),
            ("fd.num", "5"),
            ("fd.type", if v6 { "ipv6" } else { "ipv4" }),
            ("fd.typechar", if v6 { "6" } else { "4" }),
            ("fd.l4proto", "tcp"),
            ("fd.sip", address),
            ("fd.snet", address),
            ("fd.rip", address),
            ("fd.sport", port),
            ("fd.rport", port),
        ]);
    }

    fn asked(what: &str) -> Self {
        let mut words = what.split(' ');
        let (verb, resource) = (words.next().unwrap(), words.next().unwrap());
        let name = words.next().unwrap_or_default();
        let mut case = Self::new(Source::K8sAudit, "pluginevent");
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        let session = matches!(part, "exec" | "attach" | "portforward");
        let (stage, code) = match (session, verb) {
            (true, _) => ("ResponseStarted", "101"),
            (false, "create") => ("ResponseComplete", "201"),
            (false, _) => ("ResponseComplete", "200"),
        };
        case.set_all(&[
            ("ka.verb", verb),
            ("ka.target.resource", resource),
            ("ka.stage", stage),
            ("ka.response.code", code),
            ("ka.useragent", "kubectl/v1.34.0 (linux/amd64)"),
            ("ka.sourceips", "192.0.2.7"),
            ("ka.uri", &format!("/api/v1/{resource}")),
        ]);
        case.user("alice");
        if !part.is_empty() {
            case.set("ka.target.subresource", part);
        }
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        for (field, value) in [("ka.target.namespace", namespace), ("ka.target.name", name)] {
            if !value.is_empty() {
                case.set(field, value);
            }
        }
        case
    }

    fn user(&mut self, name: &str) {
        self.set("ka.user.name", name);
        let group = match name {
            "system:anonymous" => "system:unauthenticated",
            _ => "system:authenticated",
        };
        self.set("ka.user.groups", group);
    }

    fn more(&mut self, part: &str) {
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        match word {
            "by" => self.command(rest),
            "under" => self.ancestors(rest),
            "in" if rest == "pod" => {
                self.set_all(&[
                    ("container.id", "0123456789ab"),
                    ("container.name", "web"),
                    ("container.image.repository", "registry.example/web"),
                    ("k8s.pod.name", "web-0"),
                    ("k8s.ns.name", "shop"),
                    ("proc.cwd", "/"),
                ]);
                if self.text("proc.aname[3]") == Some("systemd") {
                    self.ancestors("sh knarr-shim");
                }
            }
            "at" if rest == "terminal" => self.set("proc.tty", "34816"),
            "user" => {
                let (name, uid) = rest.split_once(' ').unwrap();
                self.set_all(&[("user.name", name), ("user.uid", uid)]);
            }
            "as" => self.user(rest),
            _ => {
                let (field, value) = part.split_once('=').unwrap_or_else(|| panic!("{part}?"));
                self.set(field, value);
            }
        }
    }

    /// Who does it, by its command line.
    fn command(&mut self, line: &str) {
        let (exe, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let whole_name = exe.rsplit('/').next().unwrap();
        // As the kernel has it.
        let name = &whole_name[..whole_name.len().min(15)];
        let path = match exe.starts_with('/') {
            true => exe.to_owned(),
            false => format!("/usr/bin/{exe}"),
        };
        let count = arguments.split_whitespace().count().to_string();
        self.set_all(&[
            ("proc.exe", exe),
            ("proc.name", name),
            ("proc.exepath", &path),
            ("proc.args", arguments),
            ("proc.cmdnargs", &count),
            ("proc.cmdline", format!("{name} {arguments}").trim_end()),
        ]);
    }

    fn ancestors(&mut self, names: &str) {
        self.fields
            .retain(|(field, _), _| *field != FieldId::ProcAname);
        for (level, name) in names.split(' ').enumerate() {
            self.set(&format!("proc.aname[{}]", level + 1), name);
        }
        self.set("proc.pname", names.split(' ').next().unwrap());
        let all = names.split(' ').map(|name| Value::Text(name.into()));
        self.fields
            .insert((FieldId::ProcAname, Argument::None), all.collect());
    }

    fn set_all(&mut self, fields: &[(&str, &str)]) {
        for (field, value) in fields {
            self.set(field, value);
        }
    }

    fn key(&self, field: &str) -> fields::FieldRef {
        let (name, argument) = match field.split_once('[') {
            Some((name, rest)) => (name, rest.strip_suffix(']')),
            None => (field, None),
        };
        fields::resolve(self.source, name, argument).unwrap_or_else(|error| panic!("{error}"))
    }

    fn text(&self, field: &str) -> Option<&str> {
        let field = self.key(field);
        match self.fields.get(&(field.id, field.argument))?.first()? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Sets a field, whatever it was; a list by values with `, ` between them; nothing with `-`.
    fn set(&mut self, field: &str, value: &str) {
        let field = self.key(field);
        let one = |value: &str| match field.kind {
            Type::Bool => Value::Bool(value.parse().unwrap()),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::Port | Type::RelTime => {
                Value::Unsigned(value.parse().unwrap())
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Signed(value.parse().unwrap()),
            Type::IpAddr | Type::IpNet => Value::Address(value.parse().unwrap()),
            _ => Value::Text(value.to_owned()),
        };
        let values = match (value, field.info().is_list()) {
            ("-", _) => vec![],
            (_, true) => value.split(", ").map(one).collect(),
            (_, false) => vec![one(value)],
        };
        self.fields.insert((field.id, field.argument), values);
    }
}

impl Event for Case {
    fn kind(&self) -> EventType {
        self.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        let values = self.fields.get(&(field, argument.clone()));
        for value in values.into_iter().flatten() {
            match value {
                Value::Text(text) => out.text(text),
                Value::Unsigned(number) => out.unsigned(*number),
                Value::Signed(number) => out.signed(*number),
                Value::Bool(truth) => out.boolean(*truth),
                Value::Address(address) => out.address(*address),
            }
        }
    }

    fn time_ns(&self) -> u64 {
        1_700_000_000_000_000_000
    }
}
