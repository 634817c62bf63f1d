// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The steps of recipes. */
#pragma once

#define AT_KEYCTL_TEXT 1

static __always_inline void put_open_flags(struct scratch *s, struct step step)
{
	u32 flags = argument(s, step.arg), out;
	struct file *file;
	enum layer layer;

	out = translate_bits(step.table, flags);
	/* The access mode is a number of two bits: 0 is reading, 3 is treated like it. */
	out |= (flags & 3) == 1 ? 2 : (flags & 3) == 2 ? 3 : 1;
	file = opened(s);
	if(file) {
		if(BPF_CORE_READ(file, f_mode) & FMODE_CREATED)
			out |= O_F_CREATED;
		layer = layer_at((struct inode *)s->inode, (struct super_block *)s->super);
		if(layer == UPPER_LAYER)
			out |= FD_UPPER_LAYER;
		else if(layer == LOWER_LAYER)
			out |= FD_LOWER_LAYER;
	}
	put_u32(s, out);
}

static __always_inline void put_creat_flags(struct scratch *s)
{
	opened(s);
	put_u16(s, layer_at((struct inode *)s->inode, (struct super_block *)s->super));
}

static __always_inline void put_device(struct scratch *s)
{
	struct super_block *super;

	opened(s);
	super = (struct super_block *)s->super;
	put_u32(s, super ? device_number(BPF_CORE_READ(super, s_dev)) : 0);
}

static __always_inline void put_inode(struct scratch *s, s64 fd)
{
	struct file *file = fd >= 0 ? file_of(fd) : 0;

	put_u64(s, file ? BPF_CORE_READ(file, f_inode, i_ino) : 0);
}

static __always_inline void put_queue(struct scratch *s, struct step step)
{
	struct socket *socket = s->ret >= 0 ? socket_of(file_of((s32)argument(s, step.arg))) : 0;
	u32 length = 0, most = 0;

	if(socket) {
		length = BPF_CORE_READ(socket, sk, sk_ack_backlog);
		most = BPF_CORE_READ(socket, sk, sk_max_ack_backlog);
	}
	if(step.more == 0)
		put_u8(s, most ? (u64)length * 100 / most : 0);
	else
		put_u32(s, step.more == 1 ? length : most);
}

static __always_inline u32 snap_bytes(struct step step)
{
	struct settings *set = config();
	u32 most = set ? set->snap_bytes : 0;

	return step.table & WHOLE || most >= PARAM_BYTES ? PARAM_BYTES - 1 : most;
}

static __always_inline void put_data(struct scratch *s, struct step step)
{
	u64 bytes = argument(s, step.more);
	u32 most = snap_bytes(step);

	if(step.table & ON_SUCCESS && s->ret < 0) {
		put_nothing(s);
		return;
	}
	if(s->ret > 0 && !(step.table & WHOLE))
		bytes = s->ret;
	else if(step.table & ON_SUCCESS)
		bytes = 0;
	put_user_bytes(s, argument(s, step.arg), bytes < most ? bytes : most);
}

static __always_inline void put_vector_data(struct scratch *s, struct step step)
{
	u32 most = snap_bytes(step);

	if(step.table & ON_SUCCESS && s->ret < 0) {
		put_nothing(s);
		return;
	}
	if(s->ret > 0 && s->ret < most)
		most = s->ret;
	put_vector(argument(s, step.arg), argument(s, step.more), most, 0);
}

static __always_inline void put_tuple_of(struct scratch *s, struct step step)
{
	bool done = s->ret >= 0 || (step.table & OR_IN_PROGRESS && s->ret == -115);

	if(done)
		put_tuple((s32)argument(s, step.arg), argument(s, step.more), step.table & INBOUND);
	else
		put_nothing(s);
}

#define SOL_SOCKET 1
#define SO_ERROR 4
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21
#define SO_COOKIE 57
#define SOCKOPT_BYTES 0
#define SOCKOPT_ERRNO 1
#define SOCKOPT_U32 2
#define SOCKOPT_U64 3
#define SOCKOPT_TIME 4

static __always_inline void put_tagged(struct scratch *s, u8 tag, u64 value)
{
	u8 *out = here(s);

	*out = tag;
	*(u64 *)(out + 1) = value;
	s->pos += 9;
	put_length(s, 9);
}

