//! Putting the programs into the kernel, and telling them what is wanted.
//!
//! Invariant: whatever the kernel lacks is told here, before the first event, in words that say what
//! to do.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use aya::maps::{Array, ArrayOfMaps, MapData, PerCpuArray, ProgramArray};
use aya::programs::BtfTracePoint;
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::{Btf, Ebpf, EbpfLoader};
use nix::sys::epoll::{Epoll, EpollCreateFlags};

use super::recipes::{self, GENERIC, Program, Recipe, STEPS, Step};
use super::stats::{Counter, Stats};
use super::translate::{self, Table};
use super::{Probes, ring, watch};
use crate::event::syscall::{self, Syscall};
use crate::event::{EventType, Selection};

/// What `cargo xtask bpf` compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../bpf/probes.bpf.o"
));

const TRANSLATIONS: usize = 64;
const MAP_TYPE_RINGBUF: u32 = 27;

/// How to capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the ring of each CPU; rounded up to a power of two of pages. 4 MiB when not said.
    pub ring_bytes: u32,
    /// How many bytes of what is read, written, sent and received an event carries; at most 8191.
    pub snap_bytes: u32,
    /// Whether opens that succeed also tell the path that the kernel found, which the caller cannot
    /// change under the probe.
    pub kernel_paths: bool,
    /// Nanoseconds that an event waits for earlier ones of other CPUs.
    pub settle_ns: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 4 << 20,
            snap_bytes: 80,
            kernel_paths: true,
            settle_ns: 100_000,
        }
    }
}

/// Why there are no probes.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel does not describe its types.
    #[error(
        "the kernel has no BTF (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF, which \
         distributions' kernels of 5.11 and later have"
    )]
    NoBtf(#[source] aya::BtfError),
    /// We may not.
    #[error("loading BPF programs needs root, or CAP_BPF and CAP_PERFMON")]
    Denied(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object could not be made to fit the kernel, or a map not be made.
    #[error("the kernel does not take the probes' maps and types: {details}")]
    Object {
        /// What the loader says.
        details: String,
    },
    /// The kernel refuses a program.
    #[error("the kernel refuses the program {program}: {details}")]
    Program {
        /// Its name in `bpf/probes.bpf.c`.
        program: &'static str,
        /// What the kernel says.
        details: String,
    },
    /// A map cannot be read or written.
    #[error("the map {map} of the probes failed")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// Something of the machine could not be read, or a ring not be mapped.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What the probes may be told while they run (`struct settings`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Settings {
    boot_ns: u64,
    snap_bytes: u32,
    kernel_paths: u32,
}

/// `struct recipe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawRecipe {
    kind: u16,
    code: u16,
    wanted: u8,
    program: u8,
    count: u8,
    copy: u8,
    copy_bytes: u8,
    spare: [u8; 3],
    steps: [Step; STEPS],
}

/// `struct table`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawTable {
    count: u32,
    spare: u32,
    lines: [[u32; 2]; TRANSLATIONS],
}

// SAFETY: numbers without padding, for which every bit pattern is a value.
unsafe impl aya::Pod for Settings {}
// SAFETY: as above; two times two bytes, eight single ones, and steps of four bytes.
unsafe impl aya::Pod for RawRecipe {}
// SAFETY: as above.
unsafe impl aya::Pod for RawTable {}

/// A program that is attached only while something of it is wanted.
struct Tracepoint {
    program: &'static str,
    point: &'static str,
    of: &'static [EventType],
}

const EXECS: &[EventType] = &[EventType::EXECVE_19_X, EventType::EXECVEAT_X];
const CLONES: &[EventType] = &[
    EventType::CLONE_20_X,
    EventType::FORK_20_X,
    EventType::VFORK_20_X,
    EventType::CLONE3_X,
];

const TRACEPOINTS: &[Tracepoint] = &[
    Tracepoint {
        program: "process_exec",
        point: "sched_process_exec",
        of: EXECS,
    },
    Tracepoint {
        program: "process_fork",
        point: "sched_process_fork",
        of: CLONES,
    },
    Tracepoint {
        program: "process_exit",
        point: "sched_process_exit",
        of: &[EventType::PROCEXIT_1_E],
    },
    Tracepoint {
        program: "signal_deliver",
        point: "signal_deliver",
        of: &[EventType::SIGNALDELIVER_E],
    },
];

const DISPATCHER: Tracepoint = Tracepoint {
    program: "sys_exit",
    point: "sys_exit",
    of: &[],
};

/// What the dispatcher goes on to.
const TARGETS: &[(&str, Program)] = &[
    ("call_exit", Program::Call),
    ("exec_exit", Program::Exec),
    ("clone_exit", Program::Clone),
];

/// The programs and their maps.
pub(super) struct Loaded {
    ebpf: Ebpf,
    settings: Settings,
    links: BTreeMap<&'static str, BtfTracePointLinkId>,
    /// Kept, since a tail-call table does not keep programs alive.
    _targets: ProgramArray<MapData>,
    rings: ArrayOfMaps<MapData, MapData>,
}

