/* Opens connections over loopback and resets them (SO_LINGER 0), as fast as it can: storm PORT SECONDS.
 * One process accepts, the other connects; at the end a line with the number of connections that were opened. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
	struct linger hard = {1, 0};
	double until;
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	long opened = 0;
	pid_t child;

	end.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&end, sizeof(end)) || listen(listener, 4096))
		return 1;
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			int s = accept(listener, 0, 0);

			if (s >= 0)
				close(s);
		}
	}
	until = now() + atof(argv[2]);
	while (now() < until) {
		struct sockaddr_in from = {.sin_family = AF_INET};
		int s = socket(AF_INET, SOCK_STREAM, 0);

		/* an address for every few thousand: the ports of one would run out */
		from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (opened >> 12) % 200);
		setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		if (bind(s, (void *)&from, sizeof(from)) || connect(s, (void *)&end, sizeof(end))) {
			close(s);
			continue;
		}
		close(s);
		opened++;
	}
	usleep(200000);
	kill(child, SIGKILL);
	printf("%ld\n", opened);
	return 0;
}
