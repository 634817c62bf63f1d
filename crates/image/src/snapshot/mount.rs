//! Mounting an overlay of any number of layers.
//!
//! Since Linux 6.7 layers are given one at a time. Before that all options had to fit one page,
//! so layers are named by open file there: `/proc/self/fd/7` is short, and needs no escaping.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use crate::ImageError;

/// The kernel takes strings of at most 255 bytes.
const MAX_STRING: usize = 255;

/// A step that failed, and what the kernel says about it.
type Failure = (&'static str, Errno, String);

pub(super) fn overlay<P: AsRef<Path>>(
    lower: &[P],
    upper: &Path,
    work: &Path,
    merged: &Path,
) -> Result<(), ImageError> {
    let lower: Vec<&Path> = lower.iter().map(AsRef::as_ref).collect();
    let result = modern(&lower, upper, work, merged).or_else(|first| match first {
        // An older kernel says so late: when it has all options.
        (_, Errno::INVAL | Errno::NOSYS, _) => legacy(&lower, upper, work, merged)
            .map_err(|second| if first.2.is_empty() { second } else { first }),
        _ => Err(first),
    });
    result.map_err(|(step, error, log)| {
        let hint = match error {
            Errno::INVAL if log.is_empty() => {
                ": is the data folder itself on an overlay, or on a file system without d_type?"
                    .into()
            }
            _ => log,
        };
        ImageError::Mount {
            path: merged.into(),
            layers: lower.len(),
            step,
            detail: hint,
            source: Arc::new(error.into()),
        }
    })
}

fn modern(lower: &[&Path], upper: &Path, work: &Path, merged: &Path) -> Result<(), Failure> {
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| ("fsopen", e, String::new()))?;
    let mut open = Vec::new();
    let mut set = |key: &'static str, path: &Path| {
        let value = short_name(path, &mut open).map_err(|e| (key, e, String::new()))?;
        fsconfig_set_string(&context, key, value).map_err(|e| (key, e, log(&context)))
    };
    for path in lower {
        set("lowerdir+", path)?;
    }
    set("upperdir", upper)?;
    set("workdir", work)?;
    let fail = |step| {
        let context = &context;
        move |e| (step, e, log(context))
    };
    fsconfig_set_string(&context, "source", "overlay").map_err(fail("source"))?;
    fsconfig_set_string(&context, "index", "off").map_err(fail("index=off"))?;
    fsconfig_set_flag(&context, "volatile").map_err(fail("volatile"))?;
    fsconfig_create(&context).map_err(fail("create"))?;
    let tree = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .map_err(fail("fsmount"))?;
    move_mount(
        &tree,
        "",
        CWD,
        merged,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(fail("move_mount"))
}

fn legacy(lower: &[&Path], upper: &Path, work: &Path, merged: &Path) -> Result<(), Failure> {
    let fail = |e| ("mount", e, String::new());
    let mut open = Vec::new();
    let mut names = Vec::new();
    for path in lower.iter().chain([&upper, &work]) {
        names.push(by_descriptor(path, &mut open).map_err(fail)?);
    }
    let (lower, own) = names.split_at(lower.len());
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off",
        lower.join(":"),
        own[0],
        own[1]
    );
    let flags = MountFlags::empty();
    let attempt = |options: &str| {
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", merged, "overlay", flags, options.as_c_str())
    };
    match attempt(&format!("{options},volatile")) {
        Err(Errno::INVAL) => {
            // Before Linux 5.10.
            attempt(&options).map_err(fail)
        }
        result => result.map_err(fail),
    }
}

fn short_name(path: &Path, open: &mut Vec<OwnedFd>) -> Result<CString, Errno> {
    if path.as_os_str().len() <= MAX_STRING {
        return CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
    }
    by_descriptor(path, open).and_then(|name| CString::new(name).map_err(|_| Errno::INVAL))
}

fn by_descriptor(path: &Path, open: &mut Vec<OwnedFd>) -> Result<String, Errno> {
    let descriptor = openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    open.push(descriptor);
    Ok(name)
}

/// What the kernel wrote about the failure, such as `: overlay: …`.
fn log(context: &OwnedFd) -> String {
    let mut text = String::new();
    let Ok(copy) = context.try_clone() else {
        return text;
    };
    let mut file = std::fs::File::from(copy);
    let mut buffer = [0; 1024];
    // One message a read, until the kernel has no more.
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..count]);
        text.push_str(": ");
        text.push_str(message.trim_start_matches(['e', 'w', 'i']).trim());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs;

    use super::*;

    type Mount = fn(&[&Path], &Path, &Path, &Path) -> Result<(), Failure>;

    /// Old kernels are not at hand, but new ones still take the old call.
    #[test]
    fn both_ways_mount_many_layers_of_long_names() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("n".repeat(200)).join("a,b:c".repeat(20));
        let make = |name: String| {
            let path = base.join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let lower: Vec<_> = (0..150).map(|n| make(format!("lower{n}"))).collect();
        for (n, path) in lower.iter().enumerate() {
            fs::write(path.join(format!("file{n}")), "x").unwrap();
        }
        let lower: Vec<&Path> = lower.iter().map(AsRef::as_ref).collect();
        for (name, way) in [("modern", modern as Mount), ("legacy", legacy as Mount)] {
            let own = ["upper", "work", "merged"].map(|kind| make(format!("{name}-{kind}")));
            way(&lower, &own[0], &own[1], &own[2]).unwrap();
            let count = fs::read_dir(&own[2]).unwrap().count();
            rustix::mount::unmount(&own[2], rustix::mount::UnmountFlags::DETACH).unwrap();
            assert_eq!(count, 150, "{name}");
        }
        // What the kernel says is told.
        let missing = base.join("missing");
        let error = overlay(&lower, &missing, &missing, &missing).unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::Mount {
                    step: "upperdir",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}