pub(super) fn load(wanted: &Selection, options: &Options) -> Result<Probes, LoadError> {
    let btf = Btf::from_sys_fs().map_err(LoadError::NoBtf)?;
    let cpus = aya::util::nr_cpus()
        .map_err(|(_, source)| io("count the CPUs", source))
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .map_max_entries("scratches", cpus)
        .map_max_entries("rings", cpus)
        .load(OBJECT)
        .map_err(refused)?;
    let targets = load_programs(&mut ebpf, &btf)?;
    let boot_ns = boot_ns();
    let rings = take(&mut ebpf, "rings")?;
    let mut loaded = Loaded {
        settings: Settings {
            boot_ns,
            snap_bytes: options.snap_bytes,
            kernel_paths: u32::from(options.kernel_paths),
        },
        links: BTreeMap::new(),
        _targets: targets,
        rings,
        ebpf,
    };
    loaded.write_settings()?;
    loaded.write_tables()?;
    loaded.write_compat()?;
    let wake = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(|source| io("make an epoll", source.into()))?;
    let rings = loaded.make_rings(options.ring_bytes, &wake)?;
    loaded.select(wanted)?;
    Ok(Probes {
        kernel: loaded,
        rings,
        wake,
        boot_ns,
        settle_ns: options.settle_ns,
        pending: false.into(),
        malformed: 0,
    })
}

/// When the machine booted, in nanoseconds since 1970, by the clocks as they are now.
pub(super) fn boot_ns() -> u64 {
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
    wall.saturating_sub(super::now_ns())
}

fn io(what: &'static str, source: std::io::Error) -> LoadError {
    LoadError::Io { what, source }
}

fn refused(error: aya::EbpfError) -> LoadError {
    let details = chain(&error);
    if details.contains("os error 1)") || details.contains("os error 13)") {
        return LoadError::Denied(Box::new(error));
    }
    LoadError::Object { details }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, LoadError> {
    let absent = || LoadError::Program {
        program: name,
        details: "it is not in the object; run `cargo xtask bpf`".to_owned(),
    };
    ebpf.program_mut(name)
        .ok_or_else(absent)?
        .try_into()
        .map_err(|_| absent())
}

fn load_programs(ebpf: &mut Ebpf, btf: &Btf) -> Result<ProgramArray<MapData>, LoadError> {
    let points = TRACEPOINTS.iter().chain([&DISPATCHER]);
    let points = points.map(|point| (point.program, point.point));
    let targets = TARGETS.iter().map(|(program, _)| (*program, "sys_exit"));
    for (name, point) in points.chain(targets) {
        program(ebpf, name)?
            .load(point, btf)
            .map_err(|error| LoadError::Program {
                program: name,
                details: chain(&error),
            })?;
    }
    let mut array: ProgramArray<MapData> = take(ebpf, "programs")?;
    for (name, place) in TARGETS {
        let target = program(ebpf, name)?;
        let fd = target.fd().map_err(|error| LoadError::Program {
            program: name,
            details: chain(&error),
        })?;
        array
            .set(*place as u32, fd, 0)
            .map_err(|source| LoadError::Map {
                map: "programs",
                source,
            })?;
    }
    Ok(array)
}

/// Takes a map out of the object, as what it is.
fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| absent(name))?;
    M::try_from(map).map_err(|source| LoadError::Map { map: name, source })
}

fn absent(name: &str) -> LoadError {
    LoadError::Object {
        details: format!("no map {name} in the object; run `cargo xtask bpf`"),
    }
}

