// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* How a system call becomes an event: a recipe that user space writes into a map (one for each call,
 * `crates/detect/src/probes/recipes.rs`), and the steps that a recipe is made of. A step puts one
 * parameter. New calls need a line there and no new program here. */
#pragma once

#define STEPS 12
#define SYSCALLS 512
#define TRANSLATIONS 64
#define TABLES 48

enum step_kind {
	STEP_NOTHING = 0,
	STEP_S64 = 1,      /* an argument of 64 bits as it is */
	STEP_FD = 2,       /* an argument of 32 bits with its sign, in 64 */
	STEP_U32 = 3,
	STEP_U16 = 4,
	STEP_U8 = 5,
	STEP_TEXT = 6,     /* the text that an argument points to */
	STEP_BITS = 7,     /* flags, bit by bit by a table; `more` is the width in bytes */
	STEP_CHOICE = 8,   /* one of several values by a table; `more` is the width in bytes */
	STEP_OPEN_FLAGS = 9,  /* flags of an open, with what the kernel made of it */
	STEP_OPEN_MODE = 10,  /* the mode, when argument `more` asks to create */
	STEP_DEV = 11,     /* of the descriptor that was returned */
	STEP_INO = 12,
	STEP_FD_PATH = 13,    /* the path of the descriptor that was returned */
	STEP_OPEN_PATH = 14,  /* the same, when settings ask for it */
	STEP_SOCKADDR = 15,   /* an address of the caller's; `more` is the argument with its length */
	STEP_TUPLE = 16,   /* both ends of socket `arg`; `table`: 1 inbound, 2 only on success,
	                      4 or when in progress; `more`: argument with the peer's address */
	STEP_QUEUE = 17,   /* of a listening socket; `more`: 0 percent, 1 length, 2 most */
	STEP_DATA = 18,    /* bytes at `arg`, as many as argument `more` or the result says;
	                      `table`: 2 only on success, 8 not cut to the snap length */
	STEP_VECTOR = 19,  /* bytes of the vector at `arg` with count `more`; `table` as above */
	STEP_VECTOR_SIZE = 20,
	STEP_FD_INO = 21,  /* inode of descriptor `arg` */
	STEP_CREAT_FLAGS = 22,
	STEP_MEMORY = 23,  /* `more`: 0 size, 1 resident, 2 swap, in KiB */
	STEP_SOCKET_AT = 24,  /* the kernel's pointer to socket `arg`, on success */
	STEP_SOCKOPT = 25,
	STEP_PTRACE_ADDR = 26,
	STEP_PTRACE_DATA = 27,
	STEP_PRCTL_TEXT = 28,
	STEP_PRCTL_INT = 29,
	STEP_KEYCTL = 30,  /* argument `arg` of a keyctl */
	STEP_CAPABILITY = 31, /* of the caller; `more`: 0 inheritable, 1 permitted, 2 effective */
	STEP_CODE = 32,    /* upstream's code of a call without an event of its own */
	STEP_NUMBER = 33,  /* and its number */
	STEP_SOCKET_FLAGS = 34,
	STEP_TIME = 35,    /* seconds at `arg`, nanoseconds at the next */
	STEP_POLL = 36,    /* descriptors with events: `arg` the list, `more` the count */
	STEP_FS_VALUE = 37,   /* of fsconfig; `more`: 0 bytes, 1 text */
	STEP_SOCKOPT_NAME = 38,
};

#define ON_SUCCESS 2
#define OR_IN_PROGRESS 4
#define INBOUND 1
#define WHOLE 8

/* An argument: 0 to 5 those of the call, 6 to 15 what was copied of where `copy` points to, from 64 on
 * the same in halves, and the result. */
#define ARG_RESULT 63
#define ARG_HALF 64
#define ARG_ZERO 62

struct step {
	u8 kind;
	u8 arg;
	u8 table;
	u8 more;
};

struct recipe {
	u16 type;
	u16 code;
	u8 wanted;
	u8 program; /* place in `programs` */
	u8 count;   /* of steps, and of parameters */
	u8 copy;    /* the argument that points to more arguments, or 255 */
	u8 copy_bytes;
	u8 spare[3];
	struct step steps[STEPS];
};

