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

int on_tcp_rcv_space_adjust(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], now, id, jiffies;
	struct track *t;
	u32 copied_seq;
	int advanced;

	if (!typed_ports_match(sk))
		return 0;
	t = track_of(sk);
	if (!t)
		return 0;
	copied_seq = FIELD(sk, COPIED_SEQ);
	advanced = t->has_baseline && copied_seq != t->copied_seq;
	t->copied_seq = copied_seq;
	t->has_baseline = 1;
	if (!advanced)
		return 0;
	jiffies = bpf_jiffies64();
	if (t->read_jiffies != jiffies) {
		t->read_jiffies = jiffies;
		t->read_ns = bpf_ktime_get_ns();
	}
	id = bpf_get_current_pid_tgid();
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
	if (!t->window_closed)
		return 0;
	now = bpf_ktime_get_ns();
	if (now < t->quiet_until_ns)
		return 0;
	t->quiet_until_ns = now + RECORD_SPACING_NS;
	return emit_from_read(ctx, sk, RECORD_READ, 0, 0);
}
