//! Upstream's rules over what really happens here: a program does what a rule is about, and its alert
//! comes out, with what it should say. And again from a recording of the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detect::command::{RecordOptions, record};
use detect::engine::{
    Control, Engine, LiveOptions, Loaded, RuleOptions, RunError, live, load_rules, replay,
};
use detect::fields::Host;
use detect::outputs::{Message, Output, OutputError, Outputs};
use detect::probes::LoadError;
use detect::process::Table;
use rules::program::{Action, Matching, Selection};

/// Upstream's rule files: `KNARR_UPSTREAM`, or the `upstream` folder of the shared place.
fn upstream() -> Option<Arc<Loaded>> {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from)
        .join("falco-rules");
    let names = [
        "falco_rules.yaml",
        "falco-incubating_rules.yaml",
        "falco-sandbox_rules.yaml",
    ];
    let files: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        println!("SKIPPED: no {}; set KNARR_UPSTREAM", missing.display());
        return None;
    }
    let options = RuleOptions {
        files,
        // Some of upstream's are off at first.
        selection: Selection {
            actions: vec![Action::Substring(true, String::new())],
            lowest: None,
        },
        matching: Matching::All,
        ..RuleOptions::default()
    };
    Some(Arc::new(
        load_rules(&options).expect("upstream's rules load"),
    ))
}

struct Kept(Arc<Mutex<Vec<Message>>>);

impl Output for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }
}

fn engine(rules: &Arc<Loaded>, host: Host) -> (Engine, Arc<Mutex<Vec<Message>>>) {
    let kept = Arc::default();
    let mut outputs = Outputs::new();
    outputs.add(Box::new(Kept(Arc::clone(&kept))), 0).unwrap();
    let engine = Engine::new(Arc::clone(rules), host, Table::default(), outputs);
    (engine, kept)
}

