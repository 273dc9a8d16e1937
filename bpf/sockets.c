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
	u64 tp = TCP_OF(sk);
	u32 rcv_nxt;

	if (!tp)
		return 0;
	rcv_nxt = LOAD(tp, u32, RCV_NXT);
	if (rcv_nxt != LOAD(tp, u32, COPIED_SEQ) || LOAD(tp, u32, WRITE_SEQ) != LOAD(tp, u32, SND_NXT))
		return 1;
	if (!LOAD(tp, u32, SND_WND) || LOAD(tp, u8, ICSK_PROBES_OUT) || LOAD(tp, u8, ICSK_RETRANSMITS))
		return 1;
	return (s32)(LOAD(tp, u32, RCV_WUP) + LOAD(tp, u32, RCV_WND) - rcv_nxt) <= 0;
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
	read_address(0, sk, r.family, r.addr, peer);
	bpf_seq_write(seq, &r, sizeof(r));
	return 0;
}

/* A record of it is long to clear: apart, for most sockets need none. */
static __always_inline int write_socket(struct seq_file *seq, u64 sk, struct track *t, int interest)
{
	struct socket_record r = {};
	u64 tp = TCP_OF(sk);

	if (!tp)
		return 0;
	begin(&r.record, RECORD_SOCKET, sizeof(r));
	read_sock(PLAIN, tp, &r.sock, t);
	r.sock.sk = sk;
	if (t) {
		t->suspect = interest; /* one that recovered was written once more */
		t->known = 1;
		note_window(sk, t, window_closed(&r.sock));
	}
	bpf_seq_write(seq, &r, sizeof(r));
	return 0;
}

BPF_ITER(tcp)
{
	struct seq_file *seq = ctx->meta->seq;
	struct track *t;
	u64 sk = ctx->sk_word, *n;
	u32 slot = 0;
	u8 state;
	int interest;

	if (!sk)
		return 0;
	state = LOAD(sk, u8, STATE);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV || state == TCP_CLOSE)
		return 0;
	if (state == TCP_LISTEN)
		return write_listener(seq, sk);
	if (!typed_ports_match(sk))
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
	return interest || (t && t->suspect) ? write_socket(seq, sk, t, interest) : 0;
}