static __always_inline void put_sockopt(struct scratch *s)
{
	u32 level = s->args[1], name = s->args[2], length = s->args[4];
	u64 at = s->args[3], pair[2] = {};
	u8 *out = here(s);
	s32 word = 0;

	if(level != SOL_SOCKET || name > SO_COOKIE || name == 13 || name == 17) {
		*out = SOCKOPT_BYTES;
		length = length < 256 ? length : 255;
		length &= 255;
		if(length && bpf_probe_read_user(out + 1, length, (void *)at))
			length = 0;
		s->pos += 1 + length;
		put_length(s, 1 + length);
	} else if(name == SO_RCVTIMEO || name == SO_SNDTIMEO) {
		bpf_probe_read_user(pair, sizeof(pair), (void *)at);
		put_tagged(s, SOCKOPT_TIME, pair[0] * 1000000000ull + pair[1] * 1000);
	} else if(name == SO_COOKIE) {
		bpf_probe_read_user(pair, 8, (void *)at);
		put_tagged(s, SOCKOPT_U64, pair[0]);
	} else if(name == SO_ERROR) {
		bpf_probe_read_user(&word, 4, (void *)at);
		put_tagged(s, SOCKOPT_ERRNO, -(s64)word);
	} else {
		bpf_probe_read_user(&word, 4, (void *)at);
		*out = SOCKOPT_U32;
		*(u32 *)(out + 1) = word;
		s->pos += 5;
		put_length(s, 5);
	}
}

static __always_inline void put_ptrace_data(struct scratch *s)
{
	u64 request = s->args[0], data = s->args[3], word = 0;
	u8 *out = here(s);

	if(s->ret < 0) {
		put_tagged(s, 0, 0);
	} else if(request >= 1 && request <= 3) {
		bpf_probe_read_user(&word, 8, (void *)data);
		put_tagged(s, 0, word);
	} else if(request == 7 || request == 9 || request == 17 || request == 24) {
		/* CONT, SINGLESTEP, DETACH, SYSCALL: a signal. */
		out[0] = 1;
		out[1] = data;
		s->pos += 2;
		put_length(s, 2);
	} else {
		put_tagged(s, 0, data);
	}
}

#define PR_SET_NAME 15
#define PR_GET_NAME 16
#define PR_GET_CHILD_SUBREAPER 37

static __always_inline void put_prctl_text(struct scratch *s)
{
	if(s->args[0] == PR_SET_NAME || s->args[0] == PR_GET_NAME)
		put_user_text(s, s->args[1], 16);
	else
		put_nothing(s);
}

static __always_inline void put_prctl_int(struct scratch *s)
{
	s32 word = 0;

	if(s->args[0] == PR_SET_NAME || s->args[0] == PR_GET_NAME) {
		put_u64(s, 0);
	} else if(s->args[0] == PR_GET_CHILD_SUBREAPER) {
		bpf_probe_read_user(&word, 4, (void *)s->args[1]);
		put_u64(s, word);
	} else {
		put_u64(s, s->args[1]);
	}
}

/* Which arguments of a keyctl are numbers, and which texts: upstream's tables as bits. */
static __always_inline void put_keyctl(struct scratch *s, u32 arg)
{
	u64 operation = s->args[0], value = argument(s, arg);
	u32 used = 0, texts = 0;
	u8 *out = here(s);
	long length;

	if(operation < 40) {
		used = translate_choice(0, operation);
		texts = used >> 8;
	}
	if(!(used & (1 << (arg & 7)))) {
		put_tagged(s, 0, 0);
	} else if(texts & (1 << (arg & 7))) {
		*out = AT_KEYCTL_TEXT;
		length = value ? bpf_probe_read_user_str(out + 1, STRING_BYTES, (void *)value) : 0;
		if(length < 0)
			length = 0;
		s->pos += 1 + length;
		put_length(s, 1 + length);
	} else {
		put_tagged(s, 0, value);
	}
}

static __always_inline void put_capability(struct scratch *s, u32 which)
{
	struct task_struct *task = current_task();

	if(which == 0)
		put_u64(s, BPF_CORE_READ(task, cred, cap_inheritable.val));
	else if(which == 1)
		put_u64(s, BPF_CORE_READ(task, cred, cap_permitted.val));
	else
		put_u64(s, BPF_CORE_READ(task, cred, cap_effective.val));
}

