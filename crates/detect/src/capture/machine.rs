//! The machine that a capture was taken on.

use super::CaptureError;
use super::cursor::Cursor;

const HOSTNAME_BYTES: usize = 128;

/// The machine that a capture was taken on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// How many processors it has.
    pub cpus: u32,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// The highest number of a process.
    pub max_pid: u64,
    /// Its name.
    pub hostname: String,
    /// When it booted, in nanoseconds since 1970; 0 when it is not known.
    pub boot_ns: u64,
    /// Upstream's flags.
    pub flags: u64,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn of_host() -> Self {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
        let number = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.trim().parse().unwrap_or_default()
        };
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot: u64 = boot
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.parse().ok())
            .unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism()
                .map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            memory_bytes: memory,
            max_pid: number("/proc/sys/kernel/pid_max"),
            hostname: hostname.to_string_lossy().into_owned(),
            boot_ns: boot.saturating_mul(1_000_000_000),
            flags: 0,
        }
    }

    pub(super) fn read(mut block: Cursor<'_>) -> Result<Self, CaptureError> {
        let cpus = block.u32()?;
        let memory_bytes = block.u64()?;
        let max_pid = block.u64()?;
        let name = block.take(HOSTNAME_BYTES)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self {
            cpus,
            memory_bytes,
            max_pid,
            hostname: String::from_utf8_lossy(name).into_owned(),
            // Reserved, and zero, in old captures.
            boot_ns: block.u64().unwrap_or_default(),
            flags: block.u64().unwrap_or_default(),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.cpus.to_le_bytes());
        out.extend(self.memory_bytes.to_le_bytes());
        out.extend(self.max_pid.to_le_bytes());
        let mut name = self.hostname.clone().into_bytes();
        name.resize(HOSTNAME_BYTES - 1, 0);
        out.extend(name);
        out.push(0);
        out.extend(self.boot_ns.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        out.extend([0; 16]);
    }
}
