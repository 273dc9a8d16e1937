/* SPDX-License-Identifier: Apache-2.0
 *
 * iter/task_file: which processes hold which sockets. Threads that share their process's files come once.
 */

struct bpf_iter__task_file {
	union {
		struct bpf_iter_meta *meta;
		u64 meta_word;
	};
	union {
		void *task;
		u64 task_word;
	};
	u32 fd;
	union {
		void *file;
		u64 file_word;
	};
};

BPF_ITER(task_file)
{
	struct seq_file *seq = ctx->meta->seq;
	void *task = ctx->task, *file = ctx->file, *socket;
	struct owner_record r = {};
	struct track *t;
	u64 sk, key, leader;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = LOAD(socket, u64, SOCKET_SK);
	if (!sk)
		return 0;
	key = sk; /* where a helper was given a pointer's own place, older verifiers know it for one no more (6.1, 6.12) */
	t = tracks.lookup(&key);
	if (!t)
		return 0;
#ifndef EVERYTHING
	if (!t->suspect)
		return 0;
#endif
	leader = LOAD(task, u64, TASK_GROUP_LEADER);
	begin(&r.record, RECORD_OWNER, sizeof(r));
	r.sk = sk;
	r.tgid = LOAD(task, u32, TASK_TGID);
	r.fd = ctx->fd;
	r.netns = LOAD(LOAD(sk, u64, NET), u32, NET_INUM);
#ifdef OFF_TASK_START_BOOTTIME
	r.start_ns = LOAD(leader, u64, TASK_START_BOOTTIME);
#endif
	bpf_probe_read_kernel(r.comm, sizeof(r.comm), (void *)(leader + OFF_TASK_COMM));
	bpf_seq_write(seq, &r, sizeof(r));
	return 0;
}
