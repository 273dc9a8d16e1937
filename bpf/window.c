/* SPDX-License-Identifier: Apache-2.0
 *
 * Window updates and probes, from tcp_probe: the top of tcp_rcv_established(), before the segment changes the socket. It runs
 * for every segment that an established connection receives, so each read has to earn its place.
 */

#define FLAG_SYN 0x02
#define FLAG_RST 0x04

/* The segment uses up all that we offered. Whether the window is closed shows when it has been answered, so user space
 * looks again (inspect); a connection limited by its window does this often, hence the spacing. */
static __always_inline int window_used_up(struct bpf_raw_tracepoint_args *ctx, u64 sk)
{
	struct track *t = track_of(sk);
	u64 now;

	if (!t || t->window_closed)
		return 0;
	now = bpf_ktime_get_ns();
	if (now < t->quiet_until_ns)
		return 0;
	t->quiet_until_ns = now + RECORD_SPACING_NS;
	return emit_from_probe(ctx, sk, RECORD_WINDOW, SIDE_LOCAL, 0);
}

int on_tcp_probe(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], skb = ctx->args[1], tp;
	struct tcp_header h = {};
	u32 seq, length, rcv_nxt, edge;

	if (!typed_ports_match(sk))
		return 0;
	bpf_probe_read_kernel(&h, sizeof(h), (void *)LOAD(skb, u64, SKB_DATA));
	if (h.flags & (FLAG_SYN | FLAG_RST))
		return 0; /* their window says nothing */
	tp = TCP_OF(sk);
	if (!tp)
		return 0;

	if (!h.window != !LOAD(tp, u32, SND_WND)) {
		track_of(sk);
		return emit_from_probe(ctx, sk, RECORD_WINDOW, SIDE_PEER, (u32)bpf_ntohs(h.window) << BITFIELD(sk, SND_WSCALE));
	}

	seq = bpf_ntohl(h.seq);
	length = LOAD(skb, u32, SKB_LEN) - (h.doff >> 4) * 4;
	rcv_nxt = LOAD(tp, u32, RCV_NXT);
	if (!length && seq != rcv_nxt - 1)
		return 0;
	edge = LOAD(tp, u32, RCV_WUP) + LOAD(tp, u32, RCV_WND);
	if (length)
		return (s32)(edge - seq - length) <= 0 ? window_used_up(ctx, sk) : 0;
	track_of(sk);
	return emit_from_probe(ctx, sk, RECORD_PROBE, (s32)(edge - rcv_nxt) <= 0 ? MECHANISM_ZERO_WINDOW : MECHANISM_KEEPALIVE,
			       0);
}

/* Not attached: user space runs it on one socket (BPF_PROG_TEST_RUN), to see what became of it since a record. */
int inspect(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];

	return tracks.lookup(&sk) ? emit(ctx, sk, RECORD_INSPECTED, 0, 0) : 0;
}
