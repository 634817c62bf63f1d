// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The long events of processes: exec and clone. */
#pragma once

#define CL_FILES (1 << 0)
#define CL_FS (1 << 1)
#define CL_NEWIPC (1 << 3)
#define CL_NEWNET (1 << 4)
#define CL_NEWNS (1 << 5)
#define CL_NEWPID (1 << 6)
#define CL_NEWUTS (1 << 7)
#define CL_SIGHAND (1 << 11)
#define CL_THREAD (1 << 13)
#define CL_VM (1 << 15)
#define CL_NEWCGROUP (1 << 28)
#define CL_CHILD_IN_PIDNS (1 << 29)

#define EXE_WRITABLE (1 << 0)
#define EXE_UPPER_LAYER (1 << 1)
#define EXE_FROM_MEMFD (1 << 2)
#define EXE_LOWER_LAYER (1 << 3)

#define SB_RDONLY 1
#define S_IMMUTABLE 8
#define MAY_WRITE 2
#define CAP_DAC_OVERRIDE 1
#define CAP_FOWNER 3
#define RLIMIT_NOFILE 7

/* Bytes between two addresses of the caller's: a list of texts. What is cut still ends with zero. */
static __always_inline void put_user_range(struct scratch *s, u64 from, u64 end, u32 most)
{
	u64 bytes = end > from ? end - from : 0;
	u32 length;

	length = put_user_bytes(s, from, bytes < most ? bytes : most);
	if(length)
		s->data[(s->pos - 1) & (EVENT_BYTES - 1)] = 0;
}

/* Parameters 2 and 3: the first argument, and the others. */
__noinline int put_arguments(u64 from)
{
	struct scratch *s = scratch();
	struct mm_struct *mm = BPF_CORE_READ((struct task_struct *)from, mm);
	u64 start, end;
	u32 first;

	if(!s)
		return 0;
	if(!mm) {
		put_nothing(s);
		put_nothing(s);
		return 0;
	}
	start = BPF_CORE_READ(mm, arg_start);
	end = BPF_CORE_READ(mm, arg_end);
	first = put_user_text(s, start, STRING_BYTES);
	put_user_range(s, start + first, end, first < STRING_BYTES ? STRING_BYTES - first : 0);
	return 0;
}

/* Parameters 4 to 14: who it is, where, and how large. */
__noinline int put_identity(u64 from)
{
	struct scratch *s = scratch();
	struct task_struct *task = (struct task_struct *)from;
	struct fs_struct *fs = BPF_CORE_READ(task, fs);

	if(!s)
		return 0;
	put_u64(s, BPF_CORE_READ(task, pid));
	put_u64(s, BPF_CORE_READ(task, tgid));
	put_u64(s, BPF_CORE_READ(task, real_parent, pid));
	if(fs)
		put_path((u64)BPF_CORE_READ(fs, pwd.mnt), (u64)BPF_CORE_READ(fs, pwd.dentry));
	else
		put_nothing(s);
	put_u64(s, BPF_CORE_READ(task, signal, rlim[RLIMIT_NOFILE].rlim_cur));
	put_u64(s, BPF_CORE_READ(task, maj_flt));
	put_u64(s, BPF_CORE_READ(task, min_flt));
	put_memory_of(s, BPF_CORE_READ(task, mm));
	put_kernel_text(s, (char *)task + bpf_core_field_offset(struct task_struct, comm), 16);
	return 0;
}

/* Whether the caller may write to the file that it runs: its owner, by the mode, or by capability. */
static __always_inline bool writable(struct task_struct *task, struct inode *inode)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);
	u16 mode = BPF_CORE_READ(inode, i_mode);
	u32 uid = BPF_CORE_READ(inode, i_uid.val), gid = BPF_CORE_READ(inode, i_gid.val);
	struct group_info *groups;
	u32 own, count;
	u64 caps;
	bool member;

	if(BPF_CORE_READ(inode, i_sb, s_flags) & SB_RDONLY || BPF_CORE_READ(inode, i_flags) & S_IMMUTABLE)
		return 0;
	if(uid == (u32)-1 || gid == (u32)-1)
		return 0;
	if(BPF_CORE_READ(cred, fsuid.val) == uid)
		return 1;
	member = BPF_CORE_READ(cred, fsgid.val) == gid;
	groups = BPF_CORE_READ(cred, group_info);
	count = groups ? BPF_CORE_READ(groups, ngroups) : 0;
	for(u32 i = 0; i < 32; i++) {
		if(member || i >= count)
			break;
		own = 0;
		bpf_probe_read_kernel(&own, 4, (char *)groups + bpf_core_field_offset(struct group_info, gid) + i * 4);
		member = own == gid;
	}
	if(mode >> (member ? 3 : 0) & MAY_WRITE)
		return 1;
	caps = BPF_CORE_READ(cred, cap_effective.val);
	return (caps & (1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER)) != 0;
}

static __always_inline bool from_memfd(struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	const unsigned char *name;
	char start[8] = {};

	if(!dentry || BPF_CORE_READ(dentry, d_parent) != dentry)
		return 0;
	name = BPF_CORE_READ(dentry, d_name.name);
	bpf_probe_read_kernel_str(start, 7, name);
	return start[0] == 'm' && start[1] == 'e' && start[2] == 'm' && start[3] == 'f' && start[4] == 'd' &&
	       start[5] == ':';
}

