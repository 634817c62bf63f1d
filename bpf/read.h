// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What the probes read from the kernel's structures: files, paths, processes, namespaces. Functions
 * that are not inlined are verified by themselves, which keeps the programs small for the verifier;
 * they find the buffer by themselves and take numbers only. */
#pragma once

#define OVERLAYFS_MAGIC 0x794c7630
#define FMODE_CREATED (1 << 20)
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFLNK 0120000

#define O_F_CREATED (1 << 14)
#define FD_UPPER_LAYER (1 << 15)
#define FD_LOWER_LAYER (1 << 16)

enum layer { NOT_OVERLAY, UPPER_LAYER, LOWER_LAYER };

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* The same for the verifier to know: its fields are read without a helper, which is several times
 * faster. Only for programs themselves and what is inlined, not to be handed to functions. */
static __always_inline struct task_struct *known_task(void)
{
	return (struct task_struct *)bpf_get_current_task_btf();
}

static __always_inline struct file *file_of(s64 fd)
{
	struct fdtable *table = known_task()->files->fdt;
	struct file *file = 0;

	if(fd < 0 || fd >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)((u64)table->fd + fd * sizeof(file)));
	return file;
}

static __always_inline u32 device_number(u32 dev)
{
	u32 major = dev >> 20, minor = dev & 0xfffff;

	return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

static __always_inline struct socket *socket_of(struct file *file)
{
	struct inode *inode;

	if(!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	return BPF_CORE_READ(file, private_data);
}

static __always_inline enum layer layer_at(struct inode *inode, struct super_block *super)
{
	struct dentry *upper = 0;

	if(!inode || !super || BPF_CORE_READ(super, s_magic) != OVERLAYFS_MAGIC)
		return NOT_OVERLAY;
	/* The overlay's own inode has the pointer to the upper dentry right behind the VFS's part. */
	bpf_probe_read_kernel(&upper, sizeof(upper), (char *)inode + bpf_core_type_size(struct inode));
	if(upper && BPF_CORE_READ(upper, d_inode, i_ino))
		return UPPER_LAYER;
	return LOWER_LAYER;
}

static __always_inline enum layer layer_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	return layer_at(inode, inode ? BPF_CORE_READ(inode, i_sb) : 0);
}

/* The file of the descriptor that was returned, looked up once an event. */
static __always_inline struct file *opened(struct scratch *s)
{
	struct super_block *super = 0;
	struct inode *inode = 0;
	struct file *file;

	if(s->looked)
		return (struct file *)s->file;
	file = s->ret >= 0 ? file_of(s->ret) : 0;
	if(file)
		inode = BPF_CORE_READ(file, f_inode);
	if(inode)
		super = BPF_CORE_READ(inode, i_sb);
	s->looked = 1;
	s->file = (u64)file;
	s->inode = (u64)inode;
	s->super = (u64)super;
	return file;
}

/* Writes the names that were collected, the last first, each behind a slash; a zero byte at the end.
 * Returns the length. No length is put: the caller does. */
static __always_inline u32 write_names(struct scratch *s)
{
	u32 start = s->pos, count = s->count;
	long length;

	if(!count) {
		*(u16 *)here(s) = '/';
		s->pos += 2;
		return 2;
	}
	for(u32 i = 0; i < PATH_PARTS; i++) {
		if(i >= count)
			break;
		*here(s) = '/';
		s->pos += 1;
		length = bpf_probe_read_kernel_str(here(s), 256, (void *)s->names[(count - 1 - i) & (PATH_PARTS - 1)]);
		if(length > 1)
			s->pos += length - 1;
		if(s->pos - start >= STRING_BYTES)
			break;
	}
	*here(s) = 0;
	s->pos += 1;
	return s->pos - start;
}

/* The path of a dentry on a mount, up to the root of the mount namespace. A file that is on no path
 * (a memfd) gives its name. What has more than PATH_PARTS parts loses those next to the root. */
__noinline int put_path(u64 mnt, u64 entry)
{
	struct scratch *s = scratch();
	struct dentry *dentry = (struct dentry *)entry, *root;
	const u32 between = bpf_core_field_offset(struct dentry, d_name.name) - bpf_core_field_offset(struct dentry, d_parent);
	u64 part[3], parent, name;
	struct mount *mount, *above;

	if(!s)
		return 0;
	if(!mnt || !entry) {
		put_nothing(s);
		return 0;
	}
	mount = (struct mount *)((char *)mnt - bpf_core_field_offset(struct mount, mnt));
	root = BPF_CORE_READ(mount, mnt.mnt_root);
	s->count = 0;
	for(u32 i = 0; i < PATH_PARTS; i++) {
		if(dentry == root) {
			above = BPF_CORE_READ(mount, mnt_parent);
			if(above == mount || !above)
				break;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		/* Parent and name in one read: they lie side by side. */
		bpf_probe_read_kernel(part, sizeof(part), (char *)dentry + bpf_core_field_offset(struct dentry, d_parent));
		parent = part[0];
		name = between == 16 ? part[2] : (u64)BPF_CORE_READ(dentry, d_name.name);
		if(parent == (u64)dentry || !parent) {
			if(i == 0) {
				put_kernel_text(s, (void *)name, 256);
				return 0;
			}
			break;
		}
		s->names[s->count & (PATH_PARTS - 1)] = name;
		s->count++;
		dentry = (struct dentry *)parent;
	}
	put_length(s, write_names(s));
	return 0;
}

static __always_inline void put_file_path(struct scratch *s, struct file *file)
{
	struct {
		struct vfsmount *mnt;
		struct dentry *dentry;
	} path;

	if(!file) {
		put_nothing(s);
		return;
	}
	BPF_CORE_READ_INTO(&path, file, f_path);
	put_path((u64)path.mnt, (u64)path.dentry);
}

static __always_inline struct kernfs_node *above(struct kernfs_node *node)
{
	struct kernfs_node___v614 *old = (void *)node;

	if(bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ(old, parent);
}

/* Writes `name=path` of a cgroup with its zero byte, and returns the length. */
static __always_inline u32 write_cgroup(struct scratch *s, u64 name, u32 length, struct cgroup *cgroup)
{
	struct kernfs_node *node = BPF_CORE_READ(cgroup, kn), *parent;

	if(!node)
		return 0;
	*(u64 *)here(s) = name;
	s->pos += length;
	s->count = 0;
	for(u32 i = 0; i < 16; i++) {
		parent = above(node);
		if(!parent)
			break;
		s->names[s->count & (PATH_PARTS - 1)] = (u64)BPF_CORE_READ(node, name);
		s->count++;
		node = parent;
	}
	return length + write_names(s);
}

/* `word` has up to eight letters, packed as they lie in memory. */
__noinline int put_cgroup(u64 from, u32 subsystem, u64 word, u32 letters)
{
	struct scratch *s = scratch();
	struct task_struct *task = (struct task_struct *)from;
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *state = 0;
	struct cgroup *cgroup = 0;

	if(!s || letters > 8)
		return 0;
	if(subsystem == 0xff) {
		cgroup = BPF_CORE_READ(set, dfl_cgrp);
	} else {
		bpf_probe_read_kernel(&state, sizeof(state), &set->subsys[subsystem & 15]);
		if(state)
			cgroup = BPF_CORE_READ(state, cgroup);
	}
	if(!cgroup)
		return 0;
	return write_cgroup(s, word, letters, cgroup);
}

#define WORD8(a, b, c, d, e, f, g, h)                                                              \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |             \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

/* Upstream's five controllers, then the place in the unified hierarchy, which is exact where
 * controllers are not delegated that far. */
static __always_inline void put_cgroups(struct scratch *s, struct task_struct *task)
{
	u64 t = (u64)task;
	u32 total = 0;

	total += put_cgroup(t, bpf_core_enum_value(enum cgroup_subsys_id, cpuset_cgrp_id),
			    WORD8('c', 'p', 'u', 's', 'e', 't', '=', 0), 7);
	total += put_cgroup(t, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id),
			    WORD8('c', 'p', 'u', '=', 0, 0, 0, 0), 4);
	if(bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuacct_cgrp_id))
		total += put_cgroup(t, bpf_core_enum_value(enum cgroup_subsys_id, cpuacct_cgrp_id),
				    WORD8('c', 'p', 'u', 'a', 'c', 'c', 't', '='), 8);
	total += put_cgroup(t, bpf_core_enum_value(enum cgroup_subsys_id, io_cgrp_id),
			    WORD8('i', 'o', '=', 0, 0, 0, 0, 0), 3);
	total += put_cgroup(t, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id),
			    WORD8('m', 'e', 'm', 'o', 'r', 'y', '=', 0), 7);
	total += put_cgroup(t, 0xff, WORD8('u', 'n', 'i', 'f', 'i', 'e', 'd', '='), 8);
	put_length(s, total);
}

