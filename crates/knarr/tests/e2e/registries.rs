//! Registries that want a password or a token, that hang up, and that serve hostile layers; as
//! pods and their events tell of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use testkit::{Access, Cluster, Options, Registry, StubRegistry, TokenServer, eventually};

use crate::support::{
    LIMIT, create, events, exec, import_busybox, phase, pods, ready, shell_pod, until,
};

#[test]
fn a_private_registry_wants_a_secret() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let login = Access::Password("crew", "open sesame");
        let registry = Registry::start(cluster.scratch(), 5001, login).await?;
        let name = format!("{}/busybox:1", registry.host());
        push_busybox(&cluster, &registry, &name, "open sesame")?;

        let pods = pods(&cluster).await?;
        create(&pods, pulling_pod("stranger", &name, None)).await?;
        eventually("a refusal", LIMIT, async || {
            let of = events(&cluster, "stranger").await?;
            ensure!(
                of.iter()
                    .any(|e| e.starts_with("Failed: Failed to pull image")),
                "{of:?}"
            );
            Ok(())
        })
        .await?;
        secret(&cluster, "login", &registry, "open sesame").await?;
        create(&pods, pulling_pod("friend", &name, Some("login"))).await?;
        until(&pods, "friend", "is ready", ready).await.map(drop)
    });
}

#[test]
fn a_token_service_decides() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let tokens = TokenServer::start("crew", "open sesame")?;
        let registry = Registry::start(cluster.scratch(), 5002, Access::Token(&tokens)).await?;
        let name = format!("{}/hold/busybox:1", registry.host());
        push_busybox(&cluster, &registry, &name, "open sesame")?;

        let pods = pods(&cluster).await?;
        let refused = |kind: &str, reference: &str| {
            let realm = tokens.realm();
            let (service, scope) = (
                "service=test+registry",
                "scope=repository%3Ahold%2Fbusybox%3Apull",
            );
            format!(
                "Failed: Failed to pull image \"{reference}\": failed to pull and unpack image \
                 \"{reference}\": failed to resolve reference \"{reference}\": failed to authorize: \
                 failed to fetch {kind} token: unexpected status from GET request to \
                 {realm}?{service}&{scope}: 401 Unauthorized"
            )
        };
        secret(&cluster, "wrong", &registry, "guess").await?;
        secret(&cluster, "right", &registry, "open sesame").await?;
        for (who, kind, with) in [
            ("nobody", "anonymous", None),
            ("stranger", "oauth", Some("wrong")),
        ] {
            create(&pods, pulling_pod(who, &name, with)).await?;
            let wanted = refused(kind, &name);
            eventually("a refusal", LIMIT, async || {
                let of = events(&cluster, who).await?;
                ensure!(of.contains(&wanted), "no {wanted:?} in {of:#?}");
                Ok(())
            })
            .await?;
            until(&pods, who, "waits", |pod| {
                matches!(waiting(pod), Some("ErrImagePull" | "ImagePullBackOff"))
            })
            .await?;
        }
        let asked = tokens.log().len();
        create(&pods, pulling_pod("friend", &name, Some("right"))).await?;
        until(&pods, "friend", "is ready", ready).await?;
        let asked = &tokens.log()[asked..];
        ensure!(
            asked.iter().any(|line| line.contains("%3Apull")),
            "a token was fetched: {asked:?}"
        );
        Ok(())
    });
}

