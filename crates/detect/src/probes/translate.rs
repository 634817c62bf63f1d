//! Flags and values of the kernel in upstream's numbers (`driver/ppm_flag_helpers.h`), which are the
//! same on every architecture. The probes translate while they write, so that a live event and one
//! in a capture file are the same bytes.

/// A translation table, by its place in the probes' map. Place 0 says which arguments of a keyctl
/// mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Keyctl = 0,
    /// Flags of an open, without the access mode.
    Open,
    /// Flags that other calls share with open: close-on-exec, not blocking.
    OpenFlags,
    Resolve,
    StatAt,
    LinkAt,
    UnlinkAt,
    Access,
    Mount,
    CloseRange,
    Flock,
    EpollCreate,
    PidfdOpen,
    Clone,
    Prot,
    Mmap,
    DeleteModule,
    UringSetup,
    UringFeatures,
    SemGet,
    SemCtl,
    Fcntl,
    SockoptLevel,
    SockoptName,
    Ptrace,
    /// The lowest three bits as they are.
    Same3,
    /// The lowest four.
    Same4,
}

impl Table {
    pub(super) const ALL: [Self; 27] = [
        Self::Keyctl,
        Self::Open,
        Self::OpenFlags,
        Self::Resolve,
        Self::StatAt,
        Self::LinkAt,
        Self::UnlinkAt,
        Self::Access,
        Self::Mount,
        Self::CloseRange,
        Self::Flock,
        Self::EpollCreate,
        Self::PidfdOpen,
        Self::Clone,
        Self::Prot,
        Self::Mmap,
        Self::DeleteModule,
        Self::UringSetup,
        Self::UringFeatures,
        Self::SemGet,
        Self::SemCtl,
        Self::Fcntl,
        Self::SockoptLevel,
        Self::SockoptName,
        Self::Ptrace,
        Self::Same3,
        Self::Same4,
    ];
}

/// Lines of a table: the kernel's value and upstream's.
pub(super) type Lines = Vec<(u32, u32)>;

/// Bits that are the same in both, one by one.
fn same(bits: impl IntoIterator<Item = u32>) -> Lines {
    bits.into_iter().map(|bit| (1 << bit, 1 << bit)).collect()
}

/// The lines of a table. For a choice, what is in no line is 0.
pub(super) fn lines(table: Table) -> Lines {
    match table {
        Table::Keyctl => keyctl(),
        Table::Open => vec![
            (0o100, 1 << 2),
            (0o20_200_000, 1 << 13),
            (0o2000, 1 << 3),
            (0o10000, 1 << 4),
            (0o200, 1 << 5),
            (0o4000, 1 << 6),
            (0o4_010_000, 1 << 7),
            (0o1000, 1 << 8),
            (0o40000, 1 << 9),
            (0o200_000, 1 << 10),
            (0o100_000, 1 << 11),
            (0o2_000_000, 1 << 12),
        ],
        Table::OpenFlags => vec![(0o4000, 1 << 6), (0o2_000_000, 1 << 12)],
        // RESOLVE_NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT, CACHED.
        Table::Resolve => vec![(1, 16), (2, 4), (4, 8), (8, 1), (16, 2), (32, 32)],
        Table::StatAt => vec![(0x1000, 0x1000), (0x800, 0x800), (0x100, 0x100)],
        Table::LinkAt => vec![(0x400, 0x400), (0x1000, 0x1000)],
        Table::UnlinkAt => vec![(0x200, 0x200)],
        Table::Access => same(0..3),
        Table::Mount => same((0..8).chain(10..26).chain(28..32)),
        Table::CloseRange => same(1..3),
        Table::Flock => same(0..2).into_iter().chain([(4, 4), (8, 8)]).collect(),
        Table::EpollCreate => vec![(0o2_000_000, 1)],
        Table::PidfdOpen => vec![(0o4000, 1)],
        Table::Clone => clone(),
        Table::Prot => same(0..4)
            .into_iter()
            .chain([(0x0100_0000, 1 << 4), (0x0200_0000, 1 << 5)])
            .collect(),
        Table::Mmap => vec![
            (0x1, 1 << 0),
            (0x2, 1 << 1),
            (0x10, 1 << 2),
            (0x20, 1 << 3),
            (0x40, 1 << 4),
            (0x4000, 1 << 6),
            (0x8000, 1 << 7),
            (0x10000, 1 << 8),
            (0x100, 1 << 9),
            (0x800, 1 << 10),
            (0x1000, 1 << 11),
            (0x2000, 1 << 14),
        ],
        Table::DeleteModule => vec![(0o1000, 1), (0o4000, 2)],
        // IOPOLL, SQPOLL, SQ_AFF, CQSIZE, CLAMP, ATTACH_WQ, R_DISABLED; upstream's bit 2 has no flag.
        Table::UringSetup => vec![
            (1, 1),
            (2, 2),
            (4, 8),
            (8, 16),
            (16, 32),
            (32, 64),
            (64, 128),
        ],
        Table::UringFeatures => same(0..11),
        Table::SemGet => vec![(0o1000, 1 << 13), (0o2000, 1 << 14)],
        Table::SemCtl => sem_ctl(),
        Table::Fcntl => fcntl(),
        // SOL_SOCKET, SOL_TCP.
        Table::SockoptLevel => vec![(1, 1), (6, 2)],
        // The kernel's numbers as they are, up to SO_INCOMING_CPU; then SO_COOKIE.
        Table::SockoptName => (1..50).map(|name| (name, name)).chain([(57, 53)]).collect(),
        Table::Ptrace => ptrace(),
        Table::Same3 => same(0..3),
        Table::Same4 => same(0..4),
    }
}

