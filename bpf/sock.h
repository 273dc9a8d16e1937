/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers over the offsets that tracer/kernel/layouts.py takes from the running kernel's BTF: OFF_X, SIZE_X, and BIT_X, BITS_X
 * where X may be a bitfield. An optional field that this kernel lacks has no OFF_X, and reads as 0.
 */

#define AF_INET 2
#define AF_INET6 10
#define PROTOCOL_TCP 6

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12

#define PENDING_PROBE0 3

#define OPENED_LOCAL 1
#define OPENED_PEER 2

/* Little-endian: a field shorter than 8 bytes fills the low ones. */
#define FIELD(base, NAME)                                                                    \
	({                                                                                   \
		u64 _v = 0;                                                                  \
		bpf_probe_read_kernel(&_v, SIZE_##NAME, (void *)((u64)(base) + OFF_##NAME)); \
		_v;                                                                          \
	})

/* The two programs that run per segment and per read are attached to typed tracepoints where the kernel has them: there a
 * field of an argument is a plain load, while a bpf_probe_read_kernel() is a call, and each call costs as much as twenty loads
 * where returns are guarded against speculation. TYPED says so; TCP_OF() is the tcp_sock of a sock, whose own fields the
 * verifier lets nobody read through a sock. With CASTS (Linux 6.2) the verifier takes our word for what something points at,
 * without a call: the loader makes that cast of a call of CAST_CALL (tracer/kernel/program_run.py). */
#ifdef TYPED
#define PLAIN 1
#define LOAD(base, type, NAME) (*(type *)((u64)(base) + OFF_##NAME))
#define TCP_OF(sk) ((u64)bpf_skc_to_tcp_sock((void *)(sk)))
#else
#define PLAIN 0
#define LOAD(base, type, NAME) ((type)FIELD(base, NAME))
#define TCP_OF(sk) (sk)
#endif

#ifdef CASTS
static u64 (*rdonly_cast)(u64 pointer, u32 type) = (void *)CAST_CALL;
#define tcp_sk(sk) rdonly_cast(sk, TYPE_TCP_SOCK)
#else
#define tcp_sk(sk) TCP_OF(sk)
#endif

#define BITFIELD(base, NAME) ((FIELD(base, NAME) >> BIT_##NAME) & ((1ULL << BITS_##NAME) - 1))

#ifndef BIT_SK_SHUTDOWN
#define BIT_SK_SHUTDOWN 0
#define BITS_SK_SHUTDOWN 8
#endif
#ifndef BIT_SK_PROTOCOL
#define BIT_SK_PROTOCOL 0
#define BITS_SK_PROTOCOL 16
#endif
#ifndef BIT_SND_WSCALE
#define BIT_SND_WSCALE 0
#define BITS_SND_WSCALE 8
#endif
#ifndef BIT_USEC_TS
#define BIT_USEC_TS 0
#define BITS_USEC_TS 1
#endif

/* PORT_MATCHES(p) comes from the loader: comparisons with the user's ports and ranges, or nothing to compare at all. */
static __always_inline int port_pair_matches(u16 local, u16 peer)
{
	return PORT_MATCHES(local) || PORT_MATCHES(peer);
}

static __always_inline int ports_match(u64 sk)
{
#ifdef PORT_FILTER
	return port_pair_matches(FIELD(sk, NUM), bpf_ntohs((u16)FIELD(sk, DPORT)));
#else
	return 1;
#endif
}

/* The same for an argument of a program that may be typed. */
static __always_inline int typed_ports_match(u64 sk)
{
#ifdef PORT_FILTER
	return port_pair_matches(LOAD(sk, u16, NUM), bpf_ntohs(LOAD(sk, u16, DPORT)));
#else
	return 1;
#endif
}

/* A socket that ends has given its skc_num back; inet_sport keeps the port. Only full sockets have it. */
static __always_inline u16 local_port(u64 sk)
{
	u16 port = FIELD(sk, NUM);

	return port ?: bpf_ntohs((u16)FIELD(sk, INET_SPORT));
}

static __always_inline int ending_ports_match(u64 sk)
{
	return port_pair_matches(local_port(sk), bpf_ntohs((u16)FIELD(sk, DPORT)));
}

static __always_inline int is_tcp(u64 sk)
{
#ifdef OFF_SK_PROTOCOL
	return BITFIELD(sk, SK_PROTOCOL) == PROTOCOL_TCP;
#else
	return 1;
#endif
}

/* A kernel thread acts for others: it closes what was in flight between processes, it reads for the kernel's own clients. */
#define PF_KTHREAD 0x00200000
#define PF_EXITING 0x00000004

static __always_inline int is_process(void)
{
	return !(FIELD(bpf_get_current_task(), TASK_FLAGS) & PF_KTHREAD);
}

/* Whoever holds the socket's lock is the task that runs now: a softirq never runs on a socket whose lock is held. */
static __always_inline void read_actor(struct actor *a, struct sock_state *s)
{
	u64 id;

	if (!(s->flags & SOCK_STATE_OWNED) || !is_process())
		return;
	if (FIELD(bpf_get_current_task(), TASK_FLAGS) & PF_EXITING)
		s->flags |= SOCK_STATE_EXITING;
	id = bpf_get_current_pid_tgid();
	a->tgid = id >> 32;
	a->tid = (u32)id;
	bpf_get_current_comm(a->comm, sizeof(a->comm));
}

static __always_inline struct track *new_track(u64 sk)
{
	struct track fresh = {};
	struct track *t;
	int full = tracks.insert(&sk, &fresh); /* or another CPU was first */

	t = tracks.lookup(&sk);
	if (!t && full)
		count_lost(LOST_TRACKS);
	return t;
}

/* The entry of a socket that passes the port filter, made if there is none. NULL: the table is full, which is counted. */
static __always_inline struct track *track_of(u64 sk)
{
	struct track *t = tracks.lookup(&sk);

	return t ?: new_track(sk);
}

/* By the kernel's own hash of a connection: typed programs may not calculate with what they know to be a pointer. */
static __always_inline struct recent *recent_at(u32 hash)
{
	u32 slot = hash % RECENTS;

	return recents.lookup(&slot);
}

/* What `recent` knows better than the entry, if it is of that socket and whole: of reads by the entry's reader. */
static __always_inline void take_over(struct track *t, const struct recent *recent)
{
	u64 word = recent->read;

	if ((u32)(word >> 32) == t->reader_tid && (s32)((u32)word - t->copied_seq) > 0)
		t->copied_seq = (u32)word;
}

/* The next read is to be looked at. */
static __always_inline void look_at_next_read(u64 sk)
{
	struct recent *recent = recent_at(FIELD(sk, SK_HASH));

	if (recent && recent->sk == sk)
		recent->jiffies = 0;
}

/* The socket may be another connection soon, of another hash, or another socket be at its address. */
static __always_inline void forget_reads(u64 sk, struct track *t)
{
	struct recent *recent = recent_at(FIELD(sk, SK_HASH));

	if (!recent || recent->sk != sk)
		return;
	if (t)
		take_over(t, recent);
	recent->sk = 0;
}
