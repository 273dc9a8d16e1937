/* SPDX-License-Identifier: Apache-2.0
 *
 * iter/tcp: every TCP socket of the network namespace whose process opened the iterator, under the socket's lock. Only sockets
 * of interest are written out; the rest are counted.
 */

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

/* BTF pointers: the verifier wants 8 bytes each */
struct bpf_iter__tcp {
	union {
		struct bpf_iter_meta *meta;
		u64 meta_word;
	};
	union {
		void *sk_common;
		u64 sk_word;
	};
	u32 uid;
};

/* Unread or unsent data, a closed window, or something unanswered. */
static __always_inline int of_interest(u64 sk)
{
#ifdef EVERYTHING
	return 1;
#else
	u32 rcv_nxt = FIELD(sk, RCV_NXT);

	if (rcv_nxt != (u32)FIELD(sk, COPIED_SEQ) || (u32)FIELD(sk, WRITE_SEQ) != (u32)FIELD(sk, SND_NXT))
		return 1;
	if (!FIELD(sk, SND_WND) || FIELD(sk, ICSK_PROBES_OUT) || FIELD(sk, ICSK_RETRANSMITS))
		return 1;
	return (s32)((u32)FIELD(sk, RCV_WUP) + (u32)FIELD(sk, RCV_WND) - rcv_nxt) <= 0;
#endif
}

static __always_inline int write_listener(struct seq_file *seq, u64 sk)
{
	struct listener_record r = {};
	u8 peer[16] = {};

	begin(&r.record, RECORD_LISTENER, sizeof(r));
	r.sk = sk;
	r.family = FIELD(sk, FAMILY);
	r.port = FIELD(sk, NUM);
	r.netns = FIELD(FIELD(sk, NET), NET_INUM);
	r.backlog = FIELD(sk, SK_ACK_BACKLOG);
	r.max_backlog = FIELD(sk, SK_MAX_ACK_BACKLOG);
	read_address(sk, r.family, r.addr, peer);
	bpf_seq_write(seq, &r, sizeof(r));
	return 0;
}

BPF_ITER(tcp)
{
	struct seq_file *seq = ctx->meta->seq;
	struct socket_record r = {};
	struct track *t;
	u64 sk = ctx->sk_word, *n;
	u32 slot = 0;
	u8 state;
	int interest;

	if (!sk)
		return 0;
	state = FIELD(sk, STATE);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV || state == TCP_CLOSE)
		return 0;
	if (state == TCP_LISTEN)
		return write_listener(seq, sk);
	if (!ports_match(sk))
		return 0;
	n = scanned.lookup(&slot);
	if (n)
		__sync_fetch_and_add(n, 1);

	t = track_of(sk);
	if (t && !t->has_baseline) {
		t->copied_seq = FIELD(sk, COPIED_SEQ);
		t->has_baseline = 1;
	}
	interest = of_interest(sk);
	if (!interest && !(t && t->suspect))
		return 0;
	begin(&r.record, RECORD_SOCKET, sizeof(r));
	read_sock(sk, &r.sock, t);
	if (t) {
		t->suspect = interest; /* one that recovered was written once more */
		t->known = 1;
		t->window_closed = window_closed(&r.sock);
	}
	bpf_seq_write(seq, &r, sizeof(r));
	return 0;
}
