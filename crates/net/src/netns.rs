//! Sockets that live in another network namespace.
//!
//! A socket belongs to the namespace of the thread that made it, for ever. So only
//! the making happens inside, on a short thread of its own; no thread of the process
//! is ever left in a foreign namespace.

use crate::NetError;
use crate::netlink::Netlink;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a routing netlink socket in the namespace that `netns` is open on.
pub(crate) fn netlink_in(netns: &File, path: &Path) -> Result<Netlink, NetError> {
    let enter = || -> io::Result<Netlink> {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Netlink::open()
    };
    let opened = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("knarr-netns".into())
            .stack_size(64 * 1024)
            .spawn_scoped(scope, enter)
            .and_then(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
            })
    });
    opened.map_err(|source| NetError::Netns {
        path: path.to_owned(),
        source,
    })
}
