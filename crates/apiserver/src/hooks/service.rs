//! Services: cluster IPs and node ports, each held once.
//!
//! Invariants: what a stored Service names is claimed by it in the store's own transaction. The pools
//! in memory say what is worth trying: they hold what the cache's Services name, and what is on its
//! way there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::status::ApiError;
use api::validate::FieldError;
use serde_json::{Map, Value, json};
use store::{Expect, StoreError, Write};

use super::{Hook, set, spec_mut, text};
use crate::alloc::Refused;
use crate::cache::Object;
use crate::pipeline::Call;
use crate::pipeline::claims::{Claims, ROOT};
use crate::state::State;

pub(super) struct Services;

impl Hook for Services {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"loadBalancer": {}}));
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        if call.subresource.is_empty() {
            carry_over(new, old);
        }
        Ok(())
    }

    fn allocate(&self, call: &Call, new: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        let mut taken = Taken {
            state: &call.state,
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        let before = old.map(Held::of).unwrap_or_default();
        match taken.fill(new, &before) {
            Ok(()) => {
                taken.keep();
                Ok(())
            }
            Err(error) => Err(ApiError::invalid(
                &call.resource,
                api::meta::name(new),
                &[error],
            )),
        }
    }

    fn claims(&self, service: &Value) -> Claims {
        Held::of(service).claims()
    }

    fn release(&self, call: &Call, gone: &Value, kept: Option<&Value>) {
        let kept = kept.map(Held::of).unwrap_or_default();
        let gone = Held::of(gone);
        follow(&call.state, &gone, &kept);
        // Another server's Service may have come to hold it meanwhile.
        for service in call.state.core("services").list(None) {
            follow(&call.state, &Held::default(), &Held::of(&service.value()));
        }
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn create_on_update(&self) -> bool {
        true
    }
}

/// Makes the pools hold what the Services hold that were there before, and follow the cache from now
/// on.
pub(crate) async fn set_up(state: &Arc<State>) -> Result<(), StoreError> {
    let services = state.core("services");
    let weak = Arc::downgrade(state);
    services.observe(Box::new(move |before, after| {
        if let Some(state) = weak.upgrade() {
            let held = |object: Option<&Object>| {
                object.map_or_else(Held::default, |object| Held::of(&object.value()))
            };
            follow(&state, &held(before), &held(after));
        }
    }));
    for service in services.list(None) {
        let held = Held::of(&service.value());
        follow(state, &Held::default(), &held);
        // One that an older version wrote has no claims yet.
        for key in held.claims() {
            let owner = format!("services/{}", service.key);
            if state.store.get(&key).await?.is_some() {
                continue;
            }
            match state
                .store
                .write(Write::put(&key, Expect::Absent, owner))
                .await
            {
                Ok(_) => {}
                Err(StoreError::Conflict { .. }) => {
                    tracing::warn!(service = %service.key, key, "held by two Services");
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Moves the pools from what one state holds to what another does.
fn follow(state: &State, before: &Held, after: &Held) {
    for address in before.addresses.difference(&after.addresses) {
        state.addresses.free(*address);
    }
    for port in before.ports.difference(&after.ports) {
        state.ports.free(*port);
    }
    // Mostly they are held already: by the very write that this is told of.
    for address in after.addresses.difference(&before.addresses) {
        let _ = state.addresses.take(*address);
    }
    for port in after.ports.difference(&before.ports) {
        let _ = state.ports.take(*port);
    }
}

/// What a Service holds of the pools.
#[derive(Debug, Default)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn port_number(value: Option<&Value>) -> Option<u16> {
    value
        .and_then(Value::as_u64)
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
}

impl Held {
    fn claims(&self) -> Claims {
        let addresses = self
            .addresses
            .iter()
            .map(|a| format!("{ROOT}addresses/{a}"));
        let ports = self.ports.iter().map(|p| format!("{ROOT}nodeports/{p}"));
        addresses.chain(ports).collect()
    }

    fn of(service: &Value) -> Self {
        let spec = service.get("spec");
        let listed = spec
            .and_then(|s| s.get("clusterIPs"))
            .and_then(Value::as_array);
        let addresses = listed
            .into_iter()
            .flatten()
            .chain(spec.and_then(|s| s.get("clusterIP")))
            .filter_map(Value::as_str)
            .filter_map(|a| a.parse().ok())
            .collect();
        let health = port_number(spec.and_then(|s| s.get("healthCheckNodePort")));
        let ports = ports(service)
            .filter_map(|p| port_number(p.get("nodePort")))
            .chain(health)
            .collect();
        Self { addresses, ports }
    }
}

/// What was taken so far; given back unless kept.
struct Taken<'a> {
    state: &'a State,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for address in &self.addresses {
            self.state.addresses.free(*address);
        }
        for port in &self.ports {
            self.state.ports.free(*port);
        }
    }
}

fn needs_address(service: &Value) -> bool {
    text(service, "/spec/type") != "ExternalName" && text(service, "/spec/clusterIP") != "None"
}

fn needs_ports(service: &Value) -> bool {
    match text(service, "/spec/type") {
        "NodePort" => true,
        "LoadBalancer" => {
            service
                .pointer("/spec/allocateLoadBalancerNodePorts")
                .and_then(Value::as_bool)
                != Some(false)
        }
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    text(service, "/spec/type") == "LoadBalancer"
        && text(service, "/spec/externalTrafficPolicy") == "Local"
}

impl Taken<'_> {
    fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
    }

    /// Fills in what the Service needs, on top of what it held before.
    fn fill(&mut self, service: &mut Value, before: &Held) -> Result<(), FieldError> {
        if text(service, "/spec/type") != "ExternalName" {
            self.fill_family(service);
        }
        if needs_address(service) {
            self.fill_address(service, before)?;
        }
        let wants = needs_ports(service);
        let mut given: BTreeSet<u16> = before.ports.clone();
        let list = service
            .pointer_mut("/spec/ports")
            .and_then(Value::as_array_mut);
        for (i, port) in list.into_iter().flatten().enumerate() {
            match port_number(port.get("nodePort")) {
                Some(number) if given.insert(number) => {
                    self.take_port(number, &format!("spec.ports[{i}].nodePort"))?;
                }
                None if wants => {
                    let number = self.any_port(&format!("spec.ports[{i}].nodePort"))?;
                    given.insert(number);
                    set(port, "nodePort", number.into());
                }
                Some(_) | None => {}
            }
        }
        if needs_health_port(service) {
            let path = "spec.healthCheckNodePort";
            match port_number(service.pointer("/spec/healthCheckNodePort")) {
                Some(number) if given.insert(number) => self.take_port(number, path)?,
                Some(_) => {}
                None => {
                    let number = self.any_port(path)?;
                    if let Some(spec) = spec_mut(service) {
                        spec.insert("healthCheckNodePort".to_owned(), number.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn fill_family(&self, service: &mut Value) {
        let family = if self.state.addresses.network().addr().is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        let headless = text(service, "/spec/clusterIP") == "None";
        let Some(spec) = spec_mut(service) else {
            return;
        };
        let empty = |spec: &Map<String, Value>, name: &str| {
            spec.get(name)
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
        };
        if empty(spec, "ipFamilies") {
            spec.insert("ipFamilies".to_owned(), json!([family]));
        }
        if spec.get("ipFamilyPolicy").is_none_or(Value::is_null) {
            spec.insert("ipFamilyPolicy".to_owned(), "SingleStack".into());
        }
        if headless && empty(spec, "clusterIPs") {
            spec.insert("clusterIPs".to_owned(), json!(["None"]));
        }
    }

    fn fill_address(&mut self, service: &mut Value, before: &Held) -> Result<(), FieldError> {
        let first = service
            .pointer("/spec/clusterIPs/0")
            .and_then(Value::as_str);
        let chosen = match text(service, "/spec/clusterIP") {
            "" => first.unwrap_or_default(),
            chosen => chosen,
        }
        .to_owned();
        let invalid = |why: String| FieldError::invalid("spec.clusterIPs", json!([chosen]), why);
        let pool = &self.state.addresses;
        let address = if chosen.is_empty() {
            let address = pool
                .take_any()
                .map_err(|_| invalid("failed to allocate a serviceIP: range is full".to_owned()))?;
            self.addresses.push(address);
            address
        } else {
            let address: IpAddr = chosen.parse().map_err(|_| {
                FieldError::invalid(
                    "spec.clusterIPs[0]",
                    chosen.as_str(),
                    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                )
            })?;
            if !before.addresses.contains(&address) {
                pool.take(address).map_err(|refused| {
                    invalid(format!(
                        "failed to allocate IP {chosen}: {}",
                        self.ip_words(refused)
                    ))
                })?;
                self.addresses.push(address);
            }
            address
        };
        if let Some(spec) = spec_mut(service) {
            spec.insert("clusterIP".to_owned(), address.to_string().into());
            spec.insert("clusterIPs".to_owned(), json!([address.to_string()]));
        }
        Ok(())
    }

    fn ip_words(&self, refused: Refused) -> String {
        match refused {
            Refused::OutOfRange => format!(
                "provided IP is not in the valid range. The range of valid IPs is {}",
                self.state.addresses.network()
            ),
            Refused::Taken => "provided IP is already allocated".to_owned(),
            Refused::Exhausted => "range is full".to_owned(),
        }
    }

    fn take_port(&mut self, number: u16, path: &str) -> Result<(), FieldError> {
        let range = self.state.ports.range();
        self.state.ports.take(number).map_err(|refused| {
            let why = match refused {
                Refused::OutOfRange => format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                ),
                _ => "provided port is already allocated".to_owned(),
            };
            FieldError::invalid(path, number, why)
        })?;
        self.ports.push(number);
        Ok(())
    }

    fn any_port(&mut self, path: &str) -> Result<u16, FieldError> {
        let number = self.state.ports.take_any().map_err(|_| {
            FieldError::invalid(path, 0, "failed to allocate a nodePort: range is full")
        })?;
        self.ports.push(number);
        Ok(number)
    }
}

/// Upstream's rules for what a change leaves out: allocated values stay, those of a type that it
/// no longer has go.
fn carry_over(new: &mut Value, old: &Value) {
    let (old_type, new_type) = (text(old, "/spec/type"), text(new, "/spec/type").to_owned());
    let same = |new: &Value, field: &str| {
        let pointer = format!("/spec/{field}");
        new.pointer(&pointer) == old.pointer(&pointer)
    };
    let mut drop: Vec<&str> = Vec::new();
    let mut copy: Vec<&str> = Vec::new();
    if new_type == "ExternalName" && old_type != "ExternalName" {
        drop.extend(
            ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]
                .into_iter()
                .filter(|field| same(new, field)),
        );
    } else if new_type != "ExternalName" && old_type != "ExternalName" {
        if text(new, "/spec/clusterIP").is_empty() {
            copy.push("clusterIP");
            copy.push("clusterIPs");
        } else if new.pointer("/spec/clusterIPs").is_none() && same(new, "clusterIP") {
            copy.push("clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if new
                .pointer(&format!("/spec/{field}"))
                .is_none_or(Value::is_null)
            {
                copy.push(field);
            }
        }
    }
    if needs_health_port(old) && needs_health_port(new) {
        if port_number(new.pointer("/spec/healthCheckNodePort")).is_none() {
            copy.push("healthCheckNodePort");
        }
    } else if needs_health_port(old) && same(new, "healthCheckNodePort") {
        drop.push("healthCheckNodePort");
    }
    let (needed, needs) = (needs_ports(old), needs_ports(new));
    let before: Vec<&Value> = ports(old).collect();
    if let Some(spec) = spec_mut(new) {
        for field in drop {
            spec.remove(field);
        }
        for field in copy {
            if let Some(value) = old.get("spec").and_then(|s| s.get(field)) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
        let list = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in list.into_iter().flatten() {
            let matching = before.iter().find(|p| {
                p.get("port") == port.get("port") && p.get("protocol") == port.get("protocol")
            });
            let held = matching.and_then(|p| p.get("nodePort"));
            let named = port_number(port.get("nodePort"));
            if needs && named.is_none() && needed {
                if let Some(held) = held {
                    set(port, "nodePort", held.clone());
                }
            } else if !needs
                && needed
                && named.is_some()
                && named == port_number(held)
                && let Some(map) = port.as_object_mut()
            {
                map.remove("nodePort");
            }
        }
    }
}