static __always_inline void put_memory_step(struct scratch *s, u32 which)
{
	struct mm_struct *mm = BPF_CORE_READ(current_task(), mm);
	u64 pages = 0;

	if(mm && which == 0)
		pages = BPF_CORE_READ(mm, total_vm);
	else if(mm && which == 1)
		pages = resident(mm, 0) + resident(mm, 1) + resident(mm, 3);
	else if(mm)
		pages = resident(mm, 2);
	put_u32(s, pages << 2);
}

static __always_inline void put_poll(struct scratch *s, struct step step)
{
	u64 list = argument(s, step.arg);
	u32 count = argument(s, step.more), found = 0;
	u8 *out = here(s);
	struct {
		s32 fd;
		u16 asked, came;
	} poll;

	for(u32 i = 0; i < 16; i++) {
		if(i >= count || bpf_probe_read_user(&poll, sizeof(poll), (void *)list + i * 8))
			break;
		*(u64 *)(out + 2 + i * 10) = poll.fd;
		/* The kernel's bits up to POLLNVAL, in upstream's order. */
		*(u16 *)(out + 10 + i * 10) = (poll.came & 7) | (poll.came & 0x2000 ? 8 : 0) |
					      (poll.came & 8 ? 16 : 0) | (poll.came & 16 ? 32 : 0) |
					      (poll.came & 32 ? 64 : 0);
		found++;
	}
	*(u16 *)out = found;
	s->pos += 2 + found * 10;
	put_length(s, 2 + found * 10);
}

/* The value of fsconfig: text for commands 1 (string), 3 and 4 (path), bytes for 2. */
static __always_inline void put_fs_value(struct scratch *s, struct step step)
{
	u32 command = s->args[1];

	if(s->ret >= 0 && step.more == 1 && (command == 1 || command == 3 || command == 4))
		put_user_text(s, s->args[3], STRING_BYTES);
	else if(s->ret >= 0 && step.more == 0 && command == 2)
		put_user_bytes(s, s->args[3], s->args[4]);
	else
		put_nothing(s);
}

static __always_inline void put_open_path(struct scratch *s)
{
	struct settings *set = config();

	if(set && set->kernel_paths)
		put_file_path(s, opened(s));
	else
		put_nothing(s);
}

__noinline int take_open_step(u32 packed)
{
	struct scratch *s = scratch();
	struct step step = {packed, packed >> 8, packed >> 16, packed >> 24};
	struct inode *inode;
	u64 flags;

	if(!s)
		return 0;
	switch(step.kind) {
	case STEP_OPEN_FLAGS:
		put_open_flags(s, step);
		break;
	case STEP_OPEN_MODE:
		flags = argument(s, step.more);
		put_u32(s, flags & 0100 || (flags & 020200000) == 020200000 ? argument(s, step.arg) & 07777 : 0);
		break;
	case STEP_DEV:
		put_device(s);
		break;
	case STEP_INO:
		opened(s);
		inode = (struct inode *)s->inode;
		put_u64(s, inode ? BPF_CORE_READ(inode, i_ino) : 0);
		break;
	case STEP_FD_INO:
		put_inode(s, s->ret >= 0 ? (s32)argument(s, step.arg) : -1);
		break;
	case STEP_FD_PATH:
		put_file_path(s, opened(s));
		break;
	case STEP_OPEN_PATH:
		put_open_path(s);
		break;
	case STEP_CREAT_FLAGS:
		put_creat_flags(s);
		break;
	default:
		put_nothing(s);
	}
	return 0;
}

__noinline int take_net_step(u32 packed)
{
	struct scratch *s = scratch();
	struct step step = {packed, packed >> 8, packed >> 16, packed >> 24};
	struct socket *socket;
	u32 type;

	if(!s)
		return 0;
	switch(step.kind) {
	case STEP_SOCKADDR:
		put_sockaddr(argument(s, step.arg), argument(s, step.more));
		break;
	case STEP_TUPLE:
		put_tuple_of(s, step);
		break;
	case STEP_QUEUE:
		put_queue(s, step);
		break;
	case STEP_SOCKET_AT:
		socket = s->ret >= 0 ? socket_of(file_of((s32)argument(s, step.arg))) : 0;
		put_u64(s, socket ? (u64)BPF_CORE_READ(socket, sk) : 0);
		break;
	case STEP_SOCKET_FLAGS:
		type = argument(s, step.arg);
		put_u32(s, (type & 04000 ? 64 : 0) | (type & 02000000 ? 4096 : 0));
		break;
	case STEP_SOCKOPT:
		put_sockopt(s);
		break;
	case STEP_SOCKOPT_NAME:
		put_u8(s, s->args[1] == SOL_SOCKET ? translate_choice(step.table, s->args[2]) : 0);
		break;
	default:
		put_nothing(s);
	}
	return 0;
}

