//! The device allow-list of cgroup v2: a BPF program of type `cgroup_device`, assembled here.
//!
//! Invariant: the program falls through to "deny"; each rule is one block that may return "allow".
//! The context is `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }` where
//! `access_type` is `access << 16 | type` (type 1 block, 2 char; access 1 mknod, 2 read, 4 write).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::{DeviceKind, DeviceRule};

/// One instruction: opcode, registers (source << 4 | destination), offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE_REG: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const MOVE_IMM: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND_IMM: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT_IMM: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_NOT_EQUAL_IMM: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// r2 type, r3 access, r4 major, r5 minor, r6 scratch.
fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REG, 3, 2, 0, 0),
        instruction(AND_IMM, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_IMM, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::Block => 1,
            DeviceKind::Char => 2,
        };
        let access = i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2;
        let mut tests: Vec<Vec<Instruction>> =
            vec![vec![instruction(JUMP_NOT_EQUAL_IMM, 2, 0, 0, kind)]];
        if access != 7 {
            // All that is asked for must be granted: no bit of it outside of `access`.
            tests.push(vec![
                instruction(MOVE_REG, 6, 3, 0, 0),
                instruction(AND_IMM, 6, 0, 0, !access & 7),
                instruction(JUMP_NOT_EQUAL_IMM, 6, 0, 0, 0),
            ]);
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(vec![instruction(
                    JUMP_NOT_EQUAL_IMM,
                    register,
                    0,
                    0,
                    number.cast_signed(),
                )]);
            }
        }
        let mut block: Vec<Instruction> = tests.concat();
        block.push(instruction(MOVE_IMM, 0, 0, 0, 1));
        block.push(instruction(EXIT, 0, 0, 0, 0));
        let length = block.len();
        for (at, one) in block.iter_mut().enumerate() {
            if one.code == JUMP_NOT_EQUAL_IMM {
                one.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
            }
        }
        program.extend(block);
    }
    program.push(instruction(MOVE_IMM, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// Loads the filter and attaches it to the cgroup folder `dir`, where it lives as long as the group.
pub(super) fn attach(dir: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
    }
    let program = assemble(rules);
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `load` and the program it points to live over the call; sizes are theirs.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        )
    };
    let fd = i32::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let program_fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let target = File::open(dir)?;
    let attach = Attach {
        target_fd: target.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program_fd.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` lives over the call and is of the size that is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    };
    Errno::result(done)?;
    Ok(())
}
