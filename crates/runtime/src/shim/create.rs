//! Making and starting a container with libcontainer, in a helper process.
//!
//! Invariant: when this reports a pid, the container's program runs, in its cgroup, with its limits,
//! privileges and filter; when it reports an error, nothing of the container is left running.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSliceMut, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sys::cgroup::{Cgroup, Limits, View};

use super::devices::devices;
use super::helper::Complaint;
use super::oci::{self, Host};
use super::process::{self, Process, ProcessError};
use super::trace;
use crate::caps::{self, Privileges};
use crate::error::Refusal;
use crate::seccomp::Filters;
use crate::spec::{ContainerSpec, Propagation, Resources, SandboxSpec, Seccomp};
use crate::wire::Refused;

/// What a helper that makes a container is given.
pub(crate) struct Create<'a> {
    pub(crate) sandbox: &'a SandboxSpec,
    pub(crate) spec: &'a ContainerSpec,
    /// `DIR/<container>`.
    pub(crate) dir: &'a Path,
    pub(crate) shm: PathBuf,
    pub(crate) pid_namespace: Option<PathBuf>,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) hostname: String,
    /// None with a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
}

pub(crate) fn host(error: impl std::error::Error) -> Refused {
    Refused::new(Refusal::Host, chain(&error))
}

/// The error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The kernel-side form of limits, without devices.
pub(crate) fn limits(resources: &Resources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota_us: resources.cpu_quota_us,
        cpu_period_us: resources.cpu_period_us,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        memory_limit_bytes: resources.memory_limit_bytes,
        oom_kill_group: false,
        pids_limit: resources.pids_limit,
        devices: None,
    }
}

/// The privileges and filters of a container's processes.
pub(crate) fn confinement(spec: &ContainerSpec) -> Result<(Privileges, Filters), Refused> {
    let own = caps::permitted().map_err(host)?;
    let privileges = Privileges::resolve(
        &spec.capabilities,
        spec.privileged,
        spec.no_new_privileges,
        own,
    )
    .map_err(|name| Refused::new(Refusal::Invalid, format!("unknown capability {name:?}")))?;
    let wanted = if spec.privileged {
        &Seccomp::Unconfined
    } else {
        &spec.seccomp
    };
    let filters = Filters::prepare(wanted, privileges.granted)
        .map_err(|e| Refused::new(Refusal::Invalid, chain(&e)))?;
    Ok((privileges, filters))
}

/// Runs in the helper.
pub(crate) fn create(mut job: Create<'_>) -> Result<(Pid, Option<OwnedFd>), Refused> {
    let (privileges, filters) = confinement(job.spec)?;
    let (devices, rules) = devices(job.spec)?;
    job.cgroup.create().map_err(host)?;
    let mut limits = limits(&job.spec.resources);
    limits.oom_kill_group = true;
    limits.devices = (!job.spec.privileged).then_some(rules);
    job.cgroup.apply(&limits).map_err(host)?;
    if let Some(score) = job.spec.resources.oom_score_adj {
        process::set_oom_score_adj(score);
    }
    // Hierarchies that libcontainer does not know; they charge this helper nothing.
    job.cgroup
        .add_where_uncontrolled(std::process::id())
        .map_err(host)?;

    let host_facts = Host {
        pid_namespace: job.pid_namespace.take(),
        shm: job.shm.clone(),
        cgroup_path: job.cgroup.path().to_owned(),
        devices,
    };
    let config = oci::config(job.sandbox, job.spec, &host_facts);
    fs::write(job.dir.join("config.json"), config.to_string()).map_err(host)?;
    let complaint = Complaint::new().map_err(host)?;
    let program = Program {
        process: Rc::new(RefCell::new(Process {
            argv: job.spec.argv.clone(),
            env: process::environment(&job.spec.env, &[], &job.hostname, job.spec.tty),
            cwd: job.spec.cwd.clone().into(),
            user: job.spec.user.clone(),
            privileges,
            filters,
            rlimits: job.spec.rlimits.clone(),
        })),
        program: Rc::default(),
        cgroups: cgroup_views(job.spec, job.cgroup),
        cgroups_writable: job.spec.privileged,
        propagation: job
            .spec
            .mounts
            .iter()
            .map(|m| (m.destination.clone(), m.propagation))
            .collect(),
        complaint: Rc::new(complaint.writer.try_clone().map_err(host)?),
    };
    let made = build(&mut job, program);
    let said = match &made {
        Ok(_) => complaint.wait(),
        Err(_) => {
            kill_others(job.cgroup);
            complaint.wait()
        }
    };
    match (made, said) {
        (Ok((pid, terminal)), None) => Ok((pid, terminal)),
        (Ok((pid, _)), Some(text)) => {
            reap(pid);
            Err(Refused::new(Refusal::Program, text))
        }
        (Err(_), Some(text)) => Err(Refused::new(Refusal::Program, text)),
        (Err(refused), None) => Err(refused),
    }
}

