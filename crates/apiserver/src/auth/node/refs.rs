//! What objects name, read out of their bytes without the rest: which objects a pod needs, which
//! Secrets a volume needs. Pure.
//!
//! Invariant: what cannot be read names nothing, and so gives nobody anything.

use std::collections::BTreeSet;

use api::meta::MIRROR;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Thing;

/// What an object gives to one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// The node.
    pub(super) node: String,
    /// Kinds and keys (`namespace/name`, or `name`).
    pub(super) things: BTreeSet<(Thing, String)>,
}

/// A volume that is bound to a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// `namespace/name` of the claim.
    pub(super) claim: String,
    /// `namespace/name` of the Secrets that nodes need to mount it.
    pub(super) secrets: BTreeSet<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    annotations: Option<std::collections::BTreeMap<std::borrow::Cow<'a, str>, &'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: String,
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
    resource_claims: Vec<Claim>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    resource_claim_statuses: Vec<Claim>,
    extended_resource_claim_status: Claim,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Claim {
    name: String,
    resource_claim_name: String,
    resource_claim_template_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    env_from: Vec<EnvFrom>,
    env: Vec<Env>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EnvFrom {
    secret_ref: Named,
    config_map_ref: Named,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Env {
    value_from: EnvSource,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EnvSource {
    secret_key_ref: Named,
    config_map_key_ref: Named,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
    projected: Option<Projected>,
    #[serde(flatten)]
    source: Source,
}

/// The sources that pods and PersistentVolumes have alike.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    azure_file: Option<SecretVolume>,
    cephfs: Option<Referring>,
    cinder: Option<Referring>,
    flex_volume: Option<Referring>,
    rbd: Option<Referring>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<Referring>,
    iscsi: Option<Referring>,
    storageos: Option<Referring>,
    csi: Option<Csi>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SecretVolume {
    secret_name: String,
    secret_namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    sources: Vec<Projection>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Projection {
    secret: Named,
    config_map: Named,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Referring {
    secret_ref: Named,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Csi {
    node_publish_secret_ref: Named,
    node_stage_secret_ref: Named,
    node_expand_secret_ref: Named,
}

/// What a pod gives to its node: itself, and what it names. A mirror pod gives nothing but itself,
/// since nodes make them.
pub(super) fn of_pod(json: &[u8], namespace: &str, name: &str) -> Option<Grant> {
    let pod: Pod<'_> = serde_json::from_slice(json).ok()?;
    let Pod {
        metadata,
        spec,
        status,
    } = pod;
    if spec.node_name.is_empty() {
        return None;
    }
    let mut things = BTreeSet::from([(Thing::Pod, format!("{namespace}/{name}"))]);
    let is_mirror = metadata
        .annotations
        .is_some_and(|all| all.contains_key(MIRROR));
    if !is_mirror {
        let put = |thing, named: &str| {
            if !named.is_empty() {
                things.insert((thing, format!("{namespace}/{named}")));
            }
        };
        spec.name_things(&status, name, put);
    }
    Some(Grant {
        node: spec.node_name,
        things,
    })
}

/// What a pod names, whether or not it gives that to anybody.
pub(super) fn named_by(pod: &Value) -> Option<BTreeSet<(Thing, String)>> {
    let json = pod.to_string();
    let pod: Pod<'_> = serde_json::from_str(&json).ok()?;
    let mut things = BTreeSet::new();
    pod.spec.name_things(&pod.status, "", |thing, named| {
        if !named.is_empty() {
            things.insert((thing, named.to_owned()));
        }
    });
    Some(things)
}

impl PodSpec {
    fn name_things(&self, status: &PodStatus, pod: &str, mut put: impl FnMut(Thing, &str)) {
        put(Thing::ServiceAccount, &self.service_account_name);
        for secret in &self.image_pull_secrets {
            put(Thing::Secret, &secret.name);
        }
        let containers = self.init_containers.iter().chain(&self.containers);
        for container in containers.chain(&self.ephemeral_containers) {
            for from in &container.env_from {
                put(Thing::Secret, &from.secret_ref.name);
                put(Thing::ConfigMap, &from.config_map_ref.name);
            }
            for env in &container.env {
                put(Thing::Secret, &env.value_from.secret_key_ref.name);
                put(Thing::ConfigMap, &env.value_from.config_map_key_ref.name);
            }
        }
        for volume in &self.volumes {
            volume.name_things(pod, &mut put);
        }
        for claim in &self.resource_claims {
            // One of a template is known when it is made.
            let made = |known: &&Claim| known.name == claim.name;
            let name = if claim.resource_claim_template_name.is_empty() {
                Some(claim)
            } else {
                status.resource_claim_statuses.iter().find(made)
            };
            put(
                Thing::ResourceClaim,
                name.map_or("", |claim| &claim.resource_claim_name),
            );
        }
        let extended = &status.extended_resource_claim_status;
        put(Thing::ResourceClaim, &extended.resource_claim_name);
    }
}

impl Volume {
    fn name_things(&self, pod: &str, put: &mut impl FnMut(Thing, &str)) {
        if let Some(secret) = &self.secret {
            put(Thing::Secret, &secret.secret_name);
        }
        if let Some(map) = &self.config_map {
            put(Thing::ConfigMap, &map.name);
        }
        for projection in self.projected.iter().flat_map(|all| &all.sources) {
            put(Thing::Secret, &projection.secret.name);
            put(Thing::ConfigMap, &projection.config_map.name);
        }
        if let Some(claim) = &self.persistent_volume_claim {
            put(Thing::Claim, &claim.claim_name);
        } else if self.ephemeral.is_some() {
            put(Thing::Claim, &format!("{pod}-{}", self.name));
        }
        if let Some(file) = &self.source.azure_file {
            put(Thing::Secret, &file.secret_name);
        }
        for (named, _) in self.source.references() {
            put(Thing::Secret, &named.name);
        }
        if let Some(csi) = &self.source.csi {
            put(Thing::Secret, &csi.node_publish_secret_ref.name);
        }
    }
}

impl Source {
    /// The Secrets that are named, and whether one without a namespace is in the claim's.
    fn references(&self) -> impl Iterator<Item = (&Named, bool)> {
        let of_claim = [
            &self.cephfs,
            &self.flex_volume,
            &self.rbd,
            &self.scale_io,
            &self.iscsi,
        ];
        let whole = [&self.cinder, &self.storageos];
        let of_claim = of_claim
            .into_iter()
            .flatten()
            .map(|of| (&of.secret_ref, true));
        of_claim.chain(
            whole
                .into_iter()
                .flatten()
                .map(|of| (&of.secret_ref, false)),
        )
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PersistentVolume {
    spec: VolumeSpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct VolumeSpec {
    claim_ref: Option<Named>,
    #[serde(flatten)]
    source: Source,
}

/// The claim that a PersistentVolume is bound to, and the Secrets that nodes need for it.
pub(super) fn of_volume(json: &[u8]) -> Option<Bound> {
    let volume: PersistentVolume = serde_json::from_slice(json).ok()?;
    let VolumeSpec { claim_ref, source } = volume.spec;
    let claim = claim_ref?;
    let mut secrets = BTreeSet::new();
    let mut put = |namespace: &str, name: &str| {
        if !name.is_empty() {
            secrets.insert(format!("{namespace}/{name}"));
        }
    };
    if let Some(file) = &source.azure_file {
        let own = file
            .secret_namespace
            .as_deref()
            .filter(|own| !own.is_empty());
        put(own.unwrap_or(&claim.namespace), &file.secret_name);
    }
    for (named, in_claims) in source.references() {
        let namespace = if named.namespace.is_empty() && in_claims {
            &claim.namespace
        } else {
            &named.namespace
        };
        put(namespace, &named.name);
    }
    if let Some(csi) = &source.csi {
        let all = [
            &csi.node_publish_secret_ref,
            &csi.node_stage_secret_ref,
            &csi.node_expand_secret_ref,
        ];
        for named in all {
            put(&named.namespace, &named.name);
        }
    }
    Some(Bound {
        claim: format!("{}/{}", claim.namespace, claim.name),
        secrets,
    })
}

/// What gives only itself to the node that its `spec.nodeName` says.
pub(super) fn of_placed(json: &[u8], thing: Thing, key: &str) -> Option<Grant> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Placed {
        spec: Spec,
    }
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
    }
    let placed: Placed = serde_json::from_slice(json).ok()?;
    let node = placed.spec.node_name.filter(|node| !node.is_empty())?;
    Some(Grant {
        node,
        things: BTreeSet::from([(thing, key.to_owned())]),
    })
}
