//! `cargo xtask demo`: from a clone to a cluster that answers.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::release::{self, Profile};
use crate::{needs, shell};

/// Where and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Build with the release profile (slower to build, smaller and faster to run).
    #[arg(long)]
    release: bool,
    /// Address and port of the API.
    #[arg(long, default_value = "0.0.0.0:6443")]
    listen: String,
    /// Stop after the answer instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
}

/// Builds, starts, deploys, asks, and waits for Ctrl-C.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!("a cluster needs root; please type: sudo -E env PATH=\"$PATH\" cargo xtask demo");
    }
    needs::ensure(&[needs::BUILD, needs::RUN])?;
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Fast
    };
    let knarr = release::build(profile)?;
    let data = std::env::current_dir()?
        .join(shell::target_dir())
        .join("demo");
    let cluster = Cluster::start(&knarr, &data, &options.listen)?;
    let outcome = visit(&cluster, options.once);
    cluster.stop()?;
    outcome
}

fn visit(cluster: &Cluster<'_>, once: bool) -> Result<()> {
    cluster.wait_ready()?;
    shell::step(
        "deploying examples/hello",
        cluster.knarr("apply").args(["-f", "examples/hello"]),
    )?;
    shell::step(
        "waiting for its pods",
        cluster.knarr("wait").args([
            "--for=condition=Available",
            "deployment/hello",
            "--timeout=60s",
        ]),
    )?;
    let address = cluster.output(&["get", "service/hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    eprintln!("==> asking http://{address}/ (the Service's cluster address)");
    println!("{}", ask(address.trim())?.trim_end());
    shell::step(
        "what runs",
        cluster.knarr("get").args(["pods,services", "-o", "wide"]),
    )?;
    if once {
        return Ok(());
    }
    println!("\nThe cluster stays up. In another terminal:\n");
    println!(
        "    export KUBECONFIG={}",
        cluster.data.join("admin.kubeconfig").display()
    );
    println!(
        "    kubectl get pods -A        # or: {} get pods -A\n",
        cluster.knarr.display()
    );
    println!("Ctrl-C stops it and removes all that it made.");
    wait_for_interrupt()
}

/// One GET over a plain socket; retries until the Service answers.
fn ask(address: &str) -> Result<String> {
    use std::io::{Read, Write};
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = (|| {
            let target = format!("{address}:80").parse()?;
            let mut stream = std::net::TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(
                stream,
                "GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n"
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (_, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
            Ok::<_, anyhow::Error>(body.to_owned())
        })();
        match answer {
            Ok(body) => return Ok(body),
            Err(error) if Instant::now() > until => {
                return Err(error.context(format!("the Service at {address} does not answer")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A `knarr up` that we started.
struct Cluster<'a> {
    knarr: &'a Path,
    data: &'a Path,
    child: Child,
}

impl<'a> Cluster<'a> {
    fn start(knarr: &'a Path, data: &'a Path, listen: &str) -> Result<Self> {
        eprintln!(
            "==> {} up --data-dir {} --listen {listen}",
            knarr.display(),
            data.display()
        );
        let child = Command::new(knarr)
            .arg("up")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", listen])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", knarr.display()))?;
        Ok(Self { knarr, data, child })
    }

    fn knarr(&self, verb: &str) -> Command {
        let mut command = Command::new(self.knarr);
        command
            .env("KUBECONFIG", self.data.join("admin.kubeconfig"))
            .arg(verb);
        command
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        let (verb, rest) = args.split_first().context("a verb")?;
        let output = self
            .knarr(verb)
            .args(rest)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("knarr {} ended with {}", args.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn wait_ready(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let ready = self
                .knarr("wait")
                .args(["--for=condition=Ready", "nodes", "--all", "--timeout=30s"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if ready.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the cluster is not ready after 30 s; its log is above")
    }

    fn stop(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        // It may have ended already: by the same Ctrl-C that reached us.
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        self.child.wait()?;
        shell::step(
            "removing all that it made",
            Command::new(self.knarr)
                .args(["down", "--delete-data", "--data-dir"])
                .arg(self.data),
        )
    }
}

fn wait_for_interrupt() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    set.wait()?;
    Ok(())
}