fn clone() -> Lines {
    vec![
        (0x400, 1 << 0),
        (0x200, 1 << 1),
        (0x8000_0000, 1 << 2),
        (0x0800_0000, 1 << 3),
        (0x4000_0000, 1 << 4),
        (0x0002_0000, 1 << 5),
        (0x2000_0000, 1 << 6),
        (0x0400_0000, 1 << 7),
        (0x8000, 1 << 8),
        (0x0010_0000, 1 << 9),
        (0x2000, 1 << 10),
        (0x800, 1 << 11),
        (0x0004_0000, 1 << 12),
        (0x0001_0000, 1 << 13),
        (0x0080_0000, 1 << 14),
        (0x100, 1 << 15),
        (0x1000_0000, 1 << 20),
        (0x0020_0000, 1 << 23),
        (0x0100_0000, 1 << 24),
        (0x0008_0000, 1 << 25),
        (0x4000, 1 << 27),
        (0x0200_0000, 1 << 28),
    ]
}

/// IPC_RMID 0, IPC_SET 1, IPC_STAT 2, IPC_INFO 3, GETPID 11, GETVAL 12, GETALL 13, GETNCNT 14,
/// GETZCNT 15, SETVAL 16, SETALL 17, SEM_STAT 18, SEM_INFO 19.
fn sem_ctl() -> Lines {
    vec![
        (2, 1 << 0),
        (1, 1 << 1),
        (0, 1 << 2),
        (3, 1 << 3),
        (19, 1 << 4),
        (18, 1 << 5),
        (13, 1 << 6),
        (14, 1 << 7),
        (11, 1 << 8),
        (12, 1 << 9),
        (15, 1 << 10),
        (17, 1 << 11),
        (16, 1 << 12),
    ]
}

fn fcntl() -> Lines {
    vec![
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 8),
        (7, 9),
        (8, 10),
        (9, 12),
        (10, 13),
        (11, 15),
        (15, 21),
        (16, 22),
        (1024, 23),
        (1025, 24),
        (1029, 25),
        (1030, 26),
        (1026, 27),
        (1031, 28),
        (1032, 29),
        (36, 30),
        (37, 31),
        (38, 32),
    ]
}

fn ptrace() -> Lines {
    vec![
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 7),
        (7, 8),
        (8, 9),
        (9, 10),
        (16, 11),
        (17, 12),
        (24, 13),
        (0x4200, 14),
        (0x4201, 15),
        (0x4202, 16),
        (0x4203, 17),
        (0x4204, 18),
        (0x4205, 19),
        (0x4206, 20),
        (0x4207, 21),
        (0x4208, 22),
        (0x4209, 23),
        (0x420a, 24),
        (0x420b, 25),
        (12, 26),
        (13, 27),
        (14, 28),
        (15, 29),
        (18, 30),
        (19, 31),
        (21, 32),
        (25, 33),
        (26, 34),
        (30, 35),
        (31, 36),
        (32, 37),
        (33, 38),
    ]
}

/// For each operation a byte of the arguments that it has (bit 1 for the second), and a byte of those
/// that are text.
fn keyctl() -> Lines {
    const NUMBERS: [u32; 5] = [0, 0b10, 0b110, 0b1110, 0b11110];
    let plain = |operations: &[u32], arguments: usize| -> Lines {
        let used = NUMBERS.get(arguments).copied().unwrap_or_default();
        operations
            .iter()
            .map(|operation| (*operation, used))
            .collect()
    };
    let text = |operation: u32, used: u32, texts: u32| (operation, used | texts << 8);
    let mut lines = plain(&[18], 0);
    lines.extend(plain(&[3, 7, 14, 16, 21], 1));
    lines.extend(plain(&[0, 5, 8, 9, 15, 22, 31], 2));
    lines.extend(plain(&[2, 4, 6, 11, 13, 17, 32], 3));
    lines.extend(plain(&[12, 19, 20, 23, 30], 4));
    lines.extend([
        text(1, 0b10, 0b10),
        text(29, 0b1110, 0b1100),
        text(24, 0b1110, 0b1000),
        text(10, 0b11110, 0b1100),
        text(25, 0b11110, 0b100),
        text(26, 0b11110, 0b100),
        text(27, 0b11110, 0b100),
        text(28, 0b11110, 0b100),
    ]);
    lines
}
