//! What a folder tells its file system about itself.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Tells the file system that the folders in `path` have nothing to do with each other (`chattr +T`),
/// so that ext4 gives each a group of blocks and inodes of its own. In one group, an ext4 without a
/// journal walks over all inodes that were freed in the last minute each time that it makes a file:
/// pods that come and go made each other slower. A file system without such a hint refuses it, and
/// nothing is lost.
pub fn spread_children(path: &Path) -> io::Result<()> {
    let folder = File::open(path)?;
    let flags = ioctl_getflags(&folder)?;
    if !flags.contains(IFlags::TOPDIR) {
        ioctl_setflags(&folder, flags | IFlags::TOPDIR)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_marked_where_the_file_system_knows_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let kind = rustix::fs::statfs(dir.path()).unwrap().f_type;
        let marked = spread_children(dir.path());
        // EXT4_SUPER_MAGIC of linux/magic.h
        if kind != 0xef53 {
            println!("NOT CHECKED: {} is not on ext4", dir.path().display());
            return;
        }
        marked.unwrap();
        spread_children(dir.path()).unwrap();
        let folder = File::open(dir.path()).unwrap();
        assert!(ioctl_getflags(&folder).unwrap().contains(IFlags::TOPDIR));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(spread_children(&dir.path().join("none")).is_err());
    }
}
