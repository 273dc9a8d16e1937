/* SPDX-License-Identifier: Apache-2.0
 *
 * Who reads, and when. tcp_rcv_space_adjust() runs in the reader's context for each segment that recvmsg() copied, copied_seq
 * already moved on; with MSG_PEEK it runs too but copied_seq stays, and whoever only peeks is no reader. tcp_read_sock()
 * (splice, and the kernel's own clients) calls it as well, the latter also in softirq, where the socket's lock has no owner.
 */

static __always_inline void remember_reader(struct track *t, u32 tid)
{
	u32 i;

#pragma unroll
	for (i = 0; i < READERS; i++) {
		if (t->reader_tids[i] == tid)
			return;
		if (!t->reader_tids[i]) {
			t->reader_tids[i] = tid;
			t->readers = i + 1;
			return;
		}
	}
}

/* Copied, and by whom: one word, that no two CPUs ever write half of each. */
static __always_inline u64 read_word(u32 tid, u32 copied_seq)
{
	return (u64)tid << 32 | copied_seq;
}

/* A read as the entry remembers it. 0: nothing was taken (MSG_PEEK), or nobody is to be named. */
static __always_inline int remember_read(u64 sk, struct track *t, u32 copied_seq, u64 id, u64 jiffies)
{
	int advanced = t->has_baseline && copied_seq != t->copied_seq;

	t->copied_seq = copied_seq;
	t->has_baseline = 1;
	if (!advanced)
		return 0;
	if (t->read_jiffies != jiffies) {
		t->read_jiffies = jiffies;
		t->read_ns = bpf_ktime_get_ns();
	}
	if (t->reader_tid != (u32)id) {
		if (!FIELD(sk, SK_LOCK_OWNED) || !is_process())
			return 0;
		if (t->reader_tgid && t->reader_tgid != id >> 32)
			t->several = 1;
		t->reader_tgid = id >> 32;
		t->reader_tid = (u32)id;
		t->streak = 0;
		remember_reader(t, (u32)id);
	}
	if (t->streak < SETTLED)
		t->streak++;
	return 1;
}

int on_tcp_rcv_space_adjust(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], tp, id, jiffies, now;
	struct recent *recent;
	struct track *t;
	u32 copied_seq;

	if (!typed_ports_match(sk))
		return 0;
	tp = tcp_sk(sk);
	recent = recent_at(LOAD(sk, u32, SK_HASH));
	if (!tp || !recent)
		return 0;
	copied_seq = LOAD(tp, u32, COPIED_SEQ);
	jiffies = bpf_jiffies64();
	id = bpf_get_current_pid_tgid();
	if (recent->sk == sk && recent->jiffies == jiffies && recent->read >> 32 == (u32)id) {
		recent->read = read_word((u32)id, copied_seq);
		return 0;
	}

	t = track_of(sk);
	if (!t)
		return 0;
	if (recent->sk == sk) {
		take_over(t, recent);
	} else if (recent->sk) {
		struct track *other = tracks.lookup(&recent->sk);

		if (other)
			take_over(other, recent);
	}
	recent->sk = 0;
	if (!remember_read(sk, t, copied_seq, id, jiffies))
		return 0;
	if (!t->window_closed) {
		if (t->streak == SETTLED) {
			recent->read = read_word((u32)id, copied_seq);
			recent->jiffies = jiffies;
			recent->sk = sk;
			if (t->window_closed) /* just now, on another CPU */
				recent->jiffies = 0;
		}
		return 0;
	}
	now = bpf_ktime_get_ns();
	if (now < t->quiet_until_ns)
		return 0;
	t->quiet_until_ns = now + RECORD_SPACING_NS;
	return emit_from_read(ctx, sk, RECORD_READ, 0, 0);
}