#[test]
fn a_registry_that_hangs_up_in_the_middle() {
    testkit::isolated(async || {
        const SENT_BYTES: usize = 100_000;
        let cluster = Cluster::start(Options::default()).await?;
        let registry = StubRegistry::start()?;
        let image = registry.offer("app", &[testkit::busybox_layer()?]);
        registry.cut_after(Some(SENT_BYTES));
        let pods = pods(&cluster).await?;
        create(&pods, pulling_pod("patient", &image, None)).await?;
        until(&pods, "patient", "backs off", |pod| {
            waiting(pod) == Some("ImagePullBackOff")
        })
        .await?;
        let of = eventually("its events", LIMIT, async || {
            let of = events(&cluster, "patient").await?;
            ensure!(
                of.contains(&"Failed: Error: ImagePullBackOff".to_owned()),
                "{of:#?}"
            );
            Ok(of)
        })
        .await?;
        for words in [
            format!("Pulling: Pulling image \"{image}\""),
            "Failed: Error: ErrImagePull".to_owned(),
            format!("BackOff: Back-off pulling image \"{image}\""),
        ] {
            ensure!(of.contains(&words), "no {words:?} in {of:#?}");
        }
        let cause = format!(
            "Failed: Failed to pull image \"{image}\": failed to pull and unpack image \"{image}\": \
             failed to copy sha256:"
        );
        let cause = of.iter().find(|words| words.starts_with(&cause));
        ensure!(
            cause.is_some_and(|c| c.contains(&format!("unexpected EOF after {SENT_BYTES} of "))),
            "{of:#?}"
        );

        // What came is kept for the next attempt, and nothing else is.
        let kept = files(&images(&cluster, "ingest"))?;
        ensure!(kept.len() == 1, "{kept:?}");
        ensure!(std::fs::metadata(&kept[0])?.len() == SENT_BYTES as u64);
        nothing_unpacked(&cluster)?;

        let before = registry.log().len();
        registry.cut_after(None);
        until(&pods, "patient", "is ready", ready).await?;
        let log = registry.log();
        let asked: Vec<&String> = log[before..]
            .iter()
            .filter(|line| line.contains("/blobs/"))
            .collect();
        ensure!(
            asked.len() == 1 && asked[0].ends_with(&format!("bytes={SENT_BYTES}-")),
            "only what was missing: {asked:?}"
        );
        ensure!(files(&images(&cluster, "ingest"))?.is_empty());
        Ok(())
    });
}

#[test]
fn hostile_layers_are_refused_or_harmless() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let registry = StubRegistry::start()?;
        let pods = pods(&cluster).await?;
        let outside = cluster.scratch().join("outside");
        std::fs::create_dir(&outside)?;
        let victim = outside.join("victim");
        std::fs::write(&victim, "untouched")?;
        let out = victim.to_str().context("a path in UTF-8")?;

        let climb = format!("{}tmp/knarr-evil", "../".repeat(20));
        let refused = [
            (
                "climbing",
                Layer::default().file(&climb, "evil"),
                format!("\"{climb}\" is outside of the layer's root: invalid argument"),
            ),
            (
                "stealing",
                Layer::default().link(tar::EntryType::Link, "loot", out),
                format!("hard link \"loot\" to \"{out}\", which the layer does not hold"),
            ),
        ];
        for (name, layer, cause) in refused {
            let image = registry.offer(name, &[layer.0]);
            create(&pods, pulling_pod(name, &image, None)).await?;
            eventually("a refusal", LIMIT, async || {
                let of = events(&cluster, name).await?;
                let start = format!(
                    "Failed: Failed to pull image \"{image}\": failed to pull and unpack image \
                     \"{image}\": failed to extract layer sha256:"
                );
                ensure!(
                    of.iter()
                        .any(|e| e.starts_with(&start) && e.contains(&cause)),
                    "no {cause:?} in {of:#?}"
                );
                Ok(())
            })
            .await?;
            nothing_unpacked(&cluster)?;
        }
        ensure!(!Path::new("/tmp/knarr-evil").exists());

        let (major, minor) = a_disk()?;
        let sly = Layer::default()
            .link(
                tar::EntryType::Symlink,
                "s",
                outside.to_str().unwrap_or("/"),
            )
            .file("s/victim", "evil")
            .link(tar::EntryType::Symlink, "f", out)
            .file("f", "evil")
            .block_device("disk", major, minor);
        import_busybox(&cluster)?;
        let image = registry.offer("sly", &[testkit::busybox_layer()?, sly.0]);
        create(&pods, pulling_pod("sly", &image, None)).await?;
        until(&pods, "sly", "is ready", ready).await?;
        let inside = exec(&pods, "sly", &["cat", out, "/f"]).await?;
        ensure!(inside == "evilevil", "it stayed within the root: {inside}");
        let listed = exec(&pods, "sly", &["stat", "-c", "%F", "/disk"]).await?;
        ensure!(listed.trim() == "block special file", "{listed}");
        let read = exec(&pods, "sly", &["dd", "if=/disk", "of=/dev/null", "count=1"]).await;
        let refusal = format!("{:#}", read.err().context("a disk of the host was read")?);
        ensure!(refusal.contains("Operation not permitted"), "{refusal}");
        ensure!(std::fs::read_to_string(&victim)? == "untouched");
        ensure!(std::fs::read_dir(&outside)?.count() == 1);
        for name in ["climbing", "stealing"] {
            ensure!(phase(&pods.get(name).await?) == "Pending");
        }
        Ok(())
    });
}

