/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring buffer, the counters of what was lost, and what is kept per socket between two events.
 */

#define READERS 4 /* one reader, or several: more than a few need no names */
#define SETTLED 8 /* reads in a row by one thread: it is the reader now, whoever was before */

/* What we remember of a connection that passes the port filter. Created when it is established or first scanned, so that
 * the first read after that already has a copied_seq to compare with; removed when the kernel frees the socket. */
struct track {
	u64 read_ns;
	u64 established_ns;
	u64 read_jiffies;   /* of read_ns: the clock is asked once a jiffy, it costs as much as all the rest of a read */
	u64 quiet_until_ns; /* no further WINDOW or READ record before this: they come per segment otherwise */
	u32 reader_tgid;
	u32 reader_tid;
	u32 creator_tgid;
	u32 creator_tid;
	u32 copied_seq;
	u8 opened_by;
	u8 window_closed; /* our receive window, when last looked at */
	u8 suspect;       /* of interest when last looked at: scans write it out, and who owns it */
	u8 known;         /* user space has heard of it, and wants to hear of its end */
	u8 has_baseline;  /* copied_seq is set */
	u8 readers;
	u8 several;               /* they are not all of one process */
	u8 streak;                /* reads in a row by reader_tid, up to SETTLED */
	u32 reader_tids[READERS]; /* all that were seen, the first of them */
};

/* Learned from the first unconnected socket that is destroyed (tcptrace opens and closes one): comparing timer->function
 * with these needs neither kallsyms nor an address in user space, so it works under kptr_restrict and lockdown too. */
struct calibration {
	u64 write_timer;
	u64 keepalive_timer;
	u32 hz;
	u32 reserved;
};

/* Reads of a connection come many a jiffy, mostly by one thread, and finding its entry is a call. So the rest of a jiffy is
 * noted here, in a table that is looked into without one, where sockets share places: the latest to settle has it. */
struct recent {
	u64 sk; /* 0: of none */
	u64 jiffies;
	u64 read;        /* tid << 32 | copied_seq */
	u64 reserved[5]; /* a cache line: sockets of two CPUs would fight for one */
};

#define RECENTS 4096
#define RECORD_SPACING_NS 20000000ULL
#define LOST_TRACKS RECORD_KINDS /* slots 0 .. RECORD_KINDS-1 count the ring buffer's losses by kind */
#define LOST_SLOTS (RECORD_KINDS + 1)

BPF_RINGBUF_OUTPUT(records, RING_PAGES);
BPF_HASH(tracks, u64, struct track, TRACKS);
BPF_ARRAY(recents, struct recent, RECENTS);
BPF_ARRAY(calibrations, struct calibration, 1);
BPF_ARRAY(lost, u64, LOST_SLOTS);
BPF_ARRAY(scanned, u64, 1); /* connections that passed the port filter in the scan under way */

/* Reading a whole socket is long code; it exists once, in on_emit(), to which the others tail-call with what they found. A
 * softirq can interrupt a process between the two on the same CPU, but then it runs to its end first: hence a stack. */
struct request {
	u64 sk;
	u32 kind;
	u32 detail[2];
	u32 reserved;
};

#define REQUEST_DEPTH 4 /* process, softirq, hardirq, NMI */

struct request_stack {
	u64 depth;
	struct request requests[REQUEST_DEPTH];
};

BPF_PERCPU_ARRAY(requests, struct request_stack, 1);
BPF_PROG_ARRAY(tails, 1);
/* A typed program can only go on as one of its own tracepoint's. */
BPF_PROG_ARRAY(probe_tails, 1);
BPF_PROG_ARRAY(read_tails, 1);

static __always_inline void count_lost(u32 slot)
{
	u64 *n = lost.lookup(&slot);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* A zeroed record, or NULL with the loss counted. `size` must be a constant. */
static __always_inline void *reserve(u32 kind, u32 size)
{
	struct record *r = records.ringbuf_reserve(size);

	if (!r) {
		count_lost(kind);
		return 0;
	}
	return r;
}

static __always_inline void begin(struct record *r, u32 kind, u32 size)
{
	r->kind = kind;
	r->size = size;
	r->ns = bpf_ktime_get_ns();
}
