/* SPDX-License-Identifier: Apache-2.0
 *
 * What crosses from the kernel to user space: one struct per kind, kind and size first.
 * tracer/events/wire.py is the same layout seen from Python; a test compares the two with offsetof.
 * Integers are host order, ports too. Addresses are 16 bytes, IPv4 in its v4-mapped form.
 * Times named _ns are CLOCK_MONOTONIC; fields copied from the kernel keep the kernel's unit (jiffies unless it says so).
 */

enum record_kind {
	RECORD_SOCKET = 1, /* iter/tcp: a socket of interest */
	RECORD_LISTENER,   /* iter/tcp: a listening socket */
	RECORD_OWNER,      /* iter/task_file: a process holds a socket */
	RECORD_CALIBRATED, /* our own unconnected socket: what HZ is */
	RECORD_INSPECTED,  /* one socket looked at again, because user space asked */
	RECORD_WINDOW,     /* a receive window closed or opened */
	RECORD_READ,       /* a reader took data out of a socket whose window was closed */
	RECORD_TIMER,      /* a keepalive or zero-window probe timer fired and will probe */
	RECORD_PROBE,      /* a keepalive or zero-window probe arrived */
	RECORD_RETRANSMIT, /* a segment was sent again by the retransmission timer */
	RECORD_STATE,      /* a connection ended, or its application closed it while it was watched */
	RECORD_RESET_SENT,
	RECORD_RESET_RECEIVED,
	RECORD_DESTROYED, /* the kernel frees a socket we had an entry for */
	RECORD_KINDS,
};

struct record {
	u32 kind;
	u32 size;
	u64 ns;
};

/* Who ran when the record was made. tgid is 0 unless that process held the socket's lock: in softirq the current task is
 * whoever was interrupted, and naming it would blame a bystander. */
struct actor {
	u32 tgid;
	u32 tid;
	char comm[16];
};

/* One socket as it was at record.ns. A field that this kernel does not have is 0 (absent is said once, by the loader). */
struct sock_state {
	u64 sk;                /* identity only; never printed, never written */
	u64 jiffies;           /* now, to compare the jiffies below with */
	u64 write_expires;     /* write timer: icsk_pending says what for */
	u64 keepalive_expires; /* 0: not armed */
	u64 established_ns;    /* 0: before we attached */
	u64 read_ns;           /* last read that took data; 0: none seen */
	u32 reader_tgid;       /* who did it */
	u32 reader_tid;
	u32 creator_tgid; /* who called connect(); 0: accepted, or before we attached */
	u32 creator_tid;
	u8 local_addr[16];
	u8 peer_addr[16];
	u32 netns; /* inode number */
	u16 local_port;
	u16 peer_port;
	u16 family;  /* AF_INET or AF_INET6 as the socket has it */
	u8 state;    /* TCP_ESTABLISHED ... */
	u8 shutdown; /* RCV_SHUTDOWN 1, SEND_SHUTDOWN 2 */
	u8 pending;  /* icsk_pending: 1 RTO, 3 PROBE0, 5 TLP, 6 REO */
	u8 backoff;
	u8 retransmits;
	u8 probes_out;
	u8 retries2; /* the netns's sysctls, and the socket's own setting where it has one */
	u8 orphan_retries;
	u8 keepalive_probes;
	u8 opened_by; /* 0 unknown, 1 local, 2 peer */
	u8 syn_retries;
	u8 syn_linear_timeouts;
	u8 readers;      /* how many threads read lately, up to READERS */
	u8 timer_levels; /* of the timer wheel: the write timer's, and << 4 the keepalive timer's */
	u32 flags;       /* SOCK_STATE_* */
	u32 rcv_nxt;
	u32 copied_seq;
	u32 rcv_wup;
	u32 rcv_wnd;
	u32 write_seq;
	u32 snd_una;
	u32 snd_nxt;
	u32 snd_wnd;
	u32 max_window; /* the largest that the peer has ever advertised */
	u32 packets_out;
	u32 rcvbuf;
	u32 sndbuf;
	u32 err; /* sk_err, positive errno */
	u32 rto;
	u32 rto_max;      /* 0: the kernel has no per-socket one (120 s) */
	u32 user_timeout; /* ms */
	u32 probes_tstamp;
	u32 retrans_stamp; /* ms of CLOCK_MONOTONIC; us where SOCK_STATE_USEC_TS */
	u32 rcv_tstamp;
	u32 lrcvtime;
	u32 keepalive_time; /* effective: the socket's or its netns's */
	u32 keepalive_intvl;
	u32 fin_timeout;
	s32 linger2;
	u32 lingertime;
	u32 mss;     /* mss_cache */
	u32 srtt_us; /* 8 * smoothed round-trip time */
};

#define SOCK_STATE_DEAD (1 << 0)     /* orphan: no process holds it */
#define SOCK_STATE_KEEPOPEN (1 << 1) /* SO_KEEPALIVE */
#define SOCK_STATE_LINGER (1 << 2)   /* SO_LINGER on */
#define SOCK_STATE_USEC_TS (1 << 3)
#define SOCK_STATE_OWNED (1 << 4)      /* its lock is held by a process */
#define SOCK_STATE_UNACCEPTED (1 << 5) /* sk_socket is NULL and it is no orphan: still in an accept queue */
#define SOCK_STATE_SEVERAL (1 << 6)    /* and they are of more than one process */
#define SOCK_STATE_EXITING (1 << 7)    /* the actor's process is ending, and with it whatever it holds */

struct socket_record { /* SOCKET */
	struct record record;
	struct actor actor;
	struct sock_state sock;
};

/* What a raw tracepoint tells of a socket. Two words say more, by kind:
 *   WINDOW          side: 1 local, 2 peer; window: bytes as just advertised (peer) or left (local)
 *   TIMER, PROBE    mechanism: 1 keepalive, 2 zero-window probe; number: TIMER's count of unanswered probes with this one
 *   RETRANSMIT      err: 0 sent, else the negative errno for which it could not be
 *   STATE           old state, new state
 *   RESET_*         reason: enum sk_rst_reason of this kernel; how: RESET_*
 * RESET_SENT without RESET_HAS_SOCKET has only the addresses, ports and netns of `sock`, and the state of what is no full
 * socket. */
struct event_record {
	struct record record;
	struct actor actor;
	struct sock_state sock;
	u32 detail[2];
};

#define SIDE_LOCAL 1
#define SIDE_PEER 2
#define MECHANISM_KEEPALIVE 1
#define MECHANISM_ZERO_WINDOW 2
#define RESET_HAS_SOCKET (1 << 0) /* not: no socket, or one in TIME_WAIT or NEW_SYN_RECV */
#define RESET_PASSIVE (1 << 1)    /* an answer to a segment that came in */
#define RESET_HAS_REASON (1 << 2) /* this kernel's tracepoint gives one */

struct listener_record {
	struct record record;
	u64 sk;
	u8 addr[16];
	u32 netns;
	u16 port;
	u16 family;
	u32 backlog;
	u32 max_backlog;
};

struct owner_record {
	struct record record;
	u64 sk;
	u64 start_ns; /* of the process: start_boottime, tells a reused pid */
	u32 tgid;
	u32 fd;
	u32 netns; /* the socket's */
	u32 reserved;
	char comm[16]; /* of the main thread */
};

struct calibrated_record {
	struct record record;
	u64 jiffies;
	u32 hz;
	u32 reserved;
};