impl Loaded {
    fn array<V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<Array<&mut MapData, V>, LoadError> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| absent(name))?;
        Array::try_from(map).map_err(|source| LoadError::Map { map: name, source })
    }

    fn write_settings(&mut self) -> Result<(), LoadError> {
        let settings = self.settings;
        let mut map = self.array("settings")?;
        map.set(0, settings, 0).map_err(|source| LoadError::Map {
            map: "settings",
            source,
        })
    }

    pub(super) fn set_clock(&mut self, boot_ns: u64) -> Result<(), LoadError> {
        self.settings.boot_ns = boot_ns;
        self.write_settings()
    }

    fn write_tables(&mut self) -> Result<(), LoadError> {
        let mut map = self.array("tables")?;
        for table in Table::ALL {
            let mut raw = RawTable {
                count: 0,
                spare: 0,
                lines: [[0; 2]; TRANSLATIONS],
            };
            for (line, (from, to)) in raw.lines.iter_mut().zip(translate::lines(table)) {
                *line = [from, to];
                raw.count += 1;
            }
            map.set(table as u32, raw, 0)
                .map_err(|source| LoadError::Map {
                    map: "tables",
                    source,
                })?;
        }
        Ok(())
    }

    fn write_compat(&mut self) -> Result<(), LoadError> {
        let mut map = self.array("compat")?;
        for number in 0..512u16 {
            let wide = syscall::of_32_bit(number).map_or(u16::MAX, |call| call.number);
            map.set(u32::from(number), wide, 0)
                .map_err(|source| LoadError::Map {
                    map: "compat",
                    source,
                })?;
        }
        Ok(())
    }

    /// A ring for each CPU that is online, known to the programs and to `wake`.
    fn make_rings(&mut self, bytes: u32, wake: &Epoll) -> Result<Vec<ring::Ring>, LoadError> {
        let bytes = bytes.max(4096).next_power_of_two();
        let online = aya::util::online_cpus()
            .map_err(|(_, source)| io("read which CPUs are online", source))?;
        let mut rings = Vec::new();
        let failed = |source| LoadError::Map {
            map: "rings",
            source,
        };
        for cpu in online {
            let map = aya_obj::Map::new_from_params(MAP_TYPE_RINGBUF, 0, 0, bytes, 0);
            let map = MapData::create(map, "ring", None).map_err(failed)?;
            self.rings.set(cpu, &map, 0).map_err(failed)?;
            let fd = map.fd().as_fd();
            let ring = ring::Ring::map(fd, bytes as usize)
                .map_err(|source| io("map a ring buffer", source))?;
            watch(wake, fd).map_err(|source| io("watch a ring buffer", source.into()))?;
            rings.push(ring.keep(map));
        }
        Ok(rings)
    }

    pub(super) fn select(&mut self, wanted: &Selection) -> Result<(), LoadError> {
        let mut map = self.array("recipes")?;
        let mut any = false;
        for call in syscall::all() {
            let raw = raw_recipe(call, wanted);
            any |= raw.wanted != 0;
            map.set(u32::from(call.number), raw, 0)
                .map_err(|source| LoadError::Map {
                    map: "recipes",
                    source,
                })?;
        }
        self.attach(&DISPATCHER, any)?;
        for point in TRACEPOINTS {
            let by_call = syscall::all()
                .iter()
                .any(|call| point.of.contains(&call.exit) && wanted.calls.contains(call.number));
            let by_event = point.of.iter().any(|kind| wants(wanted, *kind));
            self.attach(point, by_call || by_event)?;
        }
        Ok(())
    }

    fn attach(&mut self, point: &Tracepoint, wanted: bool) -> Result<(), LoadError> {
        let failed = |error: &dyn std::error::Error| LoadError::Program {
            program: point.program,
            details: format!("cannot attach to {}: {}", point.point, chain(error)),
        };
        let program = program(&mut self.ebpf, point.program)?;
        match (self.links.remove(point.program), wanted) {
            (Some(link), true) => {
                self.links.insert(point.program, link);
            }
            (Some(link), false) => program.detach(link).map_err(|error| failed(&error))?,
            (None, true) => {
                let link = program.attach().map_err(|error| failed(&error))?;
                self.links.insert(point.program, link);
            }
            (None, false) => {}
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> Result<Stats, LoadError> {
        let failed = |source| LoadError::Map {
            map: "counters",
            source,
        };
        let map = self
            .ebpf
            .map("counters")
            .ok_or_else(|| absent("counters"))?;
        let map: PerCpuArray<&MapData, Counter> = PerCpuArray::try_from(map).map_err(failed)?;
        let mut stats = Stats::default();
        for kind in EventType::all() {
            let counters = map.get(&u32::from(kind.0), 0).map_err(failed)?;
            let mut sum = Counter::default();
            for (cpu, counter) in counters.iter().enumerate() {
                sum.add(counter);
                if stats.by_cpu.len() <= cpu {
                    stats.by_cpu.push(Counter::default());
                }
                if let Some(total) = stats.by_cpu.get_mut(cpu) {
                    total.add(counter);
                }
            }
            if sum != Counter::default() {
                stats.total.add(&sum);
                stats.by_type.push((kind, sum));
            }
        }
        Ok(stats)
    }
}

/// Whether an event is wanted, by its exit or its enter number.
fn wants(wanted: &Selection, kind: EventType) -> bool {
    let pair = EventType(kind.0 ^ 1);
    let paired = kind.is_exit() && wanted.events.contains(pair);
    wanted.events.contains(kind) || paired
}

fn raw_recipe(call: &Syscall, wanted: &Selection) -> RawRecipe {
    let generic = || Recipe {
        program: Program::Call,
        steps: GENERIC.to_vec(),
        copy: None,
    };
    let known = (call.exit != EventType::GENERIC_X)
        .then(|| recipes::recipe(call.name))
        .flatten();
    let kind = if known.is_some() {
        call.exit
    } else {
        EventType::GENERIC_X
    };
    // A call whose event we cannot fill is wanted as the generic one.
    let by_type = wants(wanted, kind) || wants(wanted, call.exit);
    let wanted = by_type || wanted.calls.contains(call.number);
    let recipe = known.unwrap_or_else(generic);
    let mut steps = [Step::default(); STEPS];
    let mut count = 0;
    for (place, step) in steps.iter_mut().zip(&recipe.steps) {
        *place = *step;
        count += 1;
    }
    let (copy, copy_bytes) = recipe.copy.unwrap_or((u8::MAX, 0));
    RawRecipe {
        kind: kind.0,
        code: call.code,
        wanted: u8::from(wanted),
        program: recipe.program as u8,
        count,
        copy,
        copy_bytes,
        spare: [0; 3],
        steps,
    }
}
