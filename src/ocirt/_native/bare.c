/* The few functions of libc that ocirt-init and the command call, without libc.
 *
 * Before main(), a static glibc asks the processor for its features. Under a
 * hypervisor each CPUID is a trap, and together they cost more than all else in
 * starting a process: 0.5 ms of every container and every exec. It also makes
 * the program, which lies in memory whole, seventeen times as large.
 *
 * Signatures are libc's, from its headers; the manual is section 2 of the man
 * pages. libocirt.so and the sanitised build have the real thing instead. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv, char **envp);
void start(const uintptr_t *stack);
void __stack_chk_fail(void);
uintptr_t __stack_chk_guard;

static int error;
int *__errno_location(void) { return &error; }

static long trap(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "ocirt-init does not know this processor"
#endif
}

static long checked(long result)
{
	if (result >= 0 || result < -4095)
		return result;
	error = (int)-result;
	return -1;
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	return checked(trap(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

#define PICK(_0, _1, _2, _3, _4, _5, _6, name, ...) name
#define A(x) ((long)(x))
#define CALL0(n) checked(trap(n, 0, 0, 0, 0, 0, 0))
#define CALL1(n, a) checked(trap(n, A(a), 0, 0, 0, 0, 0))
#define CALL2(n, a, b) checked(trap(n, A(a), A(b), 0, 0, 0, 0))
#define CALL3(n, a, b, c) checked(trap(n, A(a), A(b), A(c), 0, 0, 0))
#define CALL4(n, a, b, c, d) checked(trap(n, A(a), A(b), A(c), A(d), 0, 0))
#define CALL5(n, a, b, c, d, e) checked(trap(n, A(a), A(b), A(c), A(d), A(e), 0))
#define CALL6(n, a, b, c, d, e, f) checked(trap(n, A(a), A(b), A(c), A(d), A(e), A(f)))
#define KERNEL(...) PICK(__VA_ARGS__, CALL6, CALL5, CALL4, CALL3, CALL2, CALL1, CALL0)(__VA_ARGS__)

void _exit(int status) { for (;;) trap(SYS_exit_group, status, 0, 0, 0, 0, 0); }
void __stack_chk_fail(void) { _exit(127); }
int close(int fd) { return (int)KERNEL(SYS_close, fd); }
int fstat(int fd, struct stat *s) { return (int)KERNEL(SYS_fstat, fd, s); }
int stat(const char *p, struct stat *s) { return (int)KERNEL(SYS_newfstatat, AT_FDCWD, p, s, 0); }
int fstatat(int d, const char *restrict p, struct stat *restrict s, int f) { return (int)KERNEL(SYS_newfstatat, d, p, s, f); }
int fstatfs(int fd, struct statfs *s) { return (int)KERNEL(SYS_fstatfs, fd, s); }
int dup3(int a, int b, int flags) { return (int)KERNEL(SYS_dup3, a, b, flags); }
ssize_t read(int fd, void *b, size_t n) { return KERNEL(SYS_read, fd, b, n); }
ssize_t write(int fd, const void *b, size_t n) { return KERNEL(SYS_write, fd, b, n); }
int flock(int fd, int how) { return (int)KERNEL(SYS_flock, fd, how); }
off_t lseek(int fd, off_t o, int w) { return KERNEL(SYS_lseek, fd, o, w); }
mode_t umask(mode_t m) { return (mode_t)KERNEL(SYS_umask, m); }
pid_t setsid(void) { return (pid_t)KERNEL(SYS_setsid); }
pid_t getpid(void) { return (pid_t)KERNEL(SYS_getpid); }
uid_t geteuid(void) { return (uid_t)KERNEL(SYS_geteuid); }
pid_t fork(void) { return (pid_t)KERNEL(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
int setresuid(uid_t a, uid_t b, uid_t c) { return (int)KERNEL(SYS_setresuid, a, b, c); }
int setresgid(gid_t a, gid_t b, gid_t c) { return (int)KERNEL(SYS_setresgid, a, b, c); }
int setgroups(size_t n, const gid_t *g) { return (int)KERNEL(SYS_setgroups, n, g); }
ssize_t sendmsg(int fd, const struct msghdr *m, int f) { return KERNEL(SYS_sendmsg, fd, m, f); }
int socket(int d, int t, int p) { return (int)KERNEL(SYS_socket, d, t, p); }
int connect(int fd, const struct sockaddr *a, socklen_t n) { return (int)KERNEL(SYS_connect, fd, a, n); }
ssize_t send(int fd, const void *b, size_t n, int f) { return KERNEL(SYS_sendto, fd, b, n, f, NULL, 0); }
int getsockopt(int fd, int l, int n, void *restrict v, socklen_t *restrict s)
{
	return (int)KERNEL(SYS_getsockopt, fd, l, n, v, s);
}
int accept4(int fd, struct sockaddr *a, socklen_t *n, int f) { return (int)KERNEL(SYS_accept4, fd, a, n, f); }
int mkdirat(int d, const char *p, mode_t m) { return (int)KERNEL(SYS_mkdirat, d, p, m); }
int mknodat(int d, const char *p, mode_t m, dev_t v) { return (int)KERNEL(SYS_mknodat, d, p, m, v); }
int unlinkat(int d, const char *p, int f) { return (int)KERNEL(SYS_unlinkat, d, p, f); }
int symlinkat(const char *t, int d, const char *p) { return (int)KERNEL(SYS_symlinkat, t, d, p); }
ssize_t readlinkat(int d, const char *p, char *b, size_t n) { return KERNEL(SYS_readlinkat, d, p, b, n); }
int access(const char *p, int m) { return (int)KERNEL(SYS_faccessat, AT_FDCWD, p, m); }
int fchmod(int fd, mode_t m) { return (int)KERNEL(SYS_fchmod, fd, m); }
int fchown(int fd, uid_t u, gid_t g) { return (int)KERNEL(SYS_fchown, fd, u, g); }
int fchownat(int d, const char *p, uid_t u, gid_t g, int f) { return (int)KERNEL(SYS_fchownat, d, p, u, g, f); }
int chdir(const char *p) { return (int)KERNEL(SYS_chdir, p); }
int fchdir(int fd) { return (int)KERNEL(SYS_fchdir, fd); }
int chroot(const char *p) { return (int)KERNEL(SYS_chroot, p); }
int unshare(int f) { return (int)KERNEL(SYS_unshare, f); }
int setns(int fd, int t) { return (int)KERNEL(SYS_setns, fd, t); }
int sethostname(const char *n, size_t l) { return (int)KERNEL(SYS_sethostname, n, l); }
int setdomainname(const char *n, size_t l) { return (int)KERNEL(SYS_setdomainname, n, l); }
int pipe2(int fds[2], int f) { return (int)KERNEL(SYS_pipe2, fds, f); }
int kill(pid_t p, int s) { return (int)KERNEL(SYS_kill, p, s); }
pid_t waitpid(pid_t p, int *s, int o) { return (pid_t)KERNEL(SYS_wait4, p, s, o, 0); }
int execve(const char *p, char *const a[], char *const e[]) { return (int)KERNEL(SYS_execve, p, a, e); }
int clock_gettime(clockid_t c, struct timespec *t) { return (int)KERNEL(SYS_clock_gettime, c, t); }
int nanosleep(const struct timespec *t, struct timespec *r) { return (int)KERNEL(SYS_nanosleep, t, r); }
int setrlimit(__rlimit_resource_t r, const struct rlimit *l) { return (int)KERNEL(SYS_prlimit64, 0, r, l, 0); }
void *mmap(void *a, size_t n, int p, int f, int fd, off_t o) { return (void *)KERNEL(SYS_mmap, a, n, p, f, fd, o); }

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	return (int)KERNEL(SYS_ppoll, fds, n, ms < 0 ? NULL : &t, NULL, 0);
}

#define REST(last, type) ({ va_list l; va_start(l, last); type v = va_arg(l, type); va_end(l); v; })
int open(const char *p, int f, ...) { return (int)KERNEL(SYS_openat, AT_FDCWD, p, f, REST(f, mode_t)); }
int openat(int d, const char *p, int f, ...) { return (int)KERNEL(SYS_openat, d, p, f, REST(f, mode_t)); }
int fcntl(int fd, int c, ...) { return (int)KERNEL(SYS_fcntl, fd, c, REST(c, long)); }
int ioctl(int fd, unsigned long r, ...) { return (int)KERNEL(SYS_ioctl, fd, r, REST(r, long)); }
int prctl(int o, ...)
{
	long a[4];
	va_list l;

	va_start(l, o);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(l, long);
	va_end(l);
	return (int)KERNEL(SYS_prctl, o, a[0], a[1], a[2], a[3]);
}

int sigfillset(sigset_t *s) { memset(s, 0xff, sizeof *s); return 0; }
int pthread_sigmask(int how, const sigset_t *n, sigset_t *o) { return (int)KERNEL(SYS_rt_sigprocmask, how, n, o, 8); }

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = ((const char *)from)[i];
	return to;
}
void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((char *)to)[i] = (char)c;
	return to;
}
int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
void *memchr(const void *s, int c, size_t n)
{
	for (const unsigned char *p = s; n; n--, p++)
		if (*p == (unsigned char)c)
			return (void *)(uintptr_t)p;
	return NULL;
}
size_t strlen(const char *s) { size_t n = 0; while (s[n]) n++; return n; }
int strcmp(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return (unsigned char)*a - (unsigned char)*b; }
char *strchr(const char *s, int c)
{
	for (;; s++)
		if (*s == (char)c)
			return (char *)(uintptr_t)s;
		else if (!*s)
			return NULL;
}
size_t strcspn(const char *s, const char *r) { size_t n = 0; while (s[n] && !strchr(r, s[n])) n++; return n; }
size_t strspn(const char *s, const char *a) { size_t n = 0; while (s[n] && strchr(a, s[n])) n++; return n; }

/* No table of texts: who reads our messages has the number in the event. */
char *strerror(int e)
{
	static char text[24];

	snprintf(text, sizeof text, "error %d", e);
	return text;
}