/// A plain tar archive whose names are written as they are given.
#[derive(Default)]
struct Layer(Vec<u8>);

impl Layer {
    fn entry(mut self, name: &str, edit: impl FnOnce(&mut tar::Header), data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.entry(name, |_| {}, data.as_bytes())
    }

    fn link(self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let edit = |header: &mut tar::Header| {
            header.set_entry_type(kind);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        };
        self.entry(name, edit, b"")
    }

    fn block_device(self, name: &str, major: u32, minor: u32) -> Self {
        let edit = |header: &mut tar::Header| {
            header.set_entry_type(tar::EntryType::Block);
            // Room for the numbers is there in ustar.
            let _ustar = header.set_device_major(major);
            let _ustar = header.set_device_minor(minor);
        };
        self.entry(name, edit, b"")
    }
}

/// The numbers of a disk that this host has.
fn a_disk() -> Result<(u32, u32)> {
    for entry in std::fs::read_dir("/sys/block")? {
        let numbers = std::fs::read_to_string(entry?.path().join("dev"))?;
        if let Some((major, minor)) = numbers.trim().split_once(':') {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    anyhow::bail!("this host has no disk")
}

fn images(cluster: &Cluster, folder: &str) -> PathBuf {
    cluster.data_dir().join("images").join(folder)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// No layer, no half of one, no mount.
fn nothing_unpacked(cluster: &Cluster) -> Result<()> {
    for folder in ["tmp", "snapshots"] {
        let left = files(&images(cluster, folder))?;
        ensure!(left.is_empty(), "{left:?}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let own = images(cluster, "");
    ensure!(
        !mounts.contains(own.to_str().unwrap_or_default()),
        "{mounts}"
    );
    Ok(())
}

/// A pod that sleeps in this image.
fn pulling_pod(name: &str, image: &str, secret: Option<&str>) -> Value {
    let mut pod = shell_pod(name, "sleep 1000");
    pod["spec"]["containers"][0]["image"] = json!(image);
    if let Some(secret) = secret {
        pod["spec"]["imagePullSecrets"] = json!([{"name": secret}]);
    }
    pod
}

/// Why the first container waits.
fn waiting(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

fn docker_config(registry: &Registry, password: &str) -> Value {
    json!({"auths": {registry.host(): {"username": "crew", "password": password}}})
}

/// Pushes the busybox image under a name, and keeps none.
fn push_busybox(cluster: &Cluster, registry: &Registry, name: &str, password: &str) -> Result<()> {
    let archive = testkit::busybox_archive(cluster.scratch(), name)?;
    let login = cluster.scratch().join("config.json");
    std::fs::write(&login, docker_config(registry, password).to_string())?;
    let image = |args: &[&str], path: Option<&Path>| -> Result<()> {
        let run = cluster.knarr()?.args(["image"]).args(args).args(path);
        run.ok().map(drop)
    };
    image(&["import"], Some(&archive))?;
    image(&["push", name, "--docker-config"], Some(&login))?;
    image(&["rm", name], None)
}

async fn secret(cluster: &Cluster, name: &str, registry: &Registry, password: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client().await?);
    let secret = json!({"metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": docker_config(registry, password).to_string()}});
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    Ok(())
}
