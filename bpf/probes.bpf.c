// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The probes: every system call at its end, and the tracepoints of processes and signals. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "read.h"
#include "call.h"
#include "steps.h"
#include "process.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Numbers of upstream's event table, with the count of their parameters. */
#define PROCEXIT_1_E 186
#define SIGNALDELIVER_E 232
#define CLONE_20_X 223
#define EXECVE_19_X 293
#define PROCEXIT_PARAMS 5
#define SIGNALDELIVER_PARAMS 3
#define CLONE_PARAMS 21
#define EXECVE_PARAMS 31
#define EXECVEAT_PARAMS 30

#define PROGRAM_CALL 0
#define PROGRAM_EXEC 1
#define PROGRAM_CLONE 2

#define TS_COMPAT 2
#define PF_KTHREAD 0x00200000
#define X32_BIT 0x40000000
#define CALL_EXECVE 59
#define CALL_EXECVEAT 322

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 8);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} programs SEC(".maps");

/* Numbers of 32-bit calls as those of 64-bit calls; 0xffff where there is none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SYSCALLS);
	__type(key, u32);
	__type(value, u16);
} compat SEC(".maps");

static __always_inline bool is_compat(void)
{
	return known_task()->thread_info.status & TS_COMPAT;
}

static __always_inline u32 call_number(struct pt_regs *regs)
{
	u32 number = regs->orig_ax;
	u16 *wide;

	if(number == (u32)-1)
		return SYSCALLS;
	/* After an exec of a 32-bit program the flag is that of the program, the number still the old. */
	if(is_compat() && number != CALL_EXECVE && number != CALL_EXECVEAT) {
		wide = bpf_map_lookup_elem(&compat, &number);
		return wide ? *wide : SYSCALLS;
	}
	return number & ~X32_BIT;
}

static __always_inline void take_arguments(struct scratch *s, struct pt_regs *regs)
{
	if(is_compat()) {
		s->args[0] = (u32)regs->bx;
		s->args[1] = (u32)regs->cx;
		s->args[2] = (u32)regs->dx;
		s->args[3] = (u32)regs->si;
		s->args[4] = (u32)regs->di;
		s->args[5] = (u32)regs->bp;
		return;
	}
	s->args[0] = regs->di;
	s->args[1] = regs->si;
	s->args[2] = regs->dx;
	s->args[3] = regs->r10;
	s->args[4] = regs->r8;
	s->args[5] = regs->r9;
}

SEC("tp_btf/sys_exit")
int sys_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	u32 number = call_number(regs);
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &number);

	if(!recipe || !recipe->wanted)
		return 0;
	bpf_tail_call(ctx, &programs, recipe->program);
	return 0;
}

SEC("tp_btf/sys_exit")
int call_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	u32 number = call_number(regs), bytes;
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &number);
	struct scratch *s;

	if(!recipe)
		return 0;
	s = begin(recipe->type, recipe->count, current_tid());
	if(!s)
		return 0;
	take_arguments(s, regs);
	s->ret = ctx[1];
	if(recipe->copy < 6) {
		__builtin_memset(&s->args[6], 0, sizeof(u64) * 10);
		bytes = recipe->copy_bytes;
		if(bytes > 80)
			bytes = 80;
		bpf_probe_read_user(&s->args[6], bytes, (void *)s->args[recipe->copy]);
	}
	for(u32 i = 0; i < STEPS; i++) {
		if(i >= recipe->count)
			break;
		take_step(s, recipe, recipe->steps[i], regs->orig_ax);
	}
	submit(s);
	return 0;
}

/* An exec that failed; those that succeed are told by sched_process_exec. */
SEC("tp_btf/sys_exit")
int exec_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	struct task_struct *task = current_task();
	u32 number = call_number(regs), at;
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &number);
	struct scratch *s;
	u64 first = 0;

	if(!recipe || (s64)ctx[1] == 0)
		return 0;
	s = begin(recipe->type, recipe->type == EXECVE_19_X ? EXECVE_PARAMS : EXECVEAT_PARAMS, current_tid());
	if(!s)
		return 0;
	take_arguments(s, regs);
	at = recipe->type == EXECVE_19_X ? 0 : 1;
	put_u64(s, ctx[1]);
	bpf_probe_read_user(&first, 8, (void *)s->args[at + 1]);
	put_user_text(s, first, STRING_BYTES);
	put_text_list(s->args[at + 1], 1, STRING_BYTES);
	put_identity((u64)task);
	put_cgroups(s, task);
	put_text_list(s->args[at + 2], 0, STRING_BYTES);
	put_executable((u64)task);
	if(at == 0)
		put_user_text(s, s->args[0], STRING_BYTES);
	submit(s);
	return 0;
}

