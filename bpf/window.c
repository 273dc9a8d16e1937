/* SPDX-License-Identifier: Apache-2.0
 *
 * Window updates and probes, from tcp_probe: the top of tcp_rcv_established(), before the segment changes the socket. It runs
 * for every segment that an established connection receives, so each read has to earn its place.
 */

#define FLAG_SYN 0x02
#define FLAG_RST 0x04

static __always_inline void read_header(u64 skb, struct tcp_header *h)
{
#ifdef CASTS
	const struct tcp_header *th = (void *)rdonly_cast(LOAD(skb, u64, SKB_DATA), TYPE_TCPHDR);

	h->seq = th->seq;
	h->doff = th->doff;
	h->flags = th->flags;
	h->window = th->window;
#else
	bpf_probe_read_kernel(h, sizeof(*h), (void *)LOAD(skb, u64, SKB_DATA));
#endif
}

/* What a segment tells, and its record's two words; 0: nothing. The one that uses up all that we offered is worth a record of
 * its own: whether the window is closed shows when it has been answered, so user space looks again (inspect). */
static __always_inline u32 told_by_segment(u64 sk, u64 skb, u32 *first, u32 *second)
{
	struct tcp_header h = {};
	u32 seq, length, rcv_nxt, edge;
	u64 tp;

	read_header(skb, &h);
	if (h.flags & (FLAG_SYN | FLAG_RST))
		return 0; /* their window says nothing */
	tp = tcp_sk(sk);
	if (!tp)
		return 0;

	if (!h.window != !LOAD(tp, u32, SND_WND)) {
		*first = SIDE_PEER;
		*second = (u32)bpf_ntohs(h.window) << BITFIELD(sk, SND_WSCALE);
		return RECORD_WINDOW;
	}

	seq = bpf_ntohl(h.seq);
	length = LOAD(skb, u32, SKB_LEN) - (h.doff >> 4) * 4;
	rcv_nxt = LOAD(tp, u32, RCV_NXT);
	if (!length && seq != rcv_nxt - 1)
		return 0;
	edge = LOAD(tp, u32, RCV_WUP) + LOAD(tp, u32, RCV_WND);
	if (length) {
		*first = SIDE_LOCAL;
		return (s32)(edge - seq - length) <= 0 ? RECORD_WINDOW : 0;
	}
	*first = (s32)(edge - rcv_nxt) <= 0 ? MECHANISM_ZERO_WINDOW : MECHANISM_KEEPALIVE;
	return RECORD_PROBE;
}

/* A connection that is limited by its window uses it up often: once in a while is enough. */
static __always_inline int is_spaced(struct track *t)
{
	u64 now;

	if (!t || t->window_closed)
		return 0;
	now = bpf_ktime_get_ns();
	if (now < t->quiet_until_ns)
		return 0;
	t->quiet_until_ns = now + RECORD_SPACING_NS;
	return 1;
}

int on_tcp_probe(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	u32 kind, first = 0, second = 0;
	struct track *t;

	if (!typed_ports_match(sk))
		return 0;
	kind = told_by_segment(sk, ctx->args[1], &first, &second);
	if (!kind)
		return 0;
	t = track_of(sk);
	if (kind == RECORD_WINDOW && first == SIDE_LOCAL && !is_spaced(t))
		return 0;
	return emit_from_probe(ctx, sk, kind, first, second);
}

/* Not attached: user space runs it on one socket (BPF_PROG_TEST_RUN), to see what became of it since a record. */
int inspect(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];

	return tracks.lookup(&sk) ? emit(ctx, sk, RECORD_INSPECTED, 0, 0) : 0;
}
