//! A small real image: Debian's static busybox in a scratch image, as `docker save` writes it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "httpd", "wget", "nslookup", "test", "date", "id", "ls", "env",
    "true", "false", "kill", "nc", "ip", "hostname", "touch", "head", "tail", "dd", "ps", "grep",
    "printf", "seq", "mkdir", "rm", "awk", "sync", "stat", "od", "tar",
];

/// Writes the image into `dir` and returns the archive's path.
///
/// # Errors
/// When Debian's busybox-static is missing or the disk is.
pub fn busybox_archive(dir: &Path, name: &str) -> Result<PathBuf> {
    let layer = busybox_layer()?;
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&json!([
        {"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}
    ]))?;
    let path = dir.join("busybox.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path)?);
    for (name, bytes) in [
        (config_name.as_str(), &config),
        ("layer.tar", &layer),
        ("manifest.json", &manifest),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.flush()?;
    Ok(path)
}

/// The one layer of that image, a plain tar archive.
///
/// # Errors
/// When Debian's busybox-static is missing.
pub fn busybox_layer() -> Result<Vec<u8>> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .context("busybox is missing; run `cargo xtask test`, which installs busybox-static")?;
    let mut layer = tar::Builder::new(Vec::new());
    let mut entry = |kind, mode, name: &str, link: Option<&str>, bytes: &[u8]| -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        match link {
            Some(target) => layer.append_link(&mut header, name, target)?,
            None => layer.append_data(&mut header, name, bytes)?,
        }
        Ok(())
    };
    for (name, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("root/", 0o700),
    ] {
        entry(tar::EntryType::Directory, mode, name, None, &[])?;
    }
    entry(
        tar::EntryType::Regular,
        0o755,
        "bin/busybox",
        None,
        &busybox,
    )?;
    for applet in APPLETS {
        entry(
            tar::EntryType::Symlink,
            0o777,
            &format!("bin/{applet}"),
            Some("busybox"),
            &[],
        )?;
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    entry(tar::EntryType::Regular, 0o644, "etc/passwd", None, passwd)?;
    Ok(layer.into_inner()?)
}
