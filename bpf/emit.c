/* SPDX-License-Identifier: Apache-2.0
 *
 * The one program that reads a whole socket for a raw tracepoint and puts it into the ring buffer.
 */

/* Leaves word for on_emit(). 0: there is no room, which is counted. */
static __always_inline int leave_request(u64 sk, u32 kind, u32 first, u32 second)
{
	u32 slot = 0;
	struct request_stack *stack = requests.lookup(&slot);
	u64 depth;

	if (!stack)
		return 0;
	depth = stack->depth;
	if (depth >= REQUEST_DEPTH) {
		count_lost(kind);
		return 0;
	}
	stack->depth = depth + 1;
	stack->requests[depth].sk = sk;
	stack->requests[depth].kind = kind;
	stack->requests[depth].detail[0] = first;
	stack->requests[depth].detail[1] = second;
	return 1;
}

/* There is no on_emit() to go on as. */
static __always_inline int take_back(u32 kind)
{
	u32 slot = 0;
	struct request_stack *stack = requests.lookup(&slot);

	if (stack)
		stack->depth--;
	count_lost(kind);
	return 0;
}

/* Ends the calling program: it goes on as on_emit(). */
static __always_inline int emit(struct bpf_raw_tracepoint_args *ctx, u64 sk, u32 kind, u32 first, u32 second)
{
	if (!leave_request(sk, kind, first, second))
		return 0;
	tails.call(ctx, 0);
	return take_back(kind);
}

static __always_inline int emit_from_probe(struct bpf_raw_tracepoint_args *ctx, u64 sk, u32 kind, u32 first, u32 second)
{
	if (!leave_request(sk, kind, first, second))
		return 0;
	probe_tails.call(ctx, 0);
	return take_back(kind);
}

static __always_inline int emit_from_read(struct bpf_raw_tracepoint_args *ctx, u64 sk, u32 kind, u32 first, u32 second)
{
	if (!leave_request(sk, kind, first, second))
		return 0;
	read_tails.call(ctx, 0);
	return take_back(kind);
}

/* Reads of a closed window make records. */
static __always_inline void note_window(u64 sk, struct track *t, int closed)
{
	int closes = closed && !t->window_closed;

	t->window_closed = closed;
	if (closes)
		look_at_next_read(sk);
}

int on_emit(struct bpf_raw_tracepoint_args *ctx)
{
	u32 slot = 0;
	struct request_stack *stack = requests.lookup(&slot);
	struct event_record *r;
	struct request q;
	struct track *t;
	u64 depth;

	if (!stack)
		return 0;
	depth = stack->depth - 1;
	if (depth >= REQUEST_DEPTH)
		return 0;
	q = stack->requests[depth];
	stack->depth = depth;

	t = tracks.lookup(&q.sk);
	r = reserve(q.kind, sizeof(*r));
	if (r) {
		__builtin_memset(r, 0, sizeof(*r));
		begin(&r->record, q.kind, sizeof(*r));
		read_sock(0, q.sk, &r->sock, t);
		read_actor(&r->actor, &r->sock);
		r->detail[0] = q.detail[0];
		r->detail[1] = q.detail[1];
		if (t && q.kind == RECORD_INSPECTED)
			note_window(q.sk, t, window_closed(&r->sock));
		records.ringbuf_submit(r, 0);
	}
	if (q.kind == RECORD_DESTROYED)
		tracks.delete(&q.sk);
	else if (t)
		t->known = t->suspect = 1;
	return 1;
}