fn build(job: &mut Create<'_>, program: Program) -> Result<(Pid, Option<OwnedFd>), Refused> {
    let trouble = trace::Trouble::capture().map_err(host)?;
    let describe = |error: &libcontainer::error::LibcontainerError| {
        let mut text = chain(error);
        let seen = trouble.seen();
        if !seen.is_empty() {
            text = format!("{text} ({seen})");
        }
        Refused::new(Refusal::Host, text)
    };
    let state = job.dir.join("oci");
    fs::create_dir(&state).map_err(host)?;
    let mut builder = ContainerBuilder::new(job.spec.id.clone(), SyscallType::default())
        .with_executor(program)
        .with_root_path(&state)
        .map_err(|e| describe(&e))?;
    let mut console = None;
    if let Some([stdin, stdout, stderr]) = job.stdio.take() {
        builder = builder
            .with_stdin(stdin)
            .with_stdout(stdout)
            .with_stderr(stderr);
    } else {
        let path = job.dir.join("console.sock");
        console = Some(listen(&path).map_err(host)?);
        builder = builder.with_console_socket(Some(path));
    }
    let mut container = builder
        .as_init(job.dir)
        .with_systemd(false)
        .build()
        .map_err(|e| describe(&e))?;
    let pid = container.pid().map_or(0, |pid| pid.as_raw());
    // libcontainer has moved it where controllers are; this adds the hierarchies that have none.
    job.cgroup
        .add_where_uncontrolled(pid.cast_unsigned())
        .map_err(host)?;
    let terminal = console
        .map(|listener| receive_terminal(&listener))
        .transpose()
        .map_err(host)?;
    container.start().map_err(|e| describe(&e))?;
    let _ = fs::remove_dir_all(&state);
    let _ = fs::remove_file(job.dir.join("console.sock"));
    Ok((Pid::from_raw(pid), terminal))
}

/// The pipe that the shim reads must not stay open in a half-made container.
fn kill_others(cgroup: &Cgroup) {
    for pid in cgroup
        .pids()
        .into_iter()
        .filter(|pid| *pid != std::process::id())
    {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

fn reap(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// A socket for the console; bound by a short name, since a socket's path is limited to 108 bytes.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let dir = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// libcontainer's init has sent the terminal's master before it was ready, so nothing blocks here.
fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    let (stream, _) = listener.accept()?;
    let mut buffer = [0u8; 256];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// What libcontainer calls in the container's first process.
#[derive(Clone)]
struct Program {
    process: Rc<RefCell<Process>>,
    program: Rc<RefCell<PathBuf>>,
    cgroups: Vec<View>,
    cgroups_writable: bool,
    propagation: Vec<(PathBuf, Propagation)>,
    complaint: Rc<std::io::PipeWriter>,
}

impl Program {
    fn complain(&self, text: &str) {
        let _ = (&*self.complaint).write_all(text.as_bytes());
    }

    fn check(&self) -> Result<(), ProcessError> {
        mount_cgroups(&self.cgroups, self.cgroups_writable).map_err(ProcessError::Cgroups)?;
        // libcontainer's bind mounts ignore propagation: all are what the root's is.
        for (path, propagation) in &self.propagation {
            let kind = match propagation {
                Propagation::None => MsFlags::MS_PRIVATE,
                Propagation::HostToContainer => MsFlags::MS_SLAVE,
                Propagation::Bidirectional => continue,
            };
            mount(
                None::<&str>,
                path,
                None::<&str>,
                kind | MsFlags::MS_REC,
                None::<&str>,
            )
            .map_err(|errno| ProcessError::Propagation(path.clone(), errno))?;
        }
        let mut process = self.process.borrow_mut();
        process.prepare()?;
        *self.program.borrow_mut() = process.find_program()?;
        Ok(())
    }
}

impl Executor for Program {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.check().map_err(|error| {
            let text = error.to_string();
            self.complain(&text);
            ExecutorValidationError::ArgValidationError(text)
        })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(()) // the environment goes straight to execve
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let error = self.process.borrow().become_program(&self.program.borrow());
        let text = error.to_string();
        self.complain(&text);
        Err(ExecutorError::Other(text))
    }
}

/// What to mount below `/sys/fs/cgroup`: nothing where the container has something of its own there.
fn cgroup_views(spec: &ContainerSpec, cgroup: &Cgroup) -> Vec<View> {
    let own = |path: &str| spec.mounts.iter().any(|m| m.destination == Path::new(path));
    if own("/sys") || own("/sys/fs") || own("/sys/fs/cgroup") {
        vec![]
    } else {
        cgroup.cgroups().views()
    }
}

/// Inside the container, its cgroup namespace included: each hierarchy shows its own group as root.
fn mount_cgroups(views: &[View], writable: bool) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let access = if writable {
        flags
    } else {
        flags | MsFlags::MS_RDONLY
    };
    let folders = views.iter().any(|v| !v.name.is_empty());
    if folders {
        mount(
            Some("tmpfs"),
            root,
            Some("tmpfs"),
            flags,
            Some("mode=755,size=1024k,uid=0,gid=0"),
        )?;
    }
    for view in views {
        let at = root.join(&view.name);
        if !view.name.is_empty() {
            fs::create_dir(&at)?;
        }
        mount(
            Some("cgroup"),
            &at,
            Some(view.fs_type),
            access,
            Some(view.data.as_str()),
        )?;
        for name in view
            .data
            .split(',')
            .filter(|n| !n.contains('=') && **n != view.name && !n.is_empty())
        {
            let _ = std::os::unix::fs::symlink(&view.name, root.join(name));
        }
    }
    if folders && !writable {
        mount(
            None::<&str>,
            root,
            None::<&str>,
            access | MsFlags::MS_REMOUNT,
            Some("mode=755,size=1024k,uid=0,gid=0"),
        )?;
    }
    Ok(())
}
