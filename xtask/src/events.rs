//! `cargo xtask events`: writes the tables of events, flags and system calls in
//! `crates/detect/src/event/facts` from the sources of Falco's driver.
//!
//! The sources are C tables: they are compiled with a printer of ours (`events/dump.c`), which knows
//! how a table looks in Rust. Only facts are taken: names, numbers, types, order.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const PRINTER: &str = include_str!("events/dump.c");
const HEADER: &str = "ppm_events_public.h";
/// System calls that are younger than the kernel headers of the stable distributions, with their
/// numbers on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
const YOUNG: &[(&str, u16)] = &[
    ("uretprobe", 335),
    ("uprobe", 336),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
    ("listns", 470),
];
const UNISTD: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

/// Reads `driver` (upstream's folder of that name) and writes the tables into `out`.
///
/// # Errors
/// When a source is absent or does not compile.
pub(crate) fn run(driver: &Path, out: &Path) -> Result<()> {
    let work = std::env::temp_dir().join(format!("knarr-events-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let outcome = generate(driver, &work, out);
    std::fs::remove_dir_all(&work)?;
    outcome
}

fn generate(driver: &Path, work: &Path, out: &Path) -> Result<()> {
    let path = driver.join(HEADER);
    let header = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut numbers = std::fs::read_to_string(UNISTD).context(UNISTD)?;
    for (name, number) in YOUNG {
        let define = format!("#define __NR_{name} ");
        if !numbers.contains(&define) {
            let _ = writeln!(numbers, "{define}{number}");
        }
    }
    let unistd = work.join("unistd.h");
    std::fs::write(&unistd, &numbers)?;
    std::fs::write(work.join("tables.inc"), tables(&header))?;
    std::fs::write(work.join("codes.inc"), codes(&header))?;
    std::fs::write(work.join("numbers.inc"), call_numbers(&numbers))?;
    std::fs::write(work.join("dump.c"), PRINTER)?;
    let printer = work.join("dump");
    let mut compile = Command::new("cc");
    compile
        .args(["-w", "-include"])
        .arg(&unistd)
        .arg("-o")
        .arg(&printer)
        .arg("-I")
        .arg(driver)
        .arg("-I")
        .arg(work)
        .arg(work.join("dump.c"));
    for source in [
        "event_table.c",
        "flags_table.c",
        "dynamic_params_table.c",
        "syscall_table.c",
        "syscall_ia32_64_map.c",
    ] {
        compile.arg(driver.join(source));
    }
    if !compile.status().context("cannot run cc")?.success() {
        bail!("upstream's tables do not compile");
    }
    for table in ["types", "flags", "syscalls"] {
        let output = Command::new(&printer).arg(table).output()?;
        if !output.status.success() {
            bail!("the printer of {table} failed");
        }
        std::fs::write(out.join(table).with_extension("rs"), output.stdout)?;
    }
    Ok(())
}

/// The flag tables that the header declares.
fn tables(header: &str) -> String {
    let mut text = String::new();
    for line in header.lines() {
        let name = line
            .strip_prefix("extern const struct ppm_name_value ")
            .and_then(|rest| rest.strip_suffix("[];"));
        if let Some(name) = name {
            let _ = writeln!(text, "{{\"{name}\", {name}}},");
        }
    }
    text
}

/// The codes of events, without upstream's prefixes.
fn codes(header: &str) -> String {
    let mut text = String::new();
    for line in header.lines() {
        let Some((name, _)) = line.trim().split_once(" = ") else {
            continue;
        };
        if let Some(rest) = name.strip_prefix("PPME_") {
            let short = ["SYSCALL_", "SOCKET_"]
                .iter()
                .find_map(|prefix| rest.strip_prefix(prefix))
                .unwrap_or(rest);
            let _ = writeln!(text, "{{\"{short}\", {name}}},");
        }
    }
    text
}

/// The system calls that the kernel's header numbers.
fn call_numbers(header: &str) -> String {
    let mut text = String::new();
    for line in header.lines() {
        if let Some(rest) = line.strip_prefix("#define __NR_")
            && let Some((name, number)) = rest.split_once(' ')
        {
            let _ = writeln!(text, "{{\"{name}\", {number}}},");
        }
    }
    text
}
