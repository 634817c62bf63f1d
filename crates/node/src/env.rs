//! The environment, command and arguments of a container.
//!
//! Invariant: the order of precedence is service variables, `envFrom`, `env`; a
//! reference that cannot be resolved stays as it was written.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use k8s_openapi::{
    api::core::v1::{Container, EnvVar, Pod, Service},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{fields, resources};

#[cfg(test)]
mod tests;

/// Expands `$(NAME)`; `$$` is a dollar sign, an unknown name stays as it is.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// An object whose keys become variables or files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its data.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// The ConfigMaps and Secrets that a container refers to, already fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// By name; absent means that the object does not exist.
    pub config_maps: HashMap<String, Source>,
    /// By name.
    pub secrets: HashMap<String, Source>,
}

/// Why the environment cannot be made. The words are upstream's: users see them
/// in `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvError {
    /// A referenced object is missing.
    #[error("{kind} \"{name}\" not found")]
    ObjectNotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key is missing.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyNotFound {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// A field path is not known.
    #[error("unsupported fieldPath: {path}")]
    Field {
        /// The path.
        path: String,
    },
    /// A resource name is not known.
    #[error("unsupported container resource: {resource}")]
    Resource {
        /// The resource.
        resource: String,
    },
}

/// Facts about pod and node that the downward API shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Downward {
    /// Addresses of the pod.
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of the node.
    pub host_ips: Vec<IpAddr>,
    /// Allocatable CPU of the node, in thousandths.
    pub node_cpu_milli: i64,
    /// Allocatable memory of the node, in bytes.
    pub node_memory_bytes: i64,
    /// Allocatable ephemeral storage of the node, in bytes.
    pub node_storage_bytes: i64,
}