/* The parent's side of clone, fork and vfork. */
SEC("tp_btf/sys_exit")
int clone_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	struct task_struct *task = current_task();
	u32 number = call_number(regs), flags = 0;
	struct recipe *recipe = bpf_map_lookup_elem(&recipes, &number);
	struct pid_namespace *ns;
	struct scratch *s;

	/* The child's side is told when it is made, before it runs. */
	if(!recipe || (s64)ctx[1] == 0)
		return 0;
	s = begin(recipe->type, CLONE_PARAMS, current_tid());
	if(!s)
		return 0;
	take_arguments(s, regs);
	if(recipe->copy < 6)
		bpf_probe_read_user(&flags, 4, (void *)s->args[0]);
	else if(recipe->steps[0].kind == STEP_BITS)
		flags = s->args[0];
	else
		flags = recipe->steps[0].kind == STEP_U32 ? 0x4100 : 0;
	flags = translate_bits(recipe->steps[0].table, flags);
	ns = namespace_of(pid_of(task, PID_THREAD));
	if((ns && BPF_CORE_READ(ns, level)) || BPF_CORE_READ(task, nsproxy, pid_ns_for_children) != ns)
		flags |= CL_CHILD_IN_PIDNS;
	put_u64(s, ctx[1]);
	put_arguments((u64)task);
	put_identity((u64)task);
	put_cgroups(s, task);
	put_u32(s, flags);
	put_clone_ids((u64)task, 0);
	submit(s);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int process_fork(u64 *ctx)
{
	struct task_struct *parent = current_task();
	struct scratch *s;
	u64 child = 0;

	/* As a number: what the verifier knows to be a task may not be handed to functions. */
	bpf_probe_read_kernel(&child, sizeof(child), &ctx[1]);
	if(BPF_CORE_READ(parent, flags) & PF_KTHREAD || !BPF_CORE_READ((struct task_struct *)child, mm))
		return 0;
	s = begin(CLONE_20_X, CLONE_PARAMS, BPF_CORE_READ((struct task_struct *)child, pid));
	if(!s)
		return 0;
	put_u64(s, 0);
	put_arguments(child);
	put_identity(child);
	put_cgroups(s, (struct task_struct *)child);
	put_u32(s, shared(parent, (struct task_struct *)child));
	put_clone_ids(child, 1);
	submit(s);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int process_exec(u64 *ctx)
{
	struct linux_binprm *bprm = (struct linux_binprm *)ctx[2];
	struct task_struct *task = current_task();
	struct mm_struct *mm;
	struct scratch *s;

	if(BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	s = begin(EXECVE_19_X, EXECVE_PARAMS, current_tid());
	if(!s)
		return 0;
	mm = BPF_CORE_READ(task, mm);
	put_u64(s, 0);
	put_arguments((u64)task);
	put_identity((u64)task);
	put_cgroups(s, task);
	put_user_range(s, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end), STRING_BYTES);
	put_executable((u64)task);
	put_kernel_text(s, BPF_CORE_READ(bprm, filename), STRING_BYTES);
	submit(s);
	return 0;
}

/* Who becomes the parent of the children: the nearest ancestor that asked for it, else the first
 * process of the namespace. 0 when there are no children; -1 when it is too far. */
__noinline int reaper_of(u64 from)
{
	struct task_struct *task = (struct task_struct *)from, *up;
	struct list_head *head = (struct list_head *)((char *)task + bpf_core_field_offset(struct task_struct, children));
	struct pid_namespace *ns = namespace_of(pid_of(task, PID_THREAD));
	struct task_struct *first = ns ? BPF_CORE_READ(ns, child_reaper) : 0;
	struct signal_struct *signal;

	if(BPF_CORE_READ(head, next) == head || !first)
		return 0;
	up = BPF_CORE_READ(task, real_parent);
	for(u32 i = 0; i < 60; i++) {
		if(!up || up == first || namespace_of(pid_of(up, PID_THREAD)) != ns)
			return BPF_CORE_READ(first, pid);
		signal = BPF_CORE_READ(up, signal);
		if(signal && BPF_CORE_READ_BITFIELD_PROBED(signal, is_child_subreaper))
			return BPF_CORE_READ(up, tgid);
		up = BPF_CORE_READ(up, real_parent);
	}
	return -1;
}

SEC("tp_btf/sched_process_exit")
int process_exit(u64 *ctx)
{
	struct task_struct *task = current_task();
	int status = BPF_CORE_READ(task, exit_code);
	struct scratch *s;

	if(BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	s = begin(PROCEXIT_1_E, PROCEXIT_PARAMS, current_tid());
	if(!s)
		return 0;
	put_u64(s, (s64)status);
	put_u64(s, status >> 8 & 0xff);
	put_u8(s, status & 0x7f);
	put_u8(s, status >> 7 & 1);
	put_u64(s, (s64)reaper_of((u64)task));
	submit(s);
	return 0;
}

SEC("tp_btf/signal_deliver")
int signal_deliver(u64 *ctx)
{
	int signal = ctx[0];
	struct kernel_siginfo *info = (struct kernel_siginfo *)ctx[1];
	int code = 0, from = 0;
	struct scratch *s;

	if(info) {
		code = BPF_CORE_READ(info, si_code);
		/* From a process (SI_USER and what is below), a child's end, or a kill. */
		if(code <= 0 || signal == 9 || signal == 17 || (signal >= 34 && signal <= 64))
			from = BPF_CORE_READ(info, _sifields._kill._pid);
	}
	s = begin(SIGNALDELIVER_E, SIGNALDELIVER_PARAMS, current_tid());
	if(!s)
		return 0;
	put_u64(s, (s64)from);
	put_u64(s, current_tid());
	put_u8(s, signal);
	submit(s);
	return 0;
}