struct translation {
	u32 from;
	u32 to;
};

struct table {
	u32 count;
	u32 spare;
	struct translation lines[TRANSLATIONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SYSCALLS);
	__type(key, u32);
	__type(value, struct recipe);
} recipes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TABLES);
	__type(key, u32);
	__type(value, struct table);
} tables SEC(".maps");

static __always_inline u64 argument(struct scratch *s, u32 which)
{
	if(which < 16)
		return s->args[which];
	if(which == ARG_RESULT)
		return s->ret;
	if(which >= ARG_HALF)
		return ((u32 *)&s->args[6])[(which - ARG_HALF) & 15];
	return 0;
}

static __always_inline void put_sized(struct scratch *s, u32 value, u32 bytes)
{
	if(bytes == 1)
		put_u8(s, value);
	else if(bytes == 2)
		put_u16(s, value);
	else
		put_u32(s, value);
}

/* Bits by a table: a line counts when all of its bits are set. */
static __noinline u32 translate_bits(u32 which, u32 value)
{
	struct table *table = bpf_map_lookup_elem(&tables, &which);
	u32 out = 0;

	if(!table)
		return value;
	for(u32 i = 0; i < 32; i++) {
		if(i >= table->count)
			break;
		if((value & table->lines[i].from) == table->lines[i].from)
			out |= table->lines[i].to;
	}
	return out;
}

static __noinline u32 translate_choice(u32 which, u32 value)
{
	struct table *table = bpf_map_lookup_elem(&tables, &which);

	if(!table)
		return value;
	for(u32 i = 0; i < TRANSLATIONS; i++) {
		if(i >= table->count)
			break;
		if(table->lines[i].from == value)
			return table->lines[i].to;
	}
	return 0;
}

static __always_inline u16 swap16(u16 v)
{
	return __builtin_bswap16(v);
}

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

/* An address as the caller gave it. */
__noinline int put_sockaddr(u64 from, u32 length)
{
	struct scratch *s = scratch();
	u8 *scrap, *out;
	long text;
	u16 family;

	if(!s)
		return 0;
	scrap = &s->data[EVENT_BYTES + PARAM_BYTES];
	out = here(s);
	if(!from || length < 2 || length > 128 || bpf_probe_read_user(scrap, 128 < length ? 128 : length, (void *)from)) {
		put_nothing(s);
		return 0;
	}
	family = *(u16 *)scrap;
	*out = family;
	if(family == AF_INET && length >= 8) {
		*(u32 *)(out + 1) = *(u32 *)(scrap + 4);
		*(u16 *)(out + 5) = swap16(*(u16 *)(scrap + 2));
		s->pos += 7;
		put_length(s, 7);
	} else if(family == AF_INET6 && length >= 24) {
		*(u64 *)(out + 1) = *(u64 *)(scrap + 8);
		*(u64 *)(out + 9) = *(u64 *)(scrap + 16);
		*(u16 *)(out + 17) = swap16(*(u16 *)(scrap + 2));
		s->pos += 19;
		put_length(s, 19);
	} else if(family == AF_UNIX) {
		/* The caller's length bounds the path; an abstract one begins with a zero byte. */
		if(length < 128)
			scrap[length & 127] = 0;
		text = bpf_probe_read_kernel_str(out + 1, 109, scrap[2] ? scrap + 2 : scrap + 3);
		if(text < 0)
			text = 0;
		s->pos += 1 + text;
		put_length(s, 1 + text);
	} else {
		put_nothing(s);
	}
	return 0;
}

