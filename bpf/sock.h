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
#define LOAD(base, type, NAME) (*(type *)((u64)(base) + OFF_##NAME))
#define TCP_OF(sk) ((u64)bpf_skc_to_tcp_sock((void *)(sk)))
#else
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

static __always_inline void read_address(u64 sk, u16 family, u8 *local, u8 *peer)
{
	if (family == AF_INET) {
		local[10] = local[11] = peer[10] = peer[11] = 0xff;
		bpf_probe_read_kernel(local + 12, 4, (void *)(sk + OFF_RCV_SADDR));
		bpf_probe_read_kernel(peer + 12, 4, (void *)(sk + OFF_DADDR));
		return;
	}
#ifdef OFF_V6_RCV_SADDR
	bpf_probe_read_kernel(local, 16, (void *)(sk + OFF_V6_RCV_SADDR));
	bpf_probe_read_kernel(peer, 16, (void *)(sk + OFF_V6_DADDR));
#endif
}

/* What sock_common has: all there is in a TIME_WAIT or NEW_SYN_RECV socket. Returns struct net. */
static __always_inline u64 read_common(u64 sk, struct sock_state *s)
{
	u64 net = FIELD(sk, NET);

	s->sk = sk;
	s->family = FIELD(sk, FAMILY);
	s->state = FIELD(sk, STATE);
	s->local_port = FIELD(sk, NUM);
	s->peer_port = bpf_ntohs((u16)FIELD(sk, DPORT));
	s->netns = FIELD(net, NET_INUM);
	read_address(sk, s->family, s->local_addr, s->peer_addr);
	return net;
}

/* The bucket that a timer is in (TIMER_ARRAYSHIFT, kernel/time/timer.c), of which each level of the wheel has 64. */
static __always_inline u8 timer_level(u64 timer)
{
	return (u32)FIELD(timer, TIMER_FLAGS) >> 22 >> 6;
}

static __always_inline void read_timers(u64 sk, struct sock_state *s)
{
	u64 keepalive = sk + OFF_KEEPALIVE_TIMER;

	s->jiffies = bpf_jiffies64();
#ifdef OFF_ICSK_TIMEOUT
	s->write_expires = FIELD(sk, ICSK_TIMEOUT);
#else
	s->write_expires = FIELD(sk + OFF_WRITE_TIMER, TIMER_EXPIRES);
#endif
	if (FIELD(keepalive, TIMER_PPREV))
		s->keepalive_expires = FIELD(keepalive, TIMER_EXPIRES);
	s->timer_levels = timer_level(sk + OFF_WRITE_TIMER) | timer_level(keepalive) << 4;
	s->pending = FIELD(sk, ICSK_PENDING);
	s->backoff = FIELD(sk, ICSK_BACKOFF);
	s->retransmits = FIELD(sk, ICSK_RETRANSMITS);
	s->probes_out = FIELD(sk, ICSK_PROBES_OUT);
	s->rto = FIELD(sk, ICSK_RTO);
#ifdef OFF_ICSK_RTO_MAX
	s->rto_max = FIELD(sk, ICSK_RTO_MAX);
#endif
	s->user_timeout = FIELD(sk, ICSK_USER_TIMEOUT);
#ifdef OFF_ICSK_PROBES_TSTAMP
	s->probes_tstamp = FIELD(sk, ICSK_PROBES_TSTAMP);
#endif
	s->retrans_stamp = FIELD(sk, RETRANS_STAMP);
	s->rcv_tstamp = FIELD(sk, RCV_TSTAMP);
	s->lrcvtime = FIELD(sk, ICSK_LRCVTIME);
	s->lsndtime = FIELD(sk, LSNDTIME);
}