__noinline int take_data_step(u32 packed)
{
	struct scratch *s = scratch();
	struct step step = {packed, packed >> 8, packed >> 16, packed >> 24};

	if(!s)
		return 0;
	switch(step.kind) {
	case STEP_DATA:
		put_data(s, step);
		break;
	case STEP_VECTOR:
		put_vector_data(s, step);
		break;
	case STEP_VECTOR_SIZE:
		put_vector(argument(s, step.arg), argument(s, step.more), 0, 1);
		break;
	case STEP_POLL:
		put_poll(s, step);
		break;
	case STEP_FS_VALUE:
		put_fs_value(s, step);
		break;
	default:
		put_nothing(s);
	}
	return 0;
}

__noinline int take_odd_step(u32 packed)
{
	struct scratch *s = scratch();
	struct step step = {packed, packed >> 8, packed >> 16, packed >> 24};

	if(!s)
		return 0;
	switch(step.kind) {
	case STEP_PTRACE_ADDR:
		put_tagged(s, 0, s->ret < 0 ? 0 : argument(s, step.arg));
		break;
	case STEP_PTRACE_DATA:
		put_ptrace_data(s);
		break;
	case STEP_PRCTL_TEXT:
		put_prctl_text(s);
		break;
	case STEP_PRCTL_INT:
		put_prctl_int(s);
		break;
	case STEP_KEYCTL:
		put_keyctl(s, step.arg);
		break;
	case STEP_CAPABILITY:
		put_capability(s, step.more);
		break;
	case STEP_MEMORY:
		put_memory_step(s, step.more);
		break;
	case STEP_TIME:
		put_u64(s, argument(s, step.arg) * 1000000000ull + argument(s, step.arg + 1));
		break;
	default:
		put_nothing(s);
	}
	return 0;
}

static __always_inline void take_step(struct scratch *s, struct recipe *recipe, struct step step, u32 number)
{
	u32 packed = step.kind | step.arg << 8 | step.table << 16 | step.more << 24;
	u64 value = argument(s, step.arg);

	switch(step.kind) {
	case STEP_S64:
		put_u64(s, value);
		break;
	case STEP_FD:
		put_u64(s, (s64)(s32)value);
		break;
	case STEP_U32:
		put_u32(s, value);
		break;
	case STEP_U16:
		put_u16(s, value);
		break;
	case STEP_U8:
		put_u8(s, value);
		break;
	case STEP_TEXT:
		put_user_text(s, value, STRING_BYTES);
		break;
	case STEP_BITS:
		put_sized(s, translate_bits(step.table, value), step.more);
		break;
	case STEP_CHOICE:
		put_sized(s, translate_choice(step.table, value), step.more);
		break;
	case STEP_CODE:
		put_u16(s, recipe->code);
		break;
	case STEP_NUMBER:
		put_u16(s, number);
		break;
	case STEP_OPEN_FLAGS:
	case STEP_OPEN_MODE:
	case STEP_DEV:
	case STEP_INO:
	case STEP_FD_INO:
	case STEP_FD_PATH:
	case STEP_OPEN_PATH:
	case STEP_CREAT_FLAGS:
		take_open_step(packed);
		break;
	case STEP_SOCKADDR:
	case STEP_TUPLE:
	case STEP_QUEUE:
	case STEP_SOCKET_AT:
	case STEP_SOCKET_FLAGS:
	case STEP_SOCKOPT:
	case STEP_SOCKOPT_NAME:
		take_net_step(packed);
		break;
	case STEP_DATA:
	case STEP_VECTOR:
	case STEP_VECTOR_SIZE:
	case STEP_POLL:
	case STEP_FS_VALUE:
		take_data_step(packed);
		break;
	default:
		take_odd_step(packed);
	}
}
