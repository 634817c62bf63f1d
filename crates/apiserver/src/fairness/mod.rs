//! Priority and fairness: FlowSchemas sort requests into priority levels, which share the server's
//! seats; within a level flows take turns.
//!
//! Invariants: every request that is not long-running is let in by a level or told to come again; the
//! objects are honoured as they are in the cache, and the mandatory ones always hold.

pub(crate) mod bootstrap;
mod level;
mod queues;
mod schema;
pub(crate) mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::status::ApiError;
use http::{HeaderValue, Response};
use serde_json::Value;

pub(crate) use self::level::Permit;
use self::level::{Level, Levels, Limits, Rejection};
use self::queues::Queuing;
use self::schema::Schema;
use crate::auth::rbac::Attributes;
use crate::cache::{Cache, KindCache};
use crate::http::Body;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The most seats that a list takes, and how many objects one of them stands for.
const SEATS_LIMIT: u32 = 10;
const OBJECTS_PER_SEAT: usize = 100;
const SCHEMA_HEADER: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_HEADER: &str = "x-kubernetes-pf-prioritylevel-uid";

/// How the seats of the server are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessOptions {
    /// Whether requests are sorted and limited at all.
    pub enabled: bool,
    /// How many seats all levels share.
    pub seats: u32,
}

impl Default for FairnessOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            // Upstream's 400 for reads and 200 for writes.
            seats: 600,
        }
    }
}

/// What has become of the requests of a schema.
#[derive(Debug, Default)]
struct Counts {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
}

/// A schema with its level.
struct Sorted {
    schema: Schema,
    level: Arc<Level>,
    level_uid: String,
    counts: Arc<Counts>,
}

/// The objects as of some generation.
#[derive(Default)]
struct Plan {
    generations: Option<[u64; 2]>,
    schemas: Vec<Sorted>,
    levels: Levels,
}

/// By schema and level.
type AllCounts = BTreeMap<(String, String), Arc<Counts>>;

/// Where a request was sorted to; told to its client.
#[derive(Clone)]
pub(crate) struct Flow {
    schema_uid: String,
    level_uid: String,
}

