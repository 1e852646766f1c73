/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pause is the first process of a pod sandbox. It holds the pod's namespaces
 * open, reaps the processes that a shared process namespace leaves to it, and
 * ends with status 0 on SIGINT or SIGTERM. It keeps no state.
 *
 * It uses no C library: a compiler alone builds it, also for another
 * architecture, and each pod has a few kilobytes less in memory.
 */

/* System calls, from the kernel's asm/unistd.h. */
#if defined(__x86_64__)
enum { WAIT4 = 61, EXIT = 60, SIGPROCMASK = 14, SIGTIMEDWAIT = 128 };
#elif defined(__aarch64__)
enum { WAIT4 = 260, EXIT = 93, SIGPROCMASK = 135, SIGTIMEDWAIT = 137 };
#else
#error "pause knows the system calls of x86-64 and arm64 only"
#endif

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, EINTR = 4 };
enum { SIG_BLOCK = 0, WNOHANG = 1 };

/* A set of signals as the kernel has it: bit n-1 is signal n. */
typedef unsigned long signals;

#define SIGNAL(n) (1UL << ((n)-1))

/* call makes a system call; an error is returned as a negative number. */
static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long fourth __asm__("r10") = d;

	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
	return number;
#else
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#endif
}

static void reap(void)
{
	while (call(WAIT4, -1, 0, WNOHANG, 0) > 0)
		;
}

static int pause(void)
{
	/*
	 * Blocked signals stay pending even for process 1, which otherwise
	 * does not get those it has no handler for.
	 */
	signals wanted = SIGNAL(SIGINT) | SIGNAL(SIGTERM) | SIGNAL(SIGCHLD);
	long signo;

	if (call(SIGPROCMASK, SIG_BLOCK, (long)&wanted, 0, sizeof(wanted)) < 0)
		return 1;
	for (;;) {
		reap();
		signo = call(SIGTIMEDWAIT, (long)&wanted, 0, 0, sizeof(wanted));
		if (signo == SIGINT || signo == SIGTERM)
			return 0;
		if (signo < 0 && signo != -EINTR)
			return 2;
	}
}

__attribute__((noreturn)) void _start(void)
{
	int status = pause();

	for (;;)
		call(EXIT, status, 0, 0, 0);
}