/* The socket's own settings, and its namespace's where it has none (tcp_keepalive_time() and its like in net/tcp.h). */
static __always_inline void read_settings(u64 sk, u64 net, struct sock_state *s)
{
	s->keepalive_time = FIELD(sk, KEEPALIVE_TIME) ?: FIELD(net, SYSCTL_KEEPALIVE_TIME);
	s->keepalive_intvl = FIELD(sk, KEEPALIVE_INTVL) ?: FIELD(net, SYSCTL_KEEPALIVE_INTVL);
	s->keepalive_probes = FIELD(sk, KEEPALIVE_PROBES) ?: FIELD(net, SYSCTL_KEEPALIVE_PROBES);
	s->retries2 = FIELD(net, SYSCTL_RETRIES2);
	s->orphan_retries = FIELD(net, SYSCTL_ORPHAN_RETRIES);
	s->syn_retries = FIELD(sk, ICSK_SYN_RETRIES) ?: FIELD(net, SYSCTL_SYN_RETRIES);
#ifdef OFF_SYSCTL_SYN_LINEAR_TIMEOUTS
	s->syn_linear_timeouts = FIELD(net, SYSCTL_SYN_LINEAR_TIMEOUTS);
#endif
	s->fin_timeout = FIELD(net, SYSCTL_FIN_TIMEOUT);
	s->linger2 = FIELD(sk, LINGER2);
#ifdef OFF_SK_LINGERTIME
	s->lingertime = FIELD(sk, SK_LINGERTIME);
#endif
}

static __always_inline u32 read_flags(u64 sk)
{
	u64 kernel = FIELD(sk, SK_FLAGS);
	u32 flags = 0;

	if (kernel & (1ULL << FLAG_SOCK_DEAD))
		flags |= SOCK_STATE_DEAD;
	else if (!FIELD(sk, SK_SOCKET))
		flags |= SOCK_STATE_UNACCEPTED;
	if (kernel & (1ULL << FLAG_SOCK_KEEPOPEN))
		flags |= SOCK_STATE_KEEPOPEN;
	if (kernel & (1ULL << FLAG_SOCK_LINGER))
		flags |= SOCK_STATE_LINGER;
	if (FIELD(sk, SK_LOCK_OWNED))
		flags |= SOCK_STATE_OWNED;
#ifdef OFF_USEC_TS
	if (BITFIELD(sk, USEC_TS))
		flags |= SOCK_STATE_USEC_TS;
#endif
	return flags;
}

static __always_inline void read_queues(u64 sk, struct sock_state *s)
{
	s->rcv_nxt = FIELD(sk, RCV_NXT);
	s->copied_seq = FIELD(sk, COPIED_SEQ);
	s->rcv_wup = FIELD(sk, RCV_WUP);
	s->rcv_wnd = FIELD(sk, RCV_WND);
	s->write_seq = FIELD(sk, WRITE_SEQ);
	s->snd_una = FIELD(sk, SND_UNA);
	s->snd_nxt = FIELD(sk, SND_NXT);
	s->snd_wnd = FIELD(sk, SND_WND);
	s->max_window = FIELD(sk, MAX_WINDOW);
	s->packets_out = FIELD(sk, PACKETS_OUT);
	s->rcvbuf = FIELD(sk, SK_RCVBUF);
	s->sndbuf = FIELD(sk, SK_SNDBUF);
	s->mss = FIELD(sk, MSS_CACHE);
	s->srtt_us = FIELD(sk, SRTT_US);
}

static __always_inline int window_closed(const struct sock_state *s)
{
	return (s32)(s->rcv_wup + s->rcv_wnd - s->rcv_nxt) <= 0;
}

/* A full socket, whole. `s` must be zero. */
static __always_inline void read_sock(u64 sk, struct sock_state *s, const struct track *t)
{
	u64 net = read_common(sk, s);

	s->local_port = local_port(sk);
	s->shutdown = BITFIELD(sk, SK_SHUTDOWN);
	s->err = FIELD(sk, SK_ERR);
	s->flags = read_flags(sk);
	read_queues(sk, s);
	read_timers(sk, s);
	read_settings(sk, net, s);
	if (t) {
		s->established_ns = t->established_ns;
		s->read_ns = t->read_ns;
		s->reader_tgid = t->reader_tgid;
		s->reader_tid = t->reader_tid;
		s->creator_tgid = t->creator_tgid;
		s->creator_tid = t->creator_tid;
		s->opened_by = t->opened_by;
		s->readers = t->streak < SETTLED ? t->readers : 1;
		if (t->several && t->streak < SETTLED)
			s->flags |= SOCK_STATE_SEVERAL;
	}
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

/* The next read is to be looked at. */
static __always_inline void forget_recent(u64 sk)
{
	struct recent *recent = recent_at(FIELD(sk, SK_HASH));

	if (recent && recent->sk == sk)
		recent->jiffies = 0;
}