static __always_inline void put_unix_tuple(struct scratch *s, struct sock *sk, u64 given, bool inbound)
{
	struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);
	struct sock *named = inbound ? sk : peer;
	struct unix_address *address = 0;
	u8 *out = here(s);
	char *path;
	char first = 0;
	long text = 0;

	*out = AF_UNIX;
	*(u64 *)(out + 1) = inbound ? (u64)sk : (u64)peer;
	*(u64 *)(out + 9) = inbound ? (u64)peer : (u64)sk;
	if(named)
		address = BPF_CORE_READ((struct unix_sock *)named, addr);
	if(address) {
		path = (char *)address + bpf_core_field_offset(struct unix_address, name) +
		       bpf_core_field_offset(struct sockaddr_un, sun_path);
		bpf_probe_read_kernel(&first, 1, path);
		text = bpf_probe_read_kernel_str(out + 17, 109, first ? path : path + 1);
	} else if(given) {
		path = (char *)given + 2;
		bpf_probe_read_user(&first, 1, path);
		text = bpf_probe_read_user_str(out + 17, 109, first ? path : path + 1);
	}
	if(text < 1) {
		out[17] = 0;
		text = 1;
	}
	s->pos += 17 + text;
	put_length(s, 17 + text);
}

/* Both ends of a socket as the kernel has them; where it has no peer, the one that the caller gave. */
__noinline int put_tuple(s64 fd, u64 given, u32 inbound)
{
	struct scratch *s = scratch();
	struct socket *socket = socket_of(file_of(fd));
	struct in6_addr near6 = {}, far6 = {};
	struct sock *sk;
	u32 near = 0, far = 0;
	u16 family, near_port, far_port;
	u8 *out;

	if(!s)
		return 0;
	sk = socket ? BPF_CORE_READ(socket, sk) : 0;
	if(!sk) {
		put_nothing(s);
		return 0;
	}
	out = here(s);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if(family == AF_UNIX) {
		put_unix_tuple(s, sk, given, inbound);
		return 0;
	}
	if(family != AF_INET && family != AF_INET6) {
		put_nothing(s);
		return 0;
	}
	near_port = BPF_CORE_READ((struct inet_sock *)sk, inet_sport);
	far_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	*out = family;
	if(family == AF_INET) {
		near = BPF_CORE_READ((struct inet_sock *)sk, inet_saddr);
		far = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		if(!far_port && given) {
			bpf_probe_read_user(&far_port, 2, (void *)given + 2);
			bpf_probe_read_user(&far, 4, (void *)given + 4);
		}
		*(u32 *)(out + 1) = inbound ? far : near;
		*(u16 *)(out + 5) = swap16(inbound ? far_port : near_port);
		*(u32 *)(out + 7) = inbound ? near : far;
		*(u16 *)(out + 11) = swap16(inbound ? near_port : far_port);
		s->pos += 13;
		put_length(s, 13);
		return 0;
	}
	BPF_CORE_READ_INTO(&near6, (struct inet_sock *)sk, pinet6, saddr);
	BPF_CORE_READ_INTO(&far6, sk, __sk_common.skc_v6_daddr);
	if(!far_port && given) {
		bpf_probe_read_user(&far_port, 2, (void *)given + 2);
		bpf_probe_read_user(&far6, 16, (void *)given + 8);
	}
	__builtin_memcpy(out + 1, inbound ? &far6 : &near6, 16);
	*(u16 *)(out + 17) = swap16(inbound ? far_port : near_port);
	__builtin_memcpy(out + 19, inbound ? &near6 : &far6, 16);
	*(u16 *)(out + 35) = swap16(inbound ? near_port : far_port);
	s->pos += 37;
	put_length(s, 37);
	return 0;
}

/* The bytes of a vector, at most `most` of them; or, with `only_size`, how many there are. */
__noinline int put_vector(u64 from, u32 count, u32 most, u32 only_size)
{
	struct scratch *s = scratch();
	u64 part[2];
	u32 start, length, total = 0;

	if(!s)
		return 0;
	start = s->pos;
	for(u32 i = 0; i < 32; i++) {
		if(i >= count || bpf_probe_read_user(part, sizeof(part), (void *)from + i * 16))
			break;
		if(only_size) {
			total += part[1];
			continue;
		}
		if(total >= most)
			break;
		length = part[1] < most - total ? part[1] : most - total;
		length &= PARAM_BYTES - 1;
		if(length && bpf_probe_read_user(here(s), length, (void *)part[0]))
			break;
		s->pos += length;
		total += length;
	}
	if(only_size)
		put_u32(s, total);
	else
		put_length(s, s->pos - start);
	return 0;
}
