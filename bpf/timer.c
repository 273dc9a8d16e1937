/* SPDX-License-Identifier: Apache-2.0
 *
 * Keepalive and zero-window probe timers, from timer_expire_entry, which fires for every timer of the host. It fires before the
 * handler takes the socket's lock and may be early or deferred, so a record is made only where the handler will probe.
 */

/* The number of the probe that tcp_write_timer_handler() and tcp_probe_timer(), net/ipv4/tcp_timer.c, will send; 0: none. */
static __always_inline u32 zero_window_probe(u64 sk, u32 hz)
{
	u32 probes = FIELD(sk, ICSK_PROBES_OUT), user_timeout = FIELD(sk, ICSK_USER_TIMEOUT), snd_nxt;

	if (FIELD(sk, ICSK_PENDING) != PENDING_PROBE0 || FIELD(sk, PACKETS_OUT) || FIELD(sk, SK_LOCK_OWNED))
		return 0;
	snd_nxt = FIELD(sk, SND_NXT);
	if ((u32)FIELD(sk, WRITE_SEQ) == snd_nxt)
		return 0;
	if ((s32)((u32)FIELD(sk, SND_UNA) + (u32)FIELD(sk, SND_WND) - snd_nxt) > 0)
		return 0; /* a window too small for a whole segment: tcp_write_wakeup() sends what fits instead of a probe */
#ifdef OFF_ICSK_TIMEOUT
	if ((s64)(FIELD(sk, ICSK_TIMEOUT) - bpf_jiffies64()) > 0)
		return 0; /* early: it will be armed again */
#endif
	if (probes >= (u32)FIELD(FIELD(sk, NET), SYSCTL_RETRIES2))
		return 0; /* gives up: the state change says so */
#ifdef OFF_ICSK_PROBES_TSTAMP
	if (user_timeout) {
		u32 since = FIELD(sk, ICSK_PROBES_TSTAMP);

		if (since && (u64)((u32)bpf_jiffies64() - since) * 1000 >= (u64)user_timeout * hz)
			return 0;
	}
#endif
	return probes + 1;
}

/* The number of the probe that tcp_keepalive_timer(), net/ipv4/tcp_timer.c, will send; 0: none. */
static __always_inline u32 keepalive_probe(u64 sk, u32 hz)
{
	u64 net = FIELD(sk, NET);
	u32 now = bpf_jiffies64(), user_timeout = FIELD(sk, ICSK_USER_TIMEOUT);
	u32 probes = FIELD(sk, ICSK_PROBES_OUT), limit = FIELD(sk, KEEPALIVE_PROBES);
	u32 idle = now - (u32)FIELD(sk, RCV_TSTAMP), since_data = now - (u32)FIELD(sk, ICSK_LRCVTIME);
	u32 time = FIELD(sk, KEEPALIVE_TIME);
	u8 state = FIELD(sk, STATE);

	if (!(FIELD(sk, SK_FLAGS) & (1ULL << FLAG_SOCK_KEEPOPEN)) || FIELD(sk, SK_LOCK_OWNED))
		return 0;
	if (state == TCP_LISTEN || state == TCP_CLOSE || state == TCP_SYN_SENT)
		return 0;
	if (FIELD(sk, PACKETS_OUT) || (u32)FIELD(sk, WRITE_SEQ) != (u32)FIELD(sk, SND_NXT))
		return 0;
	if (since_data < idle)
		idle = since_data;
	if (idle < (time ?: (u32)FIELD(net, SYSCTL_KEEPALIVE_TIME)))
		return 0;
	if (user_timeout) {
		if ((u64)idle * 1000 >= (u64)user_timeout * hz && probes)
			return 0; /* gives up: tcp_send_reset says so */
	} else if (probes >= (limit ?: (u32)FIELD(net, SYSCTL_KEEPALIVE_PROBES))) {
		return 0;
	}
	return probes + 1;
}

int on_timer_expire_entry(struct bpf_raw_tracepoint_args *ctx)
{
	u64 timer = ctx->args[0];
	u64 function = FIELD(timer, TIMER_FUNCTION);
	u32 slot = 0;
	struct calibration *c = calibrations.lookup(&slot);

	u32 mechanism, number;
	u64 sk;

	if (!c || !c->hz)
		return 0;
	if (function == c->write_timer) {
		sk = timer - OFF_WRITE_TIMER;
		mechanism = MECHANISM_ZERO_WINDOW;
		number = ports_match(sk) ? zero_window_probe(sk, c->hz) : 0;
	} else if (function == c->keepalive_timer) {
		sk = timer - OFF_KEEPALIVE_TIMER;
		mechanism = MECHANISM_KEEPALIVE;
		number = ports_match(sk) ? keepalive_probe(sk, c->hz) : 0;
	} else {
		return 0;
	}
	if (!number)
		return 0;
	track_of(sk);
	return emit(ctx, sk, RECORD_TIMER, mechanism, number);
}
