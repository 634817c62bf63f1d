//! API aggregation: parts of `/apis` that other servers serve, by APIService objects.
//! Facts: `kube-aggregator` of 1.36.
//!
//! Invariants: who asks is told to the other server by headers that only this server's front-proxy
//! certificate makes believable; a request that this server does not authorize is not passed on; a
//! server that is known to be unavailable is not asked.

mod availability;
mod conditions;
mod discovery;
mod local;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pki::{KeyPair, Trust};
use serde_json::Value;

pub(crate) use self::availability::run as keep_availability;
pub(crate) use self::discovery::{Merged, openapi_service};
pub(crate) use self::local::{at_start, run as keep_local};

use crate::config::FrontProxy;
use crate::hooks::text;
use crate::outbound::{Endpoint, trust_bundle};
use crate::state::State;

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";

/// An APIService.
#[derive(Debug, Clone)]
pub(crate) struct ApiService {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// Who serves it; nobody else when absent.
    pub(crate) remote: Option<Remote>,
    pub(crate) available: bool,
}

/// The server behind an APIService.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    /// How to call it; what is wrong with the object, where it cannot be called.
    pub(crate) endpoint: Result<Endpoint, String>,
}

impl ApiService {
    fn of(object: &Value) -> Self {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let number = |name: &str| spec.get(name).and_then(Value::as_i64).unwrap_or_default();
        let service = spec.get("service").filter(|service| service.is_object());
        Self {
            name: api::meta::name(object).to_owned(),
            uid: api::meta::uid(object).to_owned(),
            group: text(spec, "/group").to_owned(),
            version: text(spec, "/version").to_owned(),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            remote: service.map(|service| Remote::of(spec, service)),
            available: conditions::is_available(object),
        }
    }
}

impl Remote {
    fn of(spec: &Value, service: &Value) -> Self {
        let port = service.get("port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or(443);
        let (namespace, name) = (text(service, "/namespace"), text(service, "/name"));
        let insecure = spec.get("insecureSkipTLSVerify").and_then(Value::as_bool);
        let trust = match (insecure, text(spec, "/caBundle")) {
            (Some(true), _) => Ok(Trust::Anything),
            (_, "") => Ok(Trust::System),
            (_, bundle) => trust_bundle(bundle),
        };
        let endpoint = trust.and_then(|trust| Endpoint::service(namespace, name, port, trust));
        Self {
            namespace: namespace.to_owned(),
            service: name.to_owned(),
            port,
            endpoint: endpoint.map_err(|error| error.to_string()),
        }
    }
}

/// What a remote server has said of a group version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    /// Of which APIService.
    uid: String,
    /// Its APIResourceList.
    resources: Value,
    /// Its path in `/openapi/v3`, with its hash.
    openapi_v3: Option<Value>,
    /// Its whole `/openapi/v2`.
    openapi_v2: Value,
}

type Services = Arc<[ApiService]>;

/// The remote servers, as this server knows them.
pub(crate) struct Aggregation {
    front_proxy: Option<FrontProxy>,
    read: Mutex<Option<(u64, Services)>>,
    learned: Mutex<BTreeMap<String, Arc<Learned>>>,
}

impl Aggregation {
    pub(crate) fn new(front_proxy: Option<FrontProxy>) -> Self {
        Self {
            front_proxy,
            read: Mutex::default(),
            learned: Mutex::default(),
        }
    }

    /// The certificate by which other servers believe this one.
    pub(crate) fn identity(&self) -> Option<KeyPair> {
        let front = self.front_proxy.as_ref()?;
        Some(front.identity.borrow().clone())
    }

    /// What extension servers are told of that certificate.
    pub(crate) fn front_proxy(&self) -> Option<&FrontProxy> {
        self.front_proxy.as_ref()
    }

    fn learned(&self, service: &ApiService) -> Option<Arc<Learned>> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let found = learned.get(&service.name).cloned();
        found.filter(|learned| learned.uid == service.uid)
    }

    fn learn(&self, service: &ApiService, learned: Learned) {
        let mut all = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(service.name.clone(), Arc::new(learned));
    }

    fn forget_others(&self, services: &[ApiService]) {
        let mut all = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, _| services.iter().any(|service| service.name == *name));
    }
}

/// The APIServices that other servers serve.
pub(crate) fn remotes(state: &State) -> Services {
    let kind = state.cache.kind(GROUP, PLURAL);
    // Before the objects: what changes in between is read again.
    let generation = kind.generation();
    let read = &state.aggregation.read;
    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, services)) = &*read
        && *of == generation
    {
        return services.clone();
    }
    let all = kind.list(None);
    let services: Services = all
        .iter()
        .map(|object| ApiService::of(&object.value()))
        .filter(|service| service.remote.is_some())
        .collect();
    *read = Some((generation, services.clone()));
    services
}

/// The APIService whose server a path belongs to.
pub(crate) fn serving(state: &State, path: &str) -> Option<ApiService> {
    let rest = path.strip_prefix("/apis/")?;
    let mut parts = rest.split('/');
    let (group, version) = (parts.next()?, parts.next().filter(|v| !v.is_empty())?);
    let services = remotes(state);
    let found = services
        .iter()
        .find(|service| service.group == group && service.version == version);
    found.cloned()
}
