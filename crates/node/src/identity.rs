//! Who a container runs as.
//!
//! Invariant: `/etc/passwd` and `/etc/group` of an image are read with the kernel
//! confining the lookup to the root file system, and only up to a bound.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

/// The most that is read of a passwd or group file.
const MAX_FILE: u64 = 4 << 20;

/// Ids of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The user's home directory, if the image knows one.
    pub home: Option<String>,
}

/// Why no identity could be found. The words of the `runAsNonRoot` errors are upstream's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The root file system could not be read.
    #[error("read {} in the image", path.display())]
    Read {
        /// File inside the image.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The image names a user it does not have.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    NoUser {
        /// The name.
        user: String,
    },
    /// The image names a group it does not have.
    #[error("unable to find group {group}: no matching entries in group file")]
    NoGroup {
        /// The name.
        group: String,
    },
    /// Cannot verify.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    NonNumeric {
        /// The image's user.
        user: String,
        /// `name_namespace(uid)`.
        pod: String,
        /// Name of the container.
        container: String,
    },
    /// Root by the image.
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})"
    )]
    ImageIsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// Name of the container.
        container: String,
    },
    /// Root by the spec.
    #[error(
        "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})"
    )]
    SpecIsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// Name of the container.
        container: String,
    },
}

/// `name_namespace(uid)`, as the kubelet writes pods in messages.
pub(crate) fn pod_words(pod: &Pod) -> String {
    let m = &pod.metadata;
    format!(
        "{}_{}({})",
        m.name.as_deref().unwrap_or_default(),
        m.namespace.as_deref().unwrap_or_default(),
        m.uid.as_deref().unwrap_or_default()
    )
}

/// Checks `runAsNonRoot` against the spec and the image's user.
///
/// # Errors
/// When the container would, or might, run as root.
pub(crate) fn verify_non_root(
    pod: &Pod,
    c: &Container,
    image_user: &str,
) -> Result<(), IdentityError> {
    let own = c.security_context.as_ref();
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let wanted = own
        .and_then(|s| s.run_as_non_root)
        .or(shared.and_then(|s| s.run_as_non_root));
    if wanted != Some(true) {
        return Ok(());
    }
    let (words, container) = (pod_words(pod), c.name.clone());
    if let Some(uid) = run_as_user(own, shared) {
        if uid == 0 {
            return Err(IdentityError::SpecIsRoot {
                pod: words,
                container,
            });
        }
        return Ok(());
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Err(IdentityError::ImageIsRoot {
            pod: words,
            container,
        }),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(IdentityError::ImageIsRoot {
            pod: words,
            container,
        }),
        Err(_) => Err(IdentityError::NonNumeric {
            user: user.to_owned(),
            pod: words,
            container,
        }),
    }
}

fn run_as_user(own: Option<&SecurityContext>, pod: Option<&PodSecurityContext>) -> Option<i64> {
    own.and_then(|s| s.run_as_user)
        .or(pod.and_then(|s| s.run_as_user))
}

fn id(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX - 1)
}

/// The identity of a container: the spec over the image.
///
/// # Errors
/// When the image's files cannot be read or do not know the name.
pub(crate) fn resolve(
    pod: &Pod,
    c: &Container,
    image_user: &str,
    rootfs: &Path,
) -> Result<Identity, IdentityError> {
    let own = c.security_context.as_ref();
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let passwd = read(rootfs, "etc/passwd")?;
    let group = read(rootfs, "etc/group")?;
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));

    let explicit = run_as_user(own, shared);
    let entry = match explicit {
        Some(uid) => passwd_by_id(&passwd, id(uid)).unwrap_or(Passwd {
            name: String::new(),
            uid: id(uid),
            gid: 0,
            home: None,
        }),
        None if image_user.is_empty() => passwd_by_id(&passwd, 0).unwrap_or_default(),
        None => passwd_entries(&passwd)
            .find(|p| p.name == image_user)
            .or_else(|| {
                let uid = image_user.parse().ok()?;
                Some(passwd_by_id(&passwd, uid).unwrap_or(Passwd {
                    name: String::new(),
                    uid,
                    gid: 0,
                    home: None,
                }))
            })
            .ok_or_else(|| IdentityError::NoUser {
                user: image_user.to_owned(),
            })?,
    };
    let run_as_group = own
        .and_then(|s| s.run_as_group)
        .or(shared.and_then(|s| s.run_as_group));
    let gid = match run_as_group {
        Some(gid) => id(gid),
        None if explicit.is_none() && !image_group.is_empty() => group_entries(&group)
            .find(|(name, ..)| *name == image_group)
            .map(|(_, gid, _)| gid)
            .or_else(|| image_group.parse().ok())
            .ok_or_else(|| IdentityError::NoGroup {
                group: image_group.to_owned(),
            })?,
        None => entry.gid,
    };
    let mut groups = vec![gid];
    let strict = shared.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict");
    if !strict && !entry.name.is_empty() {
        groups.extend(
            group_entries(&group)
                .filter(|(_, _, members)| members.split(',').any(|m| m == entry.name))
                .map(|(_, gid, _)| gid),
        );
    }
    if let Some(shared) = shared {
        groups.extend(shared.supplemental_groups.iter().flatten().map(|g| id(*g)));
        groups.extend(shared.fs_group.map(id));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity {
        uid: entry.uid,
        gid,
        groups,
        home: entry.home,
    })
}