static size_t digits(char *end, unsigned long long v, unsigned base)
{
	size_t n = 0;
	do
		*--end = (char)('0' + v % base), n++;
	while (v /= base);
	return n;
}

/* %s %.*s %.600s %d %llu %04o */
int vsnprintf(char *to, size_t size, const char *f, va_list l)
{
	size_t n = 0;
	for (; *f; f++) {
		char number[24];
		const char *s = f;
		size_t length = 1, width = 0, most = SIZE_MAX;
		if (*f == '%') {
			if (*++f == '.') {
				if (*++f == '*')
					most = (size_t)va_arg(l, int), f++;
				else
					for (most = 0; *f >= '0' && *f <= '9'; f++)
						most = most * 10 + (size_t)(*f - '0');
			}
			for (; *f >= '0' && *f <= '9'; f++)
				width = width * 10 + (size_t)(*f - '0');
			bool wide = *f == 'l';
			while (*f == 'l')
				f++;
			if (*f == 's') {
				s = va_arg(l, const char *);
				for (length = 0; length < most && s[length];)
					length++;
			} else if (*f != '%') {
				unsigned long long v = wide ? va_arg(l, unsigned long long) : va_arg(l, unsigned);
				length = digits(number + sizeof number, v, *f == 'o' ? 8 : 10);
				while (length < width)
					number[sizeof number - ++length] = '0';
				s = number + sizeof number - length;
			}
		}
		for (size_t i = 0; i < length; i++, n++)
			if (n + 1 < size)
				to[n] = s[i];
	}
	if (size)
		to[n < size ? n : size - 1] = 0;
	return (int)n;
}
int snprintf(char *restrict to, size_t size, const char *restrict f, ...)
{
	va_list l;
	va_start(l, f);
	int n = vsnprintf(to, size, f, l);
	va_end(l);
	return n;
}
int dprintf(int fd, const char *restrict f, ...)
{
	char text[512];
	va_list l;
	va_start(l, f);
	int n = vsnprintf(text, sizeof text, f, l);
	va_end(l);
	return (int)write(fd, text, (size_t)(n < 511 ? n : 511));
}

/* The kernel starts a program with argc, argv, envp and the auxiliary vector on
 * its stack (getauxval(3)); 16 of its bytes are random, for the stack protector. */
__attribute__((no_stack_protector, noreturn, used)) void start(const uintptr_t *stack)
{
	char **argv = (char **)(uintptr_t)(stack + 1), **envp = argv + stack[0] + 1;
	const uintptr_t *at = stack + stack[0] + 2;

	while (*at)
		at++;
	for (at++; at[0]; at += 2)
		if (at[0] == AT_RANDOM)
			memcpy(&__stack_chk_guard, (const void *)at[1], sizeof __stack_chk_guard);
	_exit(main((int)stack[0], argv, envp));
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n");
#endif