/// The variables of a container in order of first definition, each name once.
///
/// # Errors
/// When something that is not optional is missing.
pub(crate) fn variables(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &BTreeMap<String, String>,
    downward: &Downward,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut out = Variables::default();
    for from in container.env_from.iter().flatten() {
        let (source, kind, name, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (
                sources.config_maps.get(&r.name),
                "configmap",
                &r.name,
                r.optional,
            ),
            (None, Some(r)) => (sources.secrets.get(&r.name), "secret", &r.name, r.optional),
            (None, None) => continue,
        };
        let Some(source) = source else {
            if optional == Some(true) {
                continue;
            }
            return Err(EnvError::ObjectNotFound {
                kind,
                name: name.clone(),
            });
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in &source.data {
            out.set(
                format!("{prefix}{key}"),
                String::from_utf8_lossy(value).into_owned(),
            );
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            None => {
                let text = var.value.as_deref().unwrap_or_default();
                Some(expand(text, &|name| {
                    out.get(name).or_else(|| services.get(name)).cloned()
                }))
            }
            Some(_) => from_source(pod, container, var, sources, downward)?,
        };
        if let Some(value) = value {
            out.set(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        if out.get(name).is_none() {
            out.set(name.clone(), value.clone());
        }
    }
    Ok(out.list)
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    at: HashMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&String> {
        self.at.get(name).map(|i| &self.list[*i].1)
    }
    fn set(&mut self, name: String, value: String) {
        if let Some(i) = self.at.get(&name) {
            self.list[*i].1 = value;
        } else {
            self.at.insert(name.clone(), self.list.len());
            self.list.push((name, value));
        }
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    sources: &Sources,
    downward: &Downward,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &var.value_from else {
        return Ok(None);
    };
    if let Some(field) = &from.field_ref {
        return fields::field(pod, &field.field_path, downward)
            .map(Some)
            .ok_or_else(|| EnvError::Field {
                path: field.field_path.clone(),
            });
    }
    if let Some(r) = &from.resource_field_ref {
        let named = r.container_name.as_deref().and_then(|name| {
            let spec = pod.spec.as_ref()?;
            spec.containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
                .find(|c| c.name == name)
        });
        return resource(
            named.unwrap_or(container),
            &r.resource,
            r.divisor.as_ref(),
            downward,
        )
        .map(Some);
    }
    let (source, kind, lower, name, key, optional) =
        match (&from.config_map_key_ref, &from.secret_key_ref) {
            (Some(r), _) => (
                sources.config_maps.get(&r.name),
                "ConfigMap",
                "configmap",
                &r.name,
                &r.key,
                r.optional,
            ),
            (None, Some(r)) => (
                sources.secrets.get(&r.name),
                "Secret",
                "secret",
                &r.name,
                &r.key,
                r.optional,
            ),
            (None, None) => return Ok(None),
        };
    let optional = optional == Some(true);
    match source.map(|s| s.data.get(key)) {
        Some(Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional => Ok(None),
        None => Err(EnvError::ObjectNotFound {
            kind: lower,
            name: name.clone(),
        }),
        Some(None) => Err(EnvError::KeyNotFound {
            key: key.clone(),
            kind,
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
        }),
    }
}

/// A `resourceFieldRef`: limits fall back to what the node has.
///
/// # Errors
/// When the resource is not known.
pub(crate) fn resource(
    container: &Container,
    name: &str,
    divisor: Option<&Quantity>,
    downward: &Downward,
) -> Result<String, EnvError> {
    let unknown = || EnvError::Resource {
        resource: name.to_owned(),
    };
    let (list, key) = name.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let limits = resources
        .and_then(|r| r.limits.as_ref())
        .and_then(|l| l.get(key));
    let requests = resources
        .and_then(|r| r.requests.as_ref())
        .and_then(|l| l.get(key));
    let cpu = key == "cpu";
    let read = |q: &Quantity| {
        if cpu {
            resources::milli(q)
        } else {
            resources::bytes(q)
        }
    };
    let node = match key {
        "cpu" => downward.node_cpu_milli,
        "memory" => downward.node_memory_bytes,
        "ephemeral-storage" => downward.node_storage_bytes,
        _ if key.starts_with("hugepages-") => 0,
        _ => return Err(unknown()),
    };
    let value = match list {
        "limits" => limits.map(&read).filter(|v| *v > 0).unwrap_or(node),
        "requests" => requests.or(limits).map_or(0, &read),
        _ => return Err(unknown()),
    };
    let unit = divisor.map(|q| {
        if cpu {
            resources::milli(q)
        } else {
            resources::bytes(q)
        }
    });
    let unit = unit
        .filter(|u| *u > 0)
        .unwrap_or(if cpu { 1000 } else { 1 });
    Ok(((value + unit - 1) / unit).to_string())
}

/// The variables of services: those of the pod's namespace if it wants links, and
/// always those of `default/kubernetes`.
pub(crate) fn services<'a>(
    namespace: &str,
    links: bool,
    services: impl Iterator<Item = &'a Service>,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut master = None;
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let its = service.metadata.namespace.as_deref().unwrap_or_default();
        if its == "default" && name == "kubernetes" {
            master = Some(service);
        } else if links && its == namespace {
            service_variables(name, service, &mut out);
        }
    }
    if let Some(service) = master {
        service_variables("kubernetes", service, &mut out);
    }
    out
}

fn service_variables(name: &str, service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty() && *ip != "None")
    else {
        return;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = name.to_uppercase().replace('-', "_");
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for p in ports {
        if let Some(port_name) = p.name.as_deref().filter(|n| !n.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            out.insert(
                format!("{prefix}_SERVICE_PORT_{port_name}"),
                p.port.to_string(),
            );
        }
    }
    let lower = |protocol: &Option<String>| protocol.as_deref().unwrap_or("TCP").to_lowercase();
    for (i, p) in ports.iter().enumerate() {
        let protocol = lower(&p.protocol);
        let url = format!("{protocol}://{host}:{}", p.port);
        if i == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let base = format!("{prefix}_PORT_{}_{}", p.port, protocol.to_uppercase());
        out.insert(base.clone(), url);
        out.insert(format!("{base}_PROTO"), protocol);
        out.insert(format!("{base}_PORT"), p.port.to_string());
        out.insert(format!("{base}_ADDR"), ip.to_owned());
    }
}

/// The argument vector: the pod's command and args over the image's, expanded.
pub(crate) fn argv(
    container: &Container,
    entrypoint: Option<&[String]>,
    cmd: Option<&[String]>,
    variables: &[(String, String)],
) -> Vec<String> {
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let own = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|l| !l.is_empty())?;
        Some(list.iter().map(|a| expand(a, &lookup)).collect())
    };
    let command = own(&container.command);
    let args = own(&container.args);
    let mut argv = match &command {
        Some(command) => command.clone(),
        None => entrypoint.unwrap_or_default().to_vec(),
    };
    match (args, command.is_some()) {
        (Some(args), _) => argv.extend(args),
        (None, false) => argv.extend_from_slice(cmd.unwrap_or_default()),
        (None, true) => {}
    }
    argv
}
