// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* An event in the making: a buffer for each CPU, the parameters one after another, and the ring that
 * the finished bytes go to. The bytes are those of an event block in a capture file. */
#pragma once

#define EVENT_BYTES 0x8000
#define PARAM_BYTES 0x2000
#define STRING_BYTES 4096
#define HEADER_BYTES 26
#define PATH_PARTS 64
#define EVENT_TYPES 512

struct scratch {
	u64 args[16]; /* the six arguments of a call, then what one of them points to */
	s64 ret;
	u32 pos;  /* where the next parameter's bytes go */
	u32 lens; /* where the next parameter's length goes */
	u32 type;
	u32 busy;
	u32 count; /* of names; kept here so that the verifier does not follow its value */
	u32 looked; /* whether the next three are of this event */
	u64 file, inode, super; /* of the descriptor that was returned */
	u64 names[PATH_PARTS];
	u8 data[EVENT_BYTES + 2 * PARAM_BYTES];
};

/* What user space may change while the probes run. */
struct settings {
	u64 boot_ns; /* when the machine booted, in nanoseconds since 1970 */
	u32 snap_bytes;
	u32 kernel_paths; /* whether opens tell the path that the kernel found */
};

struct counter {
	u64 events;
	u64 full;  /* dropped: no room in the ring */
	u64 large; /* dropped: longer than an event may be */
	u64 busy;  /* dropped: interrupted another event of this CPU */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the number of CPUs, set at load */
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_TYPES);
	__type(key, u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* the number of CPUs, set at load */
	__uint(key_size, sizeof(u32));
	__array(values, struct ring);
} rings SEC(".maps");

static __always_inline struct scratch *scratch(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&scratches, &cpu);
}

static __always_inline struct counter *counter(u32 type)
{
	return bpf_map_lookup_elem(&counters, &type);
}

static __always_inline struct settings *config(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Begins an event; whoever gets a buffer must call `submit` or `give_up`. */
static __always_inline struct scratch *begin(u32 type, u32 params, u64 tid)
{
	struct scratch *s = scratch();
	struct settings *set = config();
	struct counter *count;

	if(!s || !set)
		return 0;
	if(s->busy) {
		count = counter(type);
		if(count)
			count->busy++;
		return 0;
	}
	s->busy = 1;
	params &= 31;
	*(u64 *)&s->data[0] = set->boot_ns + bpf_ktime_get_boot_ns();
	*(u64 *)&s->data[8] = tid;
	*(u16 *)&s->data[20] = type;
	*(u32 *)&s->data[22] = params;
	s->type = type;
	s->looked = 0;
	s->lens = HEADER_BYTES;
	s->pos = HEADER_BYTES + 2 * params;
	return s;
}

static __always_inline u64 current_tid(void)
{
	return (u32)bpf_get_current_pid_tgid();
}

static __always_inline void give_up(struct scratch *s)
{
	s->busy = 0;
}

static __always_inline void submit(struct scratch *s)
{
	u32 cpu = bpf_get_smp_processor_id();
	void *ring = bpf_map_lookup_elem(&rings, &cpu);
	struct counter *count = counter(s->type);
	u32 length = s->pos;

	if(ring && count) {
		count->events++;
		if(length >= EVENT_BYTES) {
			count->large++;
		} else {
			*(u32 *)&s->data[16] = length;
			if(bpf_ringbuf_output(ring, s->data, length & (EVENT_BYTES - 1), 0))
				count->full++;
		}
	}
	s->busy = 0;
}

/* Where the next byte goes. An event that is too long goes around, and is dropped in the end. */
static __always_inline u8 *here(struct scratch *s)
{
	return &s->data[s->pos & (EVENT_BYTES - 1)];
}

static __always_inline void put_length(struct scratch *s, u32 length)
{
	u32 at = s->lens & 0x7f;

	*(u16 *)&s->data[at] = length;
	s->lens = at + 2;
}

static __always_inline void put_nothing(struct scratch *s)
{
	put_length(s, 0);
}

static __always_inline void put_u64(struct scratch *s, u64 value)
{
	*(u64 *)here(s) = value;
	s->pos += 8;
	put_length(s, 8);
}

static __always_inline void put_u32(struct scratch *s, u32 value)
{
	*(u32 *)here(s) = value;
	s->pos += 4;
	put_length(s, 4);
}

static __always_inline void put_u16(struct scratch *s, u16 value)
{
	*(u16 *)here(s) = value;
	s->pos += 2;
	put_length(s, 2);
}

static __always_inline void put_u8(struct scratch *s, u8 value)
{
	*here(s) = value;
	s->pos += 1;
	put_length(s, 1);
}

/* Text of the caller's, with its zero byte; nothing when it cannot be read. */
static __always_inline u32 put_user_text(struct scratch *s, u64 from, u32 most)
{
	long length = bpf_probe_read_user_str(here(s), most, (void *)from);

	if(length < 0)
		length = 0;
	s->pos += length;
	put_length(s, length);
	return length;
}

static __always_inline u32 put_kernel_text(struct scratch *s, const void *from, u32 most)
{
	long length = bpf_probe_read_kernel_str(here(s), most, from);

	if(length < 0)
		length = 0;
	s->pos += length;
	put_length(s, length);
	return length;
}

/* Bytes of the caller's. */
static __always_inline u32 put_user_bytes(struct scratch *s, u64 from, u64 bytes)
{
	u32 length = bytes < PARAM_BYTES ? bytes : PARAM_BYTES - 1;

	length &= PARAM_BYTES - 1;
	if(!from || !length || bpf_probe_read_user(here(s), length, (void *)from))
		length = 0;
	s->pos += length;
	put_length(s, length);
	return length;
}
