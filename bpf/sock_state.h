/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole socket, field by field. `plain` is a constant of the caller's: 1 where `sk` is what TCP_OF() gives in a typed
 * program, whose fields are loads; 0 where it is a number, and each field a call.
 */

#define LOAD_ANY(base, NAME)                                \
	(SIZE_##NAME == 8   ? *(u64 *)((base) + OFF_##NAME) \
	 : SIZE_##NAME == 4 ? *(u32 *)((base) + OFF_##NAME) \
	 : SIZE_##NAME == 2 ? *(u16 *)((base) + OFF_##NAME) \
			    : *(u8 *)((base) + OFF_##NAME))
#define READ(base, NAME) (plain ? LOAD_ANY(base, NAME) : FIELD(base, NAME))
#define READ_BITS(base, NAME) ((READ(base, NAME) >> BIT_##NAME) & ((1ULL << BITS_##NAME) - 1))

static __always_inline void read_address(int plain, u64 sk, u16 family, u8 *local, u8 *peer)
{
	if (family == AF_INET) {
		local[10] = local[11] = peer[10] = peer[11] = 0xff;
		*(u32 *)(local + 12) = READ(sk, RCV_SADDR);
		*(u32 *)(peer + 12) = READ(sk, DADDR);
		return;
	}
#ifdef OFF_V6_RCV_SADDR
	((u64 *)local)[0] = READ(sk, V6_RCV_SADDR);
	((u64 *)local)[1] = READ(sk + 8, V6_RCV_SADDR);
	((u64 *)peer)[0] = READ(sk, V6_DADDR);
	((u64 *)peer)[1] = READ(sk + 8, V6_DADDR);
#endif
}

/* What sock_common has: all there is in a TIME_WAIT or NEW_SYN_RECV socket. Returns struct net. */
static __always_inline u64 read_common(int plain, u64 sk, struct sock_state *s)
{
	u64 net = READ(sk, NET);

	s->sk = sk;
	s->family = READ(sk, FAMILY);
	s->state = READ(sk, STATE);
	s->local_port = READ(sk, NUM);
	s->peer_port = bpf_ntohs((u16)READ(sk, DPORT));
	s->netns = READ(net, NET_INUM);
	read_address(plain, sk, s->family, s->local_addr, s->peer_addr);
	return net;
}

/* The bucket that a timer is in (TIMER_ARRAYSHIFT, kernel/time/timer.c), of which each level of the wheel has 64. */
static __always_inline u8 timer_level(int plain, u64 timer)
{
	return (u32)READ(timer, TIMER_FLAGS) >> 22 >> 6;
}

static __always_inline void read_timers(int plain, u64 sk, struct sock_state *s)
{
	u64 keepalive = sk + OFF_KEEPALIVE_TIMER;

	s->jiffies = bpf_jiffies64();
#ifdef OFF_ICSK_TIMEOUT
	s->write_expires = READ(sk, ICSK_TIMEOUT);
#else
	s->write_expires = READ(sk + OFF_WRITE_TIMER, TIMER_EXPIRES);
#endif
	if (READ(keepalive, TIMER_PPREV))
		s->keepalive_expires = READ(keepalive, TIMER_EXPIRES);
	s->timer_levels = timer_level(plain, sk + OFF_WRITE_TIMER) | timer_level(plain, keepalive) << 4;
	s->pending = READ(sk, ICSK_PENDING);
	s->backoff = READ(sk, ICSK_BACKOFF);
	s->retransmits = READ(sk, ICSK_RETRANSMITS);
	s->probes_out = READ(sk, ICSK_PROBES_OUT);
	s->rto = READ(sk, ICSK_RTO);
#ifdef OFF_ICSK_RTO_MAX
	s->rto_max = READ(sk, ICSK_RTO_MAX);
#endif
	s->user_timeout = READ(sk, ICSK_USER_TIMEOUT);
#ifdef OFF_ICSK_PROBES_TSTAMP
	s->probes_tstamp = READ(sk, ICSK_PROBES_TSTAMP);
#endif
	s->retrans_stamp = READ(sk, RETRANS_STAMP);
	s->rcv_tstamp = READ(sk, RCV_TSTAMP);
	s->lrcvtime = READ(sk, ICSK_LRCVTIME);
}

/* The socket's own settings, and its namespace's where it has none (tcp_keepalive_time() and its like in net/tcp.h). */
static __always_inline void read_settings(int plain, u64 sk, u64 net, struct sock_state *s)
{
	s->keepalive_time = READ(sk, KEEPALIVE_TIME) ?: READ(net, SYSCTL_KEEPALIVE_TIME);
	s->keepalive_intvl = READ(sk, KEEPALIVE_INTVL) ?: READ(net, SYSCTL_KEEPALIVE_INTVL);
	s->keepalive_probes = READ(sk, KEEPALIVE_PROBES) ?: READ(net, SYSCTL_KEEPALIVE_PROBES);
	s->retries2 = READ(net, SYSCTL_RETRIES2);
	s->orphan_retries = READ(net, SYSCTL_ORPHAN_RETRIES);
	s->syn_retries = READ(sk, ICSK_SYN_RETRIES) ?: READ(net, SYSCTL_SYN_RETRIES);
#ifdef OFF_SYSCTL_SYN_LINEAR_TIMEOUTS
	s->syn_linear_timeouts = READ(net, SYSCTL_SYN_LINEAR_TIMEOUTS);
#endif
	s->fin_timeout = READ(net, SYSCTL_FIN_TIMEOUT);
	s->linger2 = READ(sk, LINGER2);
#ifdef OFF_SK_LINGERTIME
	s->lingertime = READ(sk, SK_LINGERTIME);
#endif
}

static __always_inline u32 read_flags(int plain, u64 sk)
{
	u64 kernel = READ(sk, SK_FLAGS);
	u32 flags = 0;

	if (kernel & (1ULL << FLAG_SOCK_DEAD))
		flags |= SOCK_STATE_DEAD;
	else if (!READ(sk, SK_SOCKET))
		flags |= SOCK_STATE_UNACCEPTED;
	if (kernel & (1ULL << FLAG_SOCK_KEEPOPEN))
		flags |= SOCK_STATE_KEEPOPEN;
	if (kernel & (1ULL << FLAG_SOCK_LINGER))
		flags |= SOCK_STATE_LINGER;
	if (READ(sk, SK_LOCK_OWNED))
		flags |= SOCK_STATE_OWNED;
#ifdef OFF_USEC_TS
	if (READ_BITS(sk, USEC_TS))
		flags |= SOCK_STATE_USEC_TS;
#endif
	return flags;
}

static __always_inline void read_queues(int plain, u64 sk, struct sock_state *s)
{
	s->rcv_nxt = READ(sk, RCV_NXT);
	s->copied_seq = READ(sk, COPIED_SEQ);
	s->rcv_wup = READ(sk, RCV_WUP);
	s->rcv_wnd = READ(sk, RCV_WND);
	s->write_seq = READ(sk, WRITE_SEQ);
	s->snd_una = READ(sk, SND_UNA);
	s->snd_nxt = READ(sk, SND_NXT);
	s->snd_wnd = READ(sk, SND_WND);
	s->max_window = READ(sk, MAX_WINDOW);
	s->packets_out = READ(sk, PACKETS_OUT);
	s->rcvbuf = READ(sk, SK_RCVBUF);
	s->sndbuf = READ(sk, SK_SNDBUF);
	s->mss = READ(sk, MSS_CACHE);
	s->srtt_us = READ(sk, SRTT_US);
}

static __always_inline int window_closed(const struct sock_state *s)
{
	return (s32)(s->rcv_wup + s->rcv_wnd - s->rcv_nxt) <= 0;
}

/* A full socket, whole. `s` must be zero. */
static __always_inline void read_sock(int plain, u64 sk, struct sock_state *s, const struct track *t)
{
	u64 net = read_common(plain, sk, s);

	s->local_port = (u16)READ(sk, NUM) ?: bpf_ntohs((u16)READ(sk, INET_SPORT));
	s->shutdown = READ_BITS(sk, SK_SHUTDOWN);
	s->err = READ(sk, SK_ERR);
	s->flags = read_flags(plain, sk);
	read_queues(plain, sk, s);
	read_timers(plain, sk, s);
	read_settings(plain, sk, net, s);
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
