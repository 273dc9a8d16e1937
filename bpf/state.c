/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a connection: who opened it, how it ended. inet_sock_set_state fires before the new state is stored; to
 * ESTABLISHED it runs in softirq, where the current task is nobody; to SYN_SENT it runs in connect().
 */

#define ENETUNREACH 101
#define ETIMEDOUT 110
#define EHOSTUNREACH 113
#define SHUTDOWN_BOTH 3 /* RCV_SHUTDOWN | SEND_SHUTDOWN: close(); shutdown() of one direction sets one */

static __always_inline int opening(u64 sk)
{
	u64 id = bpf_get_current_pid_tgid();
	struct track *t;

	/* connect() chooses the local port only after this */
	if (local_port(sk) && !ports_match(sk))
		return 0;
	t = track_of(sk);
	if (!t)
		return 0;
	t->opened_by = OPENED_LOCAL;
	t->creator_tgid = id >> 32;
	t->creator_tid = (u32)id;
	return 0;
}

static __always_inline int established(u64 sk, int old)
{
	struct track *t;

	if (!ports_match(sk)) {
		tracks.delete(&sk); /* opening() did not know the port */
		return 0;
	}
	t = track_of(sk);
	if (!t)
		return 0;
	t->established_ns = bpf_ktime_get_ns();
	t->copied_seq = FIELD(sk, COPIED_SEQ);
	t->has_baseline = 1;
	if (old == TCP_SYN_RECV)
		t->opened_by = OPENED_PEER;
	return 0;
}

/* What a timer that gives up leaves: the last that ICMP or the neighbour said of the way there, if anything did. While a
 * connection opens that alone ends it. */
static __always_inline int is_timeout(u32 err, int old)
{
	return err == ETIMEDOUT || (old != TCP_SYN_SENT && (err == EHOSTUNREACH || err == ENETUNREACH));
}

/* Whether its end is worth a record: a healthy connection ends without a copy. */
static __always_inline int ended(u64 sk, int old)
{
	struct track *t;

	if (!ending_ports_match(sk))
		return 0;
	t = tracks.lookup(&sk);
	forget_reads(sk, t);
	return (t && t->known) || is_timeout(FIELD(sk, SK_ERR), old);
}

/* close() of a connection that user space watches: how long an application bears with its peer shows then. */
static __always_inline int gives_up(u64 sk)
{
	struct track *t;

	if (!ports_match(sk) || BITFIELD(sk, SK_SHUTDOWN) != SHUTDOWN_BOTH)
		return 0;
	t = tracks.lookup(&sk);
	return t && t->known && t->suspect;
}

int on_inet_sock_set_state(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	int old = ctx->args[1], new = ctx->args[2];

	if (!is_tcp(sk))
		return 0;
	if (new == TCP_SYN_SENT)
		return opening(sk);
	if (new == TCP_ESTABLISHED)
		return established(sk, old);
	if (new == TCP_CLOSE && old != TCP_LISTEN &&old != TCP_CLOSE)
		return ended(sk, old) ? emit(ctx, sk, RECORD_STATE, old, new) : 0;
	if (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK)
		return gives_up(sk) ? emit(ctx, sk, RECORD_STATE, old, new) : 0;
	return 0;
}

/* A socket that was never bound nor connected still has what every socket starts with. */
static __always_inline void calibrate(u64 sk)
{
	u32 slot = 0;
	struct calibration *c = calibrations.lookup(&slot);
	struct calibrated_record *r;

	if (!c || c->hz || FIELD(sk, NUM) || FIELD(sk, DPORT) || FIELD(sk, RCV_NXT))
		return;
	c->write_timer = FIELD(sk + OFF_WRITE_TIMER, TIMER_FUNCTION);
	c->keepalive_timer = FIELD(sk + OFF_KEEPALIVE_TIMER, TIMER_FUNCTION);
	c->hz = FIELD(sk, ICSK_RTO); /* TCP_TIMEOUT_INIT is one second */
	r = reserve(RECORD_CALIBRATED, sizeof(*r));
	if (!r)
		return;
	__builtin_memset(r, 0, sizeof(*r));
	begin(&r->record, RECORD_CALIBRATED, sizeof(*r));
	r->jiffies = bpf_jiffies64();
	r->hz = c->hz;
	records.ringbuf_submit(r, 0);
}

int on_tcp_destroy_sock(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	struct track *t = tracks.lookup(&sk);

	forget_reads(sk, t);
	if (!t)
		calibrate(sk);
	else if (t->known)
		return emit(ctx, sk, RECORD_DESTROYED, 0, 0); /* and on_emit() deletes the entry */
	else
		tracks.delete(&sk);
	return 0;
}
