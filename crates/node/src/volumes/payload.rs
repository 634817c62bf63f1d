//! The files of configMap, secret, downwardAPI and projected volumes.
//!
//! Invariant: gathers only; the atomic writer writes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume,
};

use super::{
    VolumeProblem,
    atomic::{Payload, Projection, is_safe},
    fetch::{Fetch, Tokens},
};
use crate::env::{self, Downward, Source};

/// Permission bits of files that do not say otherwise.
const DEFAULT_MODE: u32 = 0o644;
/// Life of a token whose volume does not say otherwise.
const TOKEN_SECS: i64 = 3600;

/// What a volume is to hold.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Its files.
    pub payload: Payload,
    /// When it has to be gathered anew.
    pub refresh_at: Option<Timestamp>,
}

fn mode(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|m| u32::try_from(m).ok()).unwrap_or(default)
}

/// Gathers the content of a volume; `None` for one of another sort.
///
/// # Errors
/// When something that is not optional is missing.
pub(crate) async fn gather(
    fetch: &Fetch,
    pod: &Pod,
    volume: &Volume,
    downward: &Downward,
    tokens: &Tokens,
) -> Result<Option<Content>, VolumeProblem> {
    let mut content = Content::default();
    if let Some(v) = &volume.config_map {
        let found = fetch.config_map(&v.name).await?;
        let rule = Rule {
            kind: "configmap",
            name: &v.name,
            mode: mode(v.default_mode, DEFAULT_MODE),
        };
        rule.add(
            &mut content,
            found,
            v.items.as_deref(),
            v.optional == Some(true),
        )?;
    } else if let Some(v) = &volume.secret {
        let name = v.secret_name.as_deref().unwrap_or_default();
        let found = fetch.secret(name).await?;
        let rule = Rule {
            kind: "secret",
            name,
            mode: mode(v.default_mode, DEFAULT_MODE),
        };
        rule.add(
            &mut content,
            found,
            v.items.as_deref(),
            v.optional == Some(true),
        )?;
    } else if let Some(v) = &volume.downward_api {
        let default = mode(v.default_mode, DEFAULT_MODE);
        downward_files(
            &mut content,
            pod,
            v.items.as_deref().unwrap_or_default(),
            default,
            downward,
        )?;
    } else if let Some(v) = &volume.projected {
        projected(fetch, pod, v, downward, tokens, &mut content).await?;
    } else {
        return Ok(None);
    }
    own(pod, &mut content.payload);
    Ok(Some(content))
}

async fn projected(
    fetch: &Fetch,
    pod: &Pod,
    volume: &ProjectedVolumeSource,
    downward: &Downward,
    tokens: &Tokens,
    content: &mut Content,
) -> Result<(), VolumeProblem> {
    let default = mode(volume.default_mode, DEFAULT_MODE);
    for source in volume.sources.iter().flatten() {
        if let Some(s) = &source.config_map {
            let found = fetch.config_map(&s.name).await?;
            let rule = Rule {
                kind: "configmap",
                name: &s.name,
                mode: default,
            };
            rule.add(content, found, s.items.as_deref(), s.optional == Some(true))?;
        } else if let Some(s) = &source.secret {
            let found = fetch.secret(&s.name).await?;
            let rule = Rule {
                kind: "secret",
                name: &s.name,
                mode: default,
            };
            rule.add(content, found, s.items.as_deref(), s.optional == Some(true))?;
        } else if let Some(s) = &source.downward_api {
            downward_files(
                content,
                pod,
                s.items.as_deref().unwrap_or_default(),
                default,
                downward,
            )?;
        } else if let Some(s) = &source.service_account_token {
            let audience = s.audience.as_deref().filter(|a| !a.is_empty());
            let secs = s.expiration_seconds.unwrap_or(TOKEN_SECS);
            let token = fetch.cached_token(pod, audience, secs, tokens).await?;
            let user = common_user(pod);
            let private = user.is_some() || fs_group(pod).is_some();
            let file = Projection {
                data: token.token.into_bytes(),
                mode: if private { 0o600 } else { default },
                uid: user,
                gid: None,
            };
            insert(content, &s.path, file)?;
            let at = token.refresh_at;
            content.refresh_at = Some(content.refresh_at.map_or(at, |t| t.min(at)));
        } else {
            return Err(VolumeProblem::Unsupported {
                kind: "projected source",
            });
        }
    }
    Ok(())
}

struct Rule<'a> {
    kind: &'static str,
    name: &'a str,
    mode: u32,
}

impl Rule<'_> {
    fn add(
        &self,
        content: &mut Content,
        found: Option<Source>,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<(), VolumeProblem> {
        let Some(source) = found else {
            if optional {
                return Ok(());
            }
            return Err(VolumeProblem::ObjectNotFound {
                kind: self.kind,
                name: self.name.to_owned(),
            });
        };
        let file = |data: &Vec<u8>, mode| Projection {
            data: data.clone(),
            mode,
            uid: None,
            gid: None,
        };
        match items.filter(|i| !i.is_empty()) {
            None => {
                for (key, data) in &source.data {
                    insert(content, key, file(data, self.mode))?;
                }
            }
            Some(items) => {
                for item in items {
                    match source.data.get(&item.key) {
                        Some(data) => {
                            insert(content, &item.path, file(data, mode(item.mode, self.mode)))?;
                        }
                        None if optional => {}
                        None => {
                            return Err(VolumeProblem::KeyNotFound {
                                key: item.key.clone(),
                            });
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn insert(content: &mut Content, path: &str, file: Projection) -> Result<(), VolumeProblem> {
    if !is_safe(path) {
        return Err(VolumeProblem::Path {
            path: path.to_owned(),
        });
    }
    content.payload.insert(path.to_owned(), file);
    Ok(())
}

fn downward_files(
    content: &mut Content,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default: u32,
    downward: &Downward,
) -> Result<(), VolumeProblem> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            crate::fields::field(pod, &field.field_path, downward).ok_or_else(|| {
                VolumeProblem::Env(env::EnvError::Field {
                    path: field.field_path.clone(),
                })
            })?
        } else if let Some(r) = &item.resource_field_ref {
            let name = r.container_name.as_deref().unwrap_or_default();
            let spec = pod.spec.as_ref();
            let container = spec
                .into_iter()
                .flat_map(|s| {
                    s.containers
                        .iter()
                        .chain(s.init_containers.iter().flatten())
                })
                .find(|c| c.name == name)
                .ok_or_else(|| VolumeProblem::NoContainer {
                    name: name.to_owned(),
                })?;
            env::resource(container, &r.resource, r.divisor.as_ref(), downward)?
        } else {
            continue;
        };
        let file = Projection {
            data: text.into_bytes(),
            mode: mode(item.mode, default),
            uid: None,
            gid: None,
        };
        insert(content, &item.path, file)?;
    }
    Ok(())
}

/// The pod's `fsGroup`.
pub(crate) fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

/// With an `fsGroup`, the files belong to it and it may read them.
fn own(pod: &Pod, payload: &mut Payload) {
    let Some(group) = fs_group(pod) else { return };
    for file in payload.values_mut() {
        file.gid = Some(group);
        file.mode |= 0o440;
    }
}

/// The user that every container of the pod runs as, if it is one.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let shared = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| {
            c.security_context
                .as_ref()
                .and_then(|s| s.run_as_user)
                .or(shared)
        });
    let first = users.next()??;
    users
        .all(|u| u == Some(first))
        .then_some(first)
        .and_then(|u| u32::try_from(u).ok())
}
