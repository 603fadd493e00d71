/* Starting ocirt-init from a program that may be large and have many threads.
 *
 * The child shares our memory and this thread sleeps until it has called
 * execveat (CLONE_VM | CLONE_VFORK): nothing is copied, so the caller's size
 * costs nothing, and no lock of another thread can be held in the child, since
 * it takes none. All signals are blocked meanwhile: a handler of the caller's
 * must not run there. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "host.h"
#include "syscalls.h"
#include "wire.h"

struct child {
	int fds[WIRE_FIRST_SLOT_FD + WIRE_SLOTS];
	int count, program, error;
};

/* Move everything above the target range first, or one descriptor would be
 * overwritten by another on its way to its number. */
static int arrange(struct child *child)
{
	const int count = child->count;

	child->program = fcntl(child->program, F_DUPFD_CLOEXEC, count);
	if (child->program < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		child->fds[i] = fcntl(child->fds[i], F_DUPFD_CLOEXEC, count);
		if (child->fds[i] < 0)
			return -1;
	}
	for (int i = 0; i < count; i++)
		if (dup3(child->fds[i], i, 0) < 0)
			return -1;
	return close_fds((unsigned)count, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
}

__attribute__((noreturn)) static void run(struct child *child)
{
	char *argv[] = {(char *)"ocirt-init", NULL}, *envp[] = {NULL};

	if (arrange(child) == 0)
		syscall(SYS_execveat, child->program, "", argv, envp, AT_EMPTY_PATH);
	child->error = errno;
	_exit(127);
}

/* clone3(2) with a stack of the child's own, which the C library does not offer:
 * the child must not return through a frame that the parent will use again. */
static long clone_child(struct clone_args *args, struct child *child)
{
	long result;

#if defined(__x86_64__)
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %[child], %%rdi\n\t"
			 "call *%[run]\n"
			 "1:"
			 : "=a"(result)
			 : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), [child] "r"(child), [run] "r"(run)
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone3;
	register struct clone_args *x0 __asm__("x0") = args;
	register size_t x1 __asm__("x1") = sizeof *args;
	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x0, %[child]\n\t"
			 "blr %[run]\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), [child] "r"(child), [run] "r"(run)
			 : "x30", "memory");
	result = (long)x0;
#else
#error "ocirt knows how to start a child on x86-64 and arm64"
#endif
	return result;
}

/* Bytes as a file: one that is nowhere, for one reader. */
static int write_plan(const char *plan, size_t size)
{
	int fd = memfd_create("plan", MFD_CLOEXEC);
	ssize_t wrote = 0;

	for (size_t done = 0; fd >= 0 && done < size; done += (size_t)wrote) {
		wrote = write(fd, plan + done, size - done);
		if (wrote < 0) {
			int error = errno;
			close(fd);
			errno = error;
			return -1;
		}
	}
	return fd;
}

static int spawn(struct child *child, unsigned long namespaces, int cgroup, int made[3])
{
	char stack[16384] __attribute__((aligned(16)));
	struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | namespaces,
				  .pidfd = (uintptr_t)&made[1],
				  .exit_signal = SIGCHLD,
				  .stack = (uintptr_t)stack,
				  .stack_size = sizeof stack};
	sigset_t all, before;
	long result;

	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)cgroup;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = clone_child(&args, child);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	made[0] = result < 0 ? 0 : (int)result;
	return result < 0 ? (int)-result : child->error;
}

__attribute__((visibility("default")))
int ocirt_spawn(int program, const char *plan, size_t size, const int *fds, int count, unsigned long namespaces,
		int cgroup, int made[3])
{
	struct child child = {.count = count + 2, .program = program};
	int pair[2], file, error;

	made[0] = 0;
	if (count < WIRE_EVENTS_FD || count > WIRE_EVENTS_FD + WIRE_SLOTS)
		return EINVAL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return errno;
	file = write_plan(plan, size);
	error = file < 0 ? errno : 0;
	for (int i = 0; i < count; i++)
		child.fds[i < WIRE_EVENTS_FD ? i : i + 2] = fds[i];
	child.fds[WIRE_EVENTS_FD] = pair[1];
	child.fds[WIRE_PLAN_FD] = file;
	if (!error)
		error = spawn(&child, namespaces, cgroup, made);
	if (file >= 0)
		close(file);
	close(pair[1]);
	if (error)
		close(pair[0]);
	made[2] = pair[0];
	return error;
}

/* pidfd_getfd(2): what is taken is closed on exec. */
__attribute__((visibility("default")))
int ocirt_take_fd(int pidfd, int number)
{
	long fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);

	return fd < 0 ? -errno : (int)fd;
}

/* bpf(2). Signals wait meanwhile, or a long program would be refused with EAGAIN
 * whenever one arrives while the kernel verifies it. */
__attribute__((visibility("default")))
int ocirt_bpf(int command, void *attributes, unsigned size)
{
	sigset_t all, before;
	long result;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = syscall(SYS_bpf, command, attributes, size);
	error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result < 0 ? -error : (int)result;
}

/* EAGAIN: something was renamed or mounted, anywhere, while a ".." was looked up,
 * and the kernel asks to try again. Whoever renames all the time gets it in the end. */
__attribute__((visibility("default")))
int ocirt_openat2(int directory, const char *path, unsigned long flags, unsigned long resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
	int fd = -1;

	for (int tries = 0; tries < 10000; tries++) {
		fd = openat2(directory, path, &how);
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : fd;
}

__attribute__((visibility("default")))
int ocirt_adopt_orphans(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? errno : 0;
}