static __always_inline struct pid *pid_of(struct task_struct *task, u32 type)
{
	struct signal_struct *signal;
	struct pid *pid = 0;

	if(type == 0)
		return BPF_CORE_READ(task, thread_pid);
	signal = BPF_CORE_READ(task, signal);
	bpf_probe_read_kernel(&pid, sizeof(pid), &signal->pids[type & 3]);
	return pid;
}

/* The number of a pid in its own namespace (`inner`), or in the first. */
static __always_inline s64 pid_number(struct pid *pid, bool inner)
{
	u32 level = 0;
	int nr = 0;
	char *at;

	if(!pid)
		return 0;
	if(inner)
		level = BPF_CORE_READ(pid, level);
	at = (char *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&nr, sizeof(nr), at + bpf_core_field_offset(struct upid, nr));
	return nr;
}

static __always_inline struct pid_namespace *namespace_of(struct pid *pid)
{
	struct pid_namespace *ns = 0;
	u32 level;
	char *at;

	if(!pid)
		return 0;
	level = BPF_CORE_READ(pid, level);
	at = (char *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&ns, sizeof(ns), at + bpf_core_field_offset(struct upid, ns));
	return ns;
}

#define PID_THREAD 0
#define PID_PROCESS 1
#define PID_GROUP 2
#define PID_SESSION 3