#[derive(Clone, Debug, Default)]
struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
    home: Option<String>,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = Passwd> + '_ {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let name = f.next()?.to_owned();
        f.next()?;
        let uid = f.next()?.parse().ok()?;
        let gid = f.next()?.parse().ok()?;
        f.next();
        let home = f.next().filter(|h| !h.is_empty()).map(str::to_owned);
        Some(Passwd {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn passwd_by_id(text: &str, uid: u32) -> Option<Passwd> {
    passwd_entries(text).find(|p| p.uid == uid)
}

fn group_entries(text: &str) -> impl Iterator<Item = (&str, u32, &str)> + '_ {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let name = f.next()?;
        f.next()?;
        let gid = f.next()?.parse().ok()?;
        Some((name, gid, f.next().unwrap_or_default()))
    })
}

/// Reads a file of a root file system that nobody trusts; a missing file is empty.
fn read(rootfs: &Path, path: &str) -> Result<String, IdentityError> {
    let fail = |source| IdentityError::Read {
        path: Path::new("/").join(path),
        source,
    };
    let root = File::open(rootfs).map_err(fail)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, path, how) {
        Ok(fd) => File::from(fd),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(fail(errno.into())),
    };
    if !file.metadata().map_err(fail)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fail)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    fn pod(pod: Value, own: Value) -> (Pod, Container) {
        let c = json!({"name": "c", "securityContext": own});
        let p: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"securityContext": pod, "containers": [c]}}))
        .unwrap();
        let c = p.spec.as_ref().unwrap().containers[0].clone();
        (p, c)
    }

    #[test]
    fn users_of_image_and_spec() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:w:/srv:/bin/sh\n",
        )
        .unwrap();
        // An absolute link stays inside the root file system.
        std::fs::write(
            dir.path().join("etc/real"),
            "root:x:0:\nextra:x:7:web\nstaff:x:50:\n",
        )
        .unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("etc/group")).unwrap();
        let table = [
            (json!({}), json!({}), "", (0, 0, vec![0])),
            (json!({}), json!({}), "web", (101, 102, vec![7, 102])),
            (json!({}), json!({}), "web:staff", (101, 50, vec![7, 50])),
            (json!({}), json!({}), "5000:6000", (5000, 6000, vec![6000])),
            (
                json!({"runAsUser": 1000}),
                json!({}),
                "web",
                (1000, 0, vec![0]),
            ),
            (
                json!({"runAsUser": 1, "fsGroup": 9, "supplementalGroups": [8]}),
                json!({"runAsUser": 101, "runAsGroup": 3}),
                "",
                (101, 3, vec![3, 7, 8, 9]),
            ),
            (
                json!({"supplementalGroupsPolicy": "Strict", "supplementalGroups": [8]}),
                json!({}),
                "web",
                (101, 102, vec![8, 102]),
            ),
        ];
        for (shared, own, user, want) in table {
            let (p, c) = pod(shared.clone(), own.clone());
            let got = resolve(&p, &c, user, dir.path()).unwrap();
            assert_eq!(
                (got.uid, got.gid, got.groups),
                want,
                "{shared} {own} {user}"
            );
        }
        let (p, c) = pod(json!({}), json!({}));
        let error = resolve(&p, &c, "nobody", dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
    }

    #[test]
    fn non_root_is_verified() {
        let yes = json!({"runAsNonRoot": true});
        let table = [
            (yes.clone(), json!({}), "1000", ""),
            (yes.clone(), json!({"runAsNonRoot": false}), "0", ""),
            (
                yes.clone(),
                json!({}),
                "",
                "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)",
            ),
            (
                yes.clone(),
                json!({}),
                "web",
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: \"p_ns(u)\", container: c)",
            ),
            (
                yes,
                json!({"runAsUser": 0}),
                "5",
                "container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)",
            ),
        ];
        for (shared, own, user, want) in table {
            let (p, c) = pod(shared, own);
            let got = verify_non_root(&p, &c, user)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert_eq!(got, want);
        }
    }
}
