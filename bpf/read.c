/* SPDX-License-Identifier: Apache-2.0
 *
 * Who reads, and when. tcp_rcv_space_adjust() runs in the reader's context for each segment that recvmsg() copied, copied_seq
 * already moved on; with MSG_PEEK it runs too but copied_seq stays, and whoever only peeks is no reader.
 */

int on_tcp_rcv_space_adjust(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], now, id;
	struct track *t;
	u32 copied_seq;
	int advanced;

	if (!ports_match(sk))
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
	now = bpf_ktime_get_ns();
	id = bpf_get_current_pid_tgid();
	t->read_ns = now;
	t->reader_tgid = id >> 32;
	t->reader_tid = (u32)id;
	if (!t->window_closed || now < t->quiet_until_ns)
		return 0;
	t->quiet_until_ns = now + RECORD_SPACING_NS;
	return emit(ctx, sk, RECORD_READ, 0, 0);
}