static __noinline u32 exe_flags(u64 from, u64 at)
{
	struct task_struct *task = (struct task_struct *)from;
	struct file *file = (struct file *)at;
	enum layer layer;
	u32 flags = 0;

	if(!file)
		return 0;
	if(writable(task, BPF_CORE_READ(file, f_inode)))
		flags |= EXE_WRITABLE;
	layer = layer_of(file);
	if(layer == UPPER_LAYER)
		flags |= EXE_UPPER_LAYER;
	else if(layer == LOWER_LAYER)
		flags |= EXE_LOWER_LAYER;
	if(from_memfd(file))
		flags |= EXE_FROM_MEMFD;
	return flags;
}

/* Parameters 17 to 30 of exec. */
__noinline int put_executable(u64 from)
{
	struct scratch *s = scratch();
	struct task_struct *task = (struct task_struct *)from;
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct file *file = mm ? BPF_CORE_READ(mm, exe_file) : 0;
	struct inode *inode = file ? BPF_CORE_READ(file, f_inode) : 0;
	const struct cred *cred = BPF_CORE_READ(task, cred);

	if(!s)
		return 0;
	put_u32(s, tty_of(task));
	put_u64(s, pid_number(pid_of(task, PID_GROUP), 1));
	if(bpf_core_field_exists(task->loginuid))
		put_u32(s, BPF_CORE_READ(task, loginuid.val));
	else
		put_u32(s, -1);
	put_u32(s, exe_flags(from, (u64)file));
	put_u64(s, BPF_CORE_READ(cred, cap_inheritable.val));
	put_u64(s, BPF_CORE_READ(cred, cap_permitted.val));
	put_u64(s, BPF_CORE_READ(cred, cap_effective.val));
	put_u64(s, inode ? BPF_CORE_READ(inode, i_ino) : 0);
	put_u64(s, inode ? changed_at(inode) : 0);
	put_u64(s, inode ? modified_at(inode) : 0);
	put_u32(s, BPF_CORE_READ(cred, euid.val));
	put_file_path(s, file);
	put_u64(s, pid_number(pid_of(task, PID_GROUP), 0));
	put_u32(s, BPF_CORE_READ(cred, egid.val));
	return 0;
}

/* Parameters 17 to 21 of clone: ids, and when the first process of its namespace began. */
__noinline int put_clone_ids(u64 from, u32 in_child)
{
	struct scratch *s = scratch();
	struct task_struct *task = (struct task_struct *)from;
	struct pid *pid = pid_of(task, PID_THREAD), *group;
	struct pid_namespace *ns = namespace_of(pid);
	const struct cred *cred = BPF_CORE_READ(task, cred);
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	if(!s)
		return 0;
	put_u32(s, BPF_CORE_READ(cred, euid.val));
	put_u32(s, BPF_CORE_READ(cred, egid.val));
	put_u64(s, pid_number(pid, 1));
	group = leader ? pid_of(leader, PID_THREAD) : 0;
	put_u64(s, pid_number(group, 1));
	put_u64(s, in_child && ns ? BPF_CORE_READ(ns, child_reaper, start_time) : 0);
	return 0;
}

/* What parent and child share tells the flags of the call, whichever call it was. */
static __always_inline u32 shared(struct task_struct *parent, struct task_struct *child)
{
	struct nsproxy *old = BPF_CORE_READ(parent, nsproxy), *new = BPF_CORE_READ(child, nsproxy);
	struct pid_namespace *ns = namespace_of(pid_of(child, PID_THREAD));
	u32 flags = 0;

	if(BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		flags |= CL_THREAD;
	if(BPF_CORE_READ(child, files) == BPF_CORE_READ(parent, files))
		flags |= CL_FILES;
	if(BPF_CORE_READ(child, fs) == BPF_CORE_READ(parent, fs))
		flags |= CL_FS;
	if(BPF_CORE_READ(child, mm) == BPF_CORE_READ(parent, mm))
		flags |= CL_VM;
	if(BPF_CORE_READ(child, sighand) == BPF_CORE_READ(parent, sighand))
		flags |= CL_SIGHAND;
	if(ns && BPF_CORE_READ(ns, level))
		flags |= CL_CHILD_IN_PIDNS;
	if(ns != namespace_of(pid_of(parent, PID_THREAD)))
		flags |= CL_NEWPID;
	if(!old || !new || old == new)
		return flags;
	if(BPF_CORE_READ(old, uts_ns) != BPF_CORE_READ(new, uts_ns))
		flags |= CL_NEWUTS;
	if(BPF_CORE_READ(old, ipc_ns) != BPF_CORE_READ(new, ipc_ns))
		flags |= CL_NEWIPC;
	if(BPF_CORE_READ(old, mnt_ns) != BPF_CORE_READ(new, mnt_ns))
		flags |= CL_NEWNS;
	if(BPF_CORE_READ(old, net_ns) != BPF_CORE_READ(new, net_ns))
		flags |= CL_NEWNET;
	if(BPF_CORE_READ(old, cgroup_ns) != BPF_CORE_READ(new, cgroup_ns))
		flags |= CL_NEWCGROUP;
	return flags;
}

/* The texts that a list of the caller's points to, from `index` on, as one list; returns its length. */
__noinline int put_text_list(u64 list, u32 index, u32 most)
{
	struct scratch *s = scratch();
	u32 start, total = 0;
	long length;
	u64 text;

	if(!s)
		return 0;
	start = s->pos;
	for(u32 i = 0; i < 64; i++) {
		text = 0;
		if(!list || bpf_probe_read_user(&text, 8, (void *)list + (index + i) * 8) || !text)
			break;
		length = bpf_probe_read_user_str(here(s), STRING_BYTES, (void *)text);
		if(length <= 0)
			break;
		s->pos += length;
		total += length;
		if(total >= most) {
			total = most;
			s->pos = start + most;
			s->data[(s->pos - 1) & (EVENT_BYTES - 1)] = 0;
			break;
		}
	}
	put_length(s, total);
	return 0;
}
