//! `knarr image`, with and without a cluster.

use anyhow::{Result, ensure};
use testkit::{Access, Cluster, Registry, Run};

#[test]
fn images_without_a_cluster() {
    testkit::isolated(async || {
        let dir = tempfile::tempdir()?;
        let registry = Registry::start(dir.path(), 5000, Access::Open).await?;
        let name = format!("{}/crew/busybox:1", registry.host());
        let archive = testkit::busybox_archive(dir.path(), &name)?;
        let image = |data: &str, args: &[&str]| -> Result<String> {
            Run::new(Cluster::binary()?)
                .env("KNARR_DATA_DIR", dir.path().join(data))
                .args(["image"])
                .args(args)
                .ok()
        };
        image("a", &["import", archive.to_str().unwrap()])?;
        ensure!(image("a", &["ls"])?.contains(&name));
        image("a", &["push", &name])?;
        image("b", &["pull", &name])?;
        let listed = image("b", &["ls"])?;
        ensure!(listed.contains(&name), "{listed}");
        let out = dir.path().join("out.tar");
        image("b", &["export", out.to_str().unwrap(), &name])?;
        image("b", &["rm", &name])?;
        ensure!(!image("b", &["ls"])?.contains(&name));
        image("b", &["import", out.to_str().unwrap()])?;
        ensure!(image("b", &["ls"])? == listed);
        let missing = Run::new(Cluster::binary()?)
            .env("KNARR_DATA_DIR", dir.path().join("b"))
            .args(["image", "pull", &format!("{}/nothing:1", registry.host())])
            .output()?;
        ensure!(
            !missing.success && missing.stderr.contains("not found"),
            "{missing:?}"
        );
        Ok(())
    });
}