/// One test at a time: what one does would alert in the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `act` makes the rules say; nothing where there are no probes.
fn watch(rules: &Arc<Loaded>, act: impl FnOnce() + Send) -> Option<Vec<Message>> {
    let (mut engine, kept) = engine(rules, Host::of_this_machine());
    let control = Control::default();
    let (ready, wait) = std::sync::mpsc::channel();
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let options = LiveOptions {
                purge: Some(Duration::from_secs(1000)),
                ..LiveOptions::default()
            };
            // The first look is a second after the probes are there.
            let look = |_: &Engine, _| {
                let _nobody_waits_twice = ready.send(());
            };
            live(&mut engine, &options, &control, None, || None, look)
        });
        let began = wait.recv_timeout(Duration::from_secs(30)).is_ok();
        if began {
            act();
            std::thread::sleep(Duration::from_millis(300));
        }
        control.stop();
        running.join().expect("the run ends")
    });
    match ended {
        Ok(_) => {}
        Err(RunError::Probes(error @ (LoadError::Denied(_) | LoadError::NoBtf(_)))) => {
            println!("SKIPPED: {error}");
            return None;
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
    engine.outputs.finish();
    let said = kept.lock().unwrap().clone();
    Some(said)
}

fn shell(script: &str, folder: &Path) {
    let status = Command::new("/bin/bash")
        .args(["-c", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("bash");
    println!("{script}: {status}");
}

#[track_caller]
fn expect(said: &[Message], rule: &str, parts: &[&str]) {
    let of_rule: Vec<_> = said.iter().filter(|message| message.rule == rule).collect();
    assert!(
        of_rule
            .iter()
            .any(|message| parts.iter().all(|part| message.line.contains(part))),
        "no alert of {rule:?} with {parts:?}, but {of_rule:#?}\nand {:?}",
        said.iter().map(|message| &message.rule).collect::<Vec<_>>()
    );
}

/// What is done, and which rules of upstream's it is about.
fn provoke(folder: &Path) {
    let sh = |script: &str| shell(script, folder);
    sh("cat /etc/shadow");
    sh("find . -name id_rsa");
    sh("grep -r 'BEGIN RSA PRIVATE' .");
    sh("ln -s /etc/shadow link");
    sh("ln /etc/shadow hard && rm hard");
    sh("echo x > /dev/shm/knarr-test && rm /dev/shm/knarr-test");
    sh("cp /bin/true /dev/shm/knarr-run && /dev/shm/knarr-run; rm -f /dev/shm/knarr-run");
    sh("echo x > .bash_history; : > .bash_history");
    sh("echo rm > x.log; shred -u x.log");
    // Below /etc of a file system of its own, so that this machine keeps its own.
    sh("unshare -m sh -c 'mount -t tmpfs none /etc && echo a > /etc/knarr-test'");
    sh("unshare -m sh -c 'mount -t tmpfs none /usr/bin && echo a > /usr/bin/knarr-test'");
    sh("unshare -m sh -c 'mount -t tmpfs none /root && echo a > /root/knarr-test'");
    crate::act::run("reverse-shell");
    crate::act::run("memfd");
    crate::act::run("ptrace");
    sh("echo a | base64 -d");
    sh("nc -h; tcpdump --version");
}

#[test]
fn upstreams_rules_see_what_is_done_here() {
    let Some(rules) = upstream() else { return };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let Some(said) = watch(&rules, || provoke(folder.path())) else {
        return;
    };
    for message in &said {
        println!("{}", message.line);
    }
    expect(
        &said,
        "Read sensitive file untrusted",
        &[
            "Warning Sensitive file opened for reading by non-trusted program",
            "file=/etc/shadow",
            "evt_type=openat",
            "user=root user_uid=0",
            "process=cat proc_exepath=/usr/bin/cat parent=it-",
            "command=cat /etc/shadow terminal=",
        ],
    );
    expect(
        &said,
        "Search Private Keys or Passwords",
        &[
            "evt_type=execve",
            "process=find",
            "command=find . -name id_rsa",
        ],
    );
    expect(
        &said,
        "Search Private Keys or Passwords",
        &["process=grep", "command=grep -r BEGIN RSA PRIVATE ."],
    );
    expect(
        &said,
        "Create Symlink Over Sensitive Files",
        &["target=/etc/shadow", "linkpath=", "/link"],
    );
    expect(
        &said,
        "Create Hardlink Over Sensitive Files",
        &["target=/etc/shadow", "linkpath=", "/hard"],
    );
    expect(
        &said,
        "Execution from /dev/shm",
        &["evt_type=execve", "proc_exepath=/dev/shm/knarr-run"],
    );
    expect(&said, "Write below etc", &["file=/etc/knarr-test"]);
    expect(
        &said,
        "Write below binary dir",
        &["file=/usr/bin/knarr-test"],
    );
    expect(&said, "Write below root", &["file=/root/knarr-test"]);
    expect(
        &said,
        "Fileless execution via memfd_create",
        &["proc_exepath=memfd:hidden", "EXE_FROM_MEMFD"],
    );
    expect(&said, "Delete or rename shell history", &[".bash_history"]);
    expect(
        &said,
        "Remove Bulk Data from Disk",
        &["command=shred -u x.log"],
    );
    expect(&said, "PTRACE attached to process", &["evt_type=ptrace"]);
}

#[test]
fn a_recording_says_what_the_live_run_said() {
    let Some(rules) = upstream() else { return };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.scap");
    let control = Control::default();
    let options = RecordOptions {
        path: path.clone(),
        compress: true,
        rules: Some(Arc::clone(&rules)),
        ..RecordOptions::default()
    };
    let mut live = None;
    let recorded = std::thread::scope(|scope| {
        let recorder = scope.spawn(|| record(&options, &control));
        // The recorder's probes are there once something is in its file.
        let until = Instant::now() + Duration::from_secs(20);
        let begun = || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        while !begun() && !recorder.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        live = watch(&rules, || provoke(folder.path()));
        control.stop();
        recorder.join().expect("the recorder ends")
    });
    let Some(live) = live else { return };
    let recorded = recorded.expect("a recording");
    assert!(recorded.events > 1000, "{recorded:?}");
    let (mut engine, kept) = engine(&rules, Host::of_capture());
    let file = std::fs::File::open(&path).unwrap();
    let report = replay(&mut engine, file, &Control::default()).expect("the capture is read");
    assert_eq!(report.events, recorded.events);
    engine.outputs.finish();
    let replayed = kept.lock().unwrap().clone();
    let key = |message: &Message| (message.rule.clone(), message.line.clone().split_off(18));
    let mut replayed: Vec<_> = replayed.iter().map(key).collect();
    let mut missing = Vec::new();
    // A program that was run by another thread than the first: only /proc knows its session, and a
    // recording has none.
    let comparable = |message: &&Message| !message.rule.starts_with("Fileless");
    for said in live.iter().filter(comparable).map(key) {
        match replayed.iter().position(|other| *other == said) {
            Some(place) => drop(replayed.swap_remove(place)),
            None => missing.push(said),
        }
    }
    if recorded.lost > 0 {
        println!("SKIPPED: the machine was too busy: {recorded:?}");
        return;
    }
    // What happened elsewhere on this machine before and after the live run does not count.
    assert!(missing.is_empty(), "{missing:#?}\nleft {replayed:#?}");
}
