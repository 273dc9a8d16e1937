/* SPDX-License-Identifier: Apache-2.0
 *
 * RSTs, sent and received. tcp_send_reset: args (sk, skb) up to 6.9, (sk, skb, reason) since. An active RST has skb == NULL; a
 * passive one has the segment that it answers, and since 6.10 may have no socket, or one in TIME_WAIT or NEW_SYN_RECV.
 */

struct tcp_header {
	u16 source;
	u16 dest;
	u32 seq;
	u32 ack;
	u8 doff; /* high nibble: header length in words */
	u8 flags;
	u16 window;
};

/* The ends of an incoming segment, as the socket that it has none of would name them. */
static __always_inline int read_segment(u64 skb, struct sock_state *s)
{
	u64 head = FIELD(skb, SKB_HEAD);
	u64 ip = head + FIELD(skb, SKB_NETWORK_HEADER);
	u64 transport = head + FIELD(skb, SKB_TRANSPORT_HEADER);
	struct tcp_header h = {};
	u8 version = 0;

	bpf_probe_read_kernel(&version, 1, (void *)ip);
	if (version >> 4 == 4) {
		s->family = AF_INET;
		s->local_addr[10] = s->local_addr[11] = s->peer_addr[10] = s->peer_addr[11] = 0xff;
		bpf_probe_read_kernel(s->peer_addr + 12, 4, (void *)(ip + 12));
		bpf_probe_read_kernel(s->local_addr + 12, 4, (void *)(ip + 16));
	} else if (version >> 4 == 6) {
		s->family = AF_INET6;
		bpf_probe_read_kernel(s->peer_addr, 16, (void *)(ip + 8));
		bpf_probe_read_kernel(s->local_addr, 16, (void *)(ip + 24));
	} else {
		return 0;
	}
	bpf_probe_read_kernel(&h, sizeof(h), (void *)transport);
	s->peer_port = bpf_ntohs(h.source);
	s->local_port = bpf_ntohs(h.dest);
#if defined(OFF_SKB_DEV) && defined(OFF_DEV_NET)
	s->netns = FIELD(FIELD(FIELD(skb, SKB_DEV), DEV_NET), NET_INUM);
#endif
	return 1;
}

static __always_inline int is_connection(u64 sk)
{
	u8 state;

	if (!sk)
		return 0;
	state = FIELD(sk, STATE);
	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV && state != TCP_LISTEN;
}

static __always_inline int reset_of_segment(u64 sk, u64 skb, u32 reason, u32 how)
{
	struct event_record *r = reserve(RECORD_RESET_SENT, sizeof(*r));

	if (!r)
		return 0;
	__builtin_memset(r, 0, sizeof(*r));
	begin(&r->record, RECORD_RESET_SENT, sizeof(*r));
	r->detail[0] = reason;
	r->detail[1] = how;
	if (sk)
		r->sock.state = FIELD(sk, STATE);
	if (!read_segment(skb, &r->sock) || !port_pair_matches(r->sock.local_port, r->sock.peer_port)) {
		records.ringbuf_discard(r, 0);
		return 0;
	}
	records.ringbuf_submit(r, 0);
	return 0;
}

int on_tcp_send_reset(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], skb = ctx->args[1];
	u32 reason = 0, how = skb ? RESET_PASSIVE : 0;

#ifdef SEND_RESET_HAS_REASON
	reason = ctx->args[2];
	how |= RESET_HAS_REASON;
#endif
	if (!is_connection(sk))
		return skb ? reset_of_segment(sk, skb, reason, how) : 0;
	if (!ending_ports_match(sk))
		return 0;
	return emit(ctx, sk, RECORD_RESET_SENT, reason, how | RESET_HAS_SOCKET);
}

/* Fires also where no RST came: data after close() takes the same path (tcp_reset()); the model tells the two apart. */
int on_tcp_receive_reset(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];

	if (!is_connection(sk) || !ports_match(sk))
		return 0;
	return emit(ctx, sk, RECORD_RESET_RECEIVED, 0, RESET_HAS_SOCKET | RESET_PASSIVE);
}