static __always_inline u32 tty_of(struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	struct tty_driver *driver;
	u32 index, major, minor;

	if(!tty)
		return 0;
	driver = BPF_CORE_READ(tty, driver);
	if(!driver)
		return 0;
	index = BPF_CORE_READ(tty, index);
	major = BPF_CORE_READ(driver, major);
	minor = BPF_CORE_READ(driver, minor_start);
	return device_number((major << 20 | minor) + index);
}

static __always_inline u64 resident(struct mm_struct *mm, u32 which)
{
	struct mm_struct___v61 *old = (void *)mm;
	s64 pages = 0;

	if(bpf_core_type_exists(struct mm_rss_stat))
		bpf_probe_read_kernel(&pages, sizeof(pages), &old->rss_stat.count[which & 3]);
	else
		bpf_probe_read_kernel(&pages, sizeof(pages), &mm->rss_stat[which & 3].count);
	return pages > 0 ? pages : 0;
}

/* Page faults and memory in KiB: parameters 9 to 13 of exec and clone. */
static __always_inline void put_memory_of(struct scratch *s, struct mm_struct *mm)
{
	u64 size = 0, rss = 0, swap = 0;

	if(mm) {
		size = BPF_CORE_READ(mm, total_vm);
		rss = resident(mm, 0) + resident(mm, 1) + resident(mm, 3);
		swap = resident(mm, 2);
	}
	put_u32(s, size << 2);
	put_u32(s, rss << 2);
	put_u32(s, swap << 2);
}

static __always_inline u64 nanoseconds(s64 seconds, u64 rest)
{
	return seconds < 0 ? 0 : seconds * 1000000000ull + rest;
}

static __always_inline u64 changed_at(struct inode *inode)
{
	struct inode___v66 *v66 = (void *)inode;
	struct inode___v65 *v65 = (void *)inode;

	if(bpf_core_field_exists(inode->i_ctime_sec))
		return nanoseconds(BPF_CORE_READ(inode, i_ctime_sec), BPF_CORE_READ(inode, i_ctime_nsec));
	if(bpf_core_field_exists(v66->__i_ctime))
		return nanoseconds(BPF_CORE_READ(v66, __i_ctime.tv_sec), BPF_CORE_READ(v66, __i_ctime.tv_nsec));
	return nanoseconds(BPF_CORE_READ(v65, i_ctime.tv_sec), BPF_CORE_READ(v65, i_ctime.tv_nsec));
}

static __always_inline u64 modified_at(struct inode *inode)
{
	struct inode___v66 *v66 = (void *)inode;
	struct inode___v65 *v65 = (void *)inode;

	if(bpf_core_field_exists(inode->i_mtime_sec))
		return nanoseconds(BPF_CORE_READ(inode, i_mtime_sec), BPF_CORE_READ(inode, i_mtime_nsec));
	if(bpf_core_field_exists(v66->__i_mtime))
		return nanoseconds(BPF_CORE_READ(v66, __i_mtime.tv_sec), BPF_CORE_READ(v66, __i_mtime.tv_nsec));
	return nanoseconds(BPF_CORE_READ(v65, i_mtime.tv_sec), BPF_CORE_READ(v65, i_mtime.tv_nsec));
}