impl Flow {
    /// Tells the client.
    pub(crate) fn tell(&self, response: &mut Response<Body>) {
        for (name, uid) in [
            (SCHEMA_HEADER, &self.schema_uid),
            (LEVEL_HEADER, &self.level_uid),
        ] {
            if let Ok(value) = HeaderValue::from_str(uid) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

/// A figure of a level: its name, what it says, and how it is read.
type Gauge = (&'static str, &'static str, fn(&Level) -> i64);

/// Lets requests in.
pub(crate) struct Fairness {
    options: FairnessOptions,
    /// FlowSchemas and PriorityLevelConfigurations.
    kinds: [Arc<KindCache>; 2],
    plan: RwLock<Arc<Plan>>,
    /// Every level that there was, by name; the same one again when it comes back.
    known: Mutex<BTreeMap<String, Arc<Level>>>,
    counts: Mutex<AllCounts>,
}

impl Fairness {
    pub(crate) fn new(options: FairnessOptions, cache: &Cache) -> Self {
        Self {
            options,
            kinds: ["flowschemas", "prioritylevelconfigurations"].map(|p| cache.kind(GROUP, p)),
            plan: RwLock::default(),
            known: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Lets a request in that takes so many seats, when its turn comes. `None` when nothing sorts it
    /// (yet): at the very start.
    pub(crate) async fn admit(
        &self,
        attributes: &Attributes<'_>,
        seats: impl FnOnce() -> u32,
        flow: &mut Option<Flow>,
    ) -> Result<Option<Permit>, ApiError> {
        if !self.options.enabled {
            return Ok(None);
        }
        let plan = self.plan();
        let sorted = plan
            .schemas
            .iter()
            .find(|sorted| sorted.schema.matches(attributes));
        let Some(sorted) = sorted else {
            return Ok(None);
        };
        *flow = Some(Flow {
            schema_uid: sorted.schema.uid.clone(),
            level_uid: sorted.level_uid.clone(),
        });
        let hash = sorted.schema.flow(attributes);
        match sorted.level.enter(&plan.levels, hash, seats()).await {
            Ok(permit) => {
                sorted.counts.dispatched.fetch_add(1, Ordering::Relaxed);
                Ok(Some(permit))
            }
            Err(rejection) => {
                sorted.counts.rejected[rejection as usize].fetch_add(1, Ordering::Relaxed);
                let words = "Too many requests, please try again later.";
                Err(ApiError::too_many(words, 1))
            }
        }
    }

    /// The seats that a request takes; lists by how much there is.
    pub(crate) fn seats(verb: &str, limit: Option<i64>, objects: impl FnOnce() -> usize) -> u32 {
        if verb != "list" {
            return 1;
        }
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit > 0);
        let objects = objects().min(limit.unwrap_or(usize::MAX));
        let seats = u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(SEATS_LIMIT);
        seats.clamp(1, SEATS_LIMIT)
    }

    fn plan(&self) -> Arc<Plan> {
        let generations = || Some([0, 1].map(|kind: usize| self.kinds[kind].generation()));
        let read = || {
            self.plan
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let plan = read();
        if plan.generations == generations() {
            return plan;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the objects are read: a change in between only means one more turn.
        let now = generations();
        let plan = read();
        if plan.generations == now {
            return plan;
        }
        let plan = Arc::new(self.compile(now, &mut known));
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = plan.clone();
        plan
    }

    fn compile(
        &self,
        generations: Option<[u64; 2]>,
        known: &mut BTreeMap<String, Arc<Level>>,
    ) -> Plan {
        let objects = |kind: usize| -> Vec<Value> {
            let objects = self.kinds[kind].list(None);
            objects.iter().map(|object| object.value()).collect()
        };
        let levels = objects(1);
        let shares: u64 = levels.iter().map(shares).sum();
        let mut uids = BTreeMap::new();
        let mut current: Vec<Arc<Level>> = Vec::new();
        for object in &levels {
            let name = api::meta::name(object);
            let level = known.entry(name.to_owned());
            let level = level.or_insert_with(|| Arc::new(Level::new(name))).clone();
            level.configure(limits(object, self.options.seats, shares));
            uids.insert(
                name.to_owned(),
                (level.clone(), api::meta::uid(object).to_owned()),
            );
            current.push(level);
        }
        known.retain(|name, level| uids.contains_key(name) || level.in_use() > 0);
        let mut schemas: Vec<Schema> = objects(0).iter().map(Schema::from_value).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sorted = schemas.into_iter().filter_map(|schema| {
            // One that leads nowhere is as if it were not there; its status says so.
            let (level, level_uid) = uids.get(&schema.level)?.clone();
            let counts = counts.entry((schema.name.clone(), schema.level.clone()));
            Some(Sorted {
                counts: counts.or_default().clone(),
                schema,
                level,
                level_uid,
            })
        });
        Plan {
            generations,
            schemas: sorted.collect(),
            levels: current.into(),
        }
    }

    /// The figures, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let name = format!("apiserver_flowcontrol_{name}");
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let counts = self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let name = "dispatched_requests_total";
        head(
            &mut out,
            name,
            "counter",
            "Number of requests executed by API Priority and Fairness",
        );
        for ((schema, level), counts) in &counts {
            let count = counts.dispatched.load(Ordering::Relaxed);
            let labels = format!("flow_schema=\"{schema}\",priority_level=\"{level}\"");
            let _ = writeln!(out, "apiserver_flowcontrol_{name}{{{labels}}} {count}");
        }
        let name = "rejected_requests_total";
        head(
            &mut out,
            name,
            "counter",
            "Number of requests rejected by API Priority and Fairness",
        );
        let rejections = [
            Rejection::QueueFull,
            Rejection::ConcurrencyLimit,
            Rejection::TimeOut,
        ];
        for ((schema, level), counts) in &counts {
            for rejection in rejections {
                let count = counts.rejected[rejection as usize].load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        out,
                        "apiserver_flowcontrol_{name}{{flow_schema=\"{schema}\",priority_level=\"{level}\",reason=\"{}\"}} {count}",
                        rejection.name()
                    );
                }
            }
        }
        let levels = self.plan().levels.clone();
        let gauges: [Gauge; 5] = [
            (
                "nominal_limit_seats",
                "Nominal number of execution seats configured for each priority level",
                |l| l.nominal().into(),
            ),
            (
                "current_executing_seats",
                "Concurrency (number of seats) occupied by the currently executing requests",
                |l| l.in_use().into(),
            ),
            (
                "current_executing_requests",
                "Number of requests executing in the API Priority and Fairness subsystem",
                |l| l.executing.load(Ordering::Relaxed),
            ),
            (
                "current_inqueue_requests",
                "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
                |l| l.waiting().into(),
            ),
            (
                "borrowed_seats_total",
                "Seats that requests of a priority level have taken from others",
                |l| i64::try_from(l.borrowed.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ),
        ];
        for (name, help, value) in gauges {
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            head(&mut out, name, kind, help);
            for level in levels.iter() {
                let (level, value) = (&level.name, value(level));
                let _ = writeln!(
                    out,
                    "apiserver_flowcontrol_{name}{{priority_level=\"{level}\"}} {value}"
                );
            }
        }
        out
    }
}

fn number(object: &Value, pointer: &str, default: u64) -> u64 {
    object
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or(default)
}

/// The nominal shares of a level.
fn shares(object: &Value) -> u64 {
    if object["spec"]["type"] == "Exempt" {
        number(object, "/spec/exempt/nominalConcurrencyShares", 0)
    } else {
        number(object, "/spec/limited/nominalConcurrencyShares", 30)
    }
}

fn limits(object: &Value, seats: u32, all_shares: u64) -> Limits {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let nominal = (u64::from(seats) * shares(object)).div_ceil(all_shares.max(1));
    let exempt = object["spec"]["type"] == "Exempt";
    let of = if exempt { "exempt" } else { "limited" };
    let percent = |field: &str| {
        object
            .pointer(&format!("/spec/{of}/{field}"))
            .and_then(Value::as_u64)
    };
    let part = |percent: u64| small((nominal * percent + 50) / 100);
    let size = |field: &str, default: u64| {
        let pointer = format!("/spec/limited/limitResponse/queuing/{field}");
        usize::try_from(number(object, &pointer, default)).unwrap_or(usize::MAX)
    };
    let queues = object.pointer("/spec/limited/limitResponse/type");
    Limits {
        exempt,
        nominal: small(nominal),
        lendable: part(percent("lendablePercent").unwrap_or(0)),
        borrowable: percent("borrowingLimitPercent").map_or(u32::MAX, part),
        queuing: queues.is_some_and(|kind| kind == "Queue").then(|| Queuing {
            queues: size("queues", 64),
            hand_size: size("handSize", 8),
            queue_length_limit: size("queueLengthLimit", 50),
        }),
    }
}
