/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments sent again because the retransmission timer ran out. Fast retransmits are TCP at work, and make no record.
 */

int on_tcp_retransmit_skb(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0];
	u32 err = 0;

	/* before a window that closed over what is in flight they are not counted */
	if ((!FIELD(sk, ICSK_RETRANSMITS) && FIELD(sk, SND_WND)) || !ports_match(sk))
		return 0;
#ifdef RETRANSMIT_HAS_ERR
	err = ctx->args[2];
#endif
	track_of(sk);
	return emit(ctx, sk, RECORD_RETRANSMIT, err, 0);
}
