/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pause is the first process of a pod sandbox. It holds the pod's namespaces
 * open, reaps the processes that a shared process namespace leaves to it, and
 * ends with status 0 on SIGINT or SIGTERM. It keeps no state.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	sigset_t wanted;
	int signo;

	/*
	 * Blocked signals stay pending even for process 1, which otherwise
	 * does not get those it has no handler for.
	 */
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &wanted, NULL) < 0)
		return 1;
	for (;;) {
		reap();
		if (sigwait(&wanted, &signo) != 0)
			return 2;
		if (signo != SIGCHLD)
			return 0;
	}
}
