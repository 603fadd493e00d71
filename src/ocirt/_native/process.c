/* From a finished container to the user's program: where it stands, what it is
 * called, who waits for whom, and the last call. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "ops.h"

int op_set_umask(struct plan *plan, const struct wire_op *op)
{
	umask((mode_t)NUMBER(0));
	return 0;
}

/* getcwd(2) of a directory outside the root begins with "(unreachable)". */
static int check_directory(const char *wanted)
{
	char path[PATH_MAX];
	long size = syscall(SYS_getcwd, path, sizeof path);

	if (size < 0 && errno != ERANGE)
		return fail("getcwd", errno, wanted);
	return size > 0 && path[0] != '/' ? fail("getcwd", EPERM, wanted) : 0;
}

/* Number 0: the second try. A directory may be open to root alone, or to the
 * user alone: so once before SetUser and, if that failed, once after. A link of
 * procfs could lead out of the container (CVE-2024-21626), so none is followed. */
int op_change_directory(struct plan *plan, const struct wire_op *op)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
	int fd;

	if (plan->in_directory)
		return 0;
	note(STRING(0));
	fd = CALL(openat2, AT_FDCWD, STRING(0), &how);
	if (fd < 0 || CALL(fchdir, fd) < 0) {
		int refused = errno == EACCES || errno == EPERM;
		if (fd >= 0)
			close(fd);
		return refused && !NUMBER(0) ? 0 : -1;
	}
	close(fd);
	plan->in_directory = true;
	return check_directory(STRING(0));
}

/* The whole of the container's /etc/passwd, if it is an ordinary file of an
 * ordinary size. It may be a FIFO or a device, so it is looked at before it is opened. */
static size_t read_passwd(const struct plan *plan, char *text, size_t size)
{
	struct stat info;
	size_t used = 0;
	ssize_t got;
	int fd = resolve(ROOT(plan), "/etc/passwd", O_PATH, 0);

	if (fd < 0)
		return 0;
	got = fstat(fd, &info);
	close(fd);
	if (got < 0 || !S_ISREG(info.st_mode))
		return 0;
	fd = resolve(ROOT(plan), "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return 0;
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
		while (used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
			used += (size_t)got;
	close(fd);
	return used;
}

/* name:password:uid:gid:comment:home:shell, passwd(5) */
static bool home_in_line(const char *line, const char *end, uint64_t uid, char *home, size_t size)
{
	const char *field = line, *stop;
	char number[16];

	for (int skip = 0; skip < 2; skip++) {
		field = memchr(field, ':', (size_t)(end - field));
		if (!field++)
			return false;
	}
	snprintf(number, sizeof number, "%llu:", (unsigned long long)uid);
	if ((size_t)(end - field) < strlen(number) || memcmp(field, number, strlen(number)) != 0)
		return false;
	for (int skip = 0; skip < 3; skip++) {
		field = memchr(field, ':', (size_t)(end - field));
		if (!field++)
			return false;
	}
	stop = memchr(field, ':', (size_t)(end - field));
	stop = stop ? stop : end;
	if (*field != '/' || (size_t)(stop - field) + 6 > size)
		return false;
	snprintf(home, size, "HOME=%.*s", (int)(stop - field), field);
	return true;
}

/* Number 0: the uid. For a process whose environment has no HOME (as runc). */
int op_find_home(struct plan *plan, const struct wire_op *op)
{
	static char text[1 << 20];
	size_t size = read_passwd(plan, text, sizeof text);

	snprintf(plan->home, sizeof plan->home, "HOME=/");
	for (const char *line = text, *end; line < text + size; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + size - line));
		end = end ? end : text + size;
		if (home_in_line(line, end, NUMBER(0), plan->home, sizeof plan->home))
			break;
	}
	return 0;
}

static int check_program(const char *path)
{
	struct stat info;

	if (CALL(stat, path, &info) < 0)
		return -1;
	if (S_ISDIR(info.st_mode)) {
		errno = EISDIR;
		return -1;
	}
	return CALL(access, path, X_OK);
}

/* Strings: the name, then the directories of the container's PATH. */
int op_find_program(struct plan *plan, const struct wire_op *op)
{
	const char *name = STRING(0);
	int error = ENOENT;

	note(name);
	if (strchr(name, '/')) {
		if (snprintf(plan->program, sizeof plan->program, "%s", name) >= (int)sizeof plan->program)
			return fail("stat", ENAMETOOLONG, name);
		return check_program(plan->program);
	}
	for (unsigned i = 1; i < op->string_count; i++) {
		int size = snprintf(plan->program, sizeof plan->program, "%s/%s", *STRING(i) ? STRING(i) : ".", name);
		if (*name && size < (int)sizeof plan->program && check_program(plan->program) == 0)
			return 0;
		if (errno == EACCES)
			error = EACCES;
	}
	return fail(error == ENOENT ? "PATH" : "access", error, name);
}

/* The creator lets go of us, and may be dead: has it recorded the container? It
 * cannot say so on the channel without waking us, and every wake-up costs. */
static bool is_committed(int listener)
{
	int priority = 0;
	socklen_t size = sizeof priority;

	return getsockopt(listener, SOL_SOCKET, SO_PRIORITY, &priority, &size) == 0 && priority == WIRE_COMMITTED;
}

/* Say that we are on our way. On one processor the starter's next step is to
 * sleep until our execve: if it has not come to that by then, the kernel moves
 * us to another processor to balance the two, for longer than the yield takes
 * (0.1 ms). A filter need not let us. */
static int say_started(const struct plan *plan)
{
	if (tell(EVENT_STARTED, plan, 0, -1) < 0)
		return -1;
	if (!plan->filtered)
		syscall(SYS_sched_yield);
	return 0;
}

/* Wait for whoever says so: the creator, on the events channel, as long as it
 * holds its end; or anybody on a connection, who may die before it has spoken,
 * and then the next one is heard. From here on that is the events channel, and
 * its end at execve is how the starter learns of success. */
int op_await_start(struct plan *plan, const struct wire_op *op)
{
	const int listener = WIRE_EVENTS_FD + 1;
	struct pollfd polls[2] = {{.fd = WIRE_EVENTS_FD, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
	char byte;

	if (CALL(dup3, slot(plan, NUMBER(0)), listener, O_CLOEXEC) < 0 ||
	    CALL(close_fds, WIRE_EVENTS_FD + 2, ~0u, 0) < 0)
		return -1;
	reset_signals();
	for (;;) {
		int speaker = WIRE_EVENTS_FD;
		if (CALL(poll, polls, 2, -1) < 0 && errno != EINTR)
			return -1;
		if (polls[1].revents && !polls[0].revents)
			speaker = CALL(accept4, listener, NULL, NULL, SOCK_CLOEXEC);
		else if (!polls[0].revents)
			continue;
		if (speaker < 0 && errno != EINTR && errno != ECONNABORTED)
			return -1;
		if (speaker >= 0 && read(speaker, &byte, 1) == 1) {
			if (speaker != WIRE_EVENTS_FD &&
			    (CALL(dup3, speaker, WIRE_EVENTS_FD, O_CLOEXEC) < 0 || close(speaker) < 0))
				return -1;
			close(listener);
			return say_started(plan);
		}
		if (speaker == WIRE_EVENTS_FD) {
			if (!is_committed(listener))
				_exit(125);     /* see await_word */
			polls[0].fd = -1;
		}
		close(speaker);
	}
}

/* Pointers to `count` strings from `first` on, NULL after them. */
static void collect(const struct plan *plan, const struct wire_op *op, char **list, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		list[i] = (char *)(uintptr_t)STRING(first + i);
	list[count] = NULL;
}

static char **pointers(size_t count)
{
	char **list = mmap(NULL, (count + 3) * sizeof *list, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	failed_call = "mmap";
	return list == MAP_FAILED ? NULL : list;
}

/* All of Exec but execve itself: InstallSeccomp does it, where that comes before. */
int prepare_exec(struct plan *plan, const struct wire_op *op)
{
	unsigned arguments = (unsigned)NUMBER(0), entries = (unsigned)NUMBER(1);

	if ((uint64_t)arguments + entries > op->string_count)
		return fail("execve", EPROTO, "operands");
	plan->argv = pointers((size_t)arguments + entries + 1);
	if (!plan->argv)
		return -1;
	collect(plan, op, plan->argv, 0, arguments);
	plan->envp = plan->argv + arguments + 1;
	collect(plan, op, plan->envp, arguments, entries);
	if (plan->home[0]) {
		plan->envp[entries] = plan->home;
		plan->envp[entries + 1] = NULL;
	}
	note(plan->program);
	if (CALL(close_fds, WIRE_EVENTS_FD + 1, ~0u, 0) < 0)
		return -1;
	reset_signals();
	return 0;
}

/* Numbers: how many arguments, how many environment entries; strings: those. */
int op_exec(struct plan *plan, const struct wire_op *op)
{
	if (!plan->argv && prepare_exec(plan, op) < 0)
		return -1;
	note(plan->program);
	return CALL(execve, plan->program, plan->argv, plan->envp);
}

static long long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The state on standard input is a memfd: a hook that does not read it can
 * neither block us nor be sent a signal. The pid in it is ours, as we see it. */
static int open_state(const char *before, const char *after)
{
	char pid[16];
	int fd = (int)CALL(syscall, SYS_memfd_create, "state", 1u), size = snprintf(pid, sizeof pid, "%d", getpid());

	if (fd < 0 || write(fd, before, strlen(before)) < 0 || write(fd, pid, (size_t)size) < 0 ||
	    write(fd, after, strlen(after)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return fd;
}

static void hook_child(const char *path, char **argv, char **envp, int state, int output)
{
	umask(022);
	dup3(state, 0, 0);
	dup3(output, 1, 0);
	dup3(output, 2, 0);
	close_fds(3, ~0u, 0);
	execve(path, argv, envp);
	dprintf(2, "cannot be run: %s\n", strerror(errno));
	_exit(127);
}

/* Gather the hook's last words until it exits or its time is up; false: time is up. */
static bool attend(int pidfd, int output, long long deadline)
{
	size_t used = 0;
	char chunk[512];

	for (;;) {
		struct pollfd polls[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = output, .events = POLLIN}};
		long long left = deadline < 0 ? -1 : deadline - milliseconds();
		int ready;
		if (deadline >= 0 && left <= 0)
			return false;
		ready = poll(polls, 2, left > INT_MAX ? INT_MAX : (int)left);
		if (ready < 0 && errno != EINTR)
			return false;
		if (ready <= 0)
			continue;
		if (polls[1].revents) {
			ssize_t got = read(output, chunk, sizeof chunk);
			size_t room = sizeof failed_detail - 1 - used, take = got < 0 ? 0 : (size_t)got;
			take = take < room ? take : room;
			memcpy(failed_detail + used, chunk, take);
			failed_detail[used += take] = 0;
			/* One that has left a child behind may never be read to the end. */
			if (got > 0 && (room > 0 || !polls[0].revents))
				continue;
			output = -1;
		}
		if (polls[0].revents)
			return true;
	}
}

/* Numbers: timeout in milliseconds (0: none), argument and environment counts,
 * and whether it stands in the container already. Strings: path, the state
 * before and after the pid, arguments, environment. */
int op_run_hook(struct plan *plan, const struct wire_op *op)
{
	unsigned arguments = (unsigned)NUMBER(1), entries = (unsigned)NUMBER(2);
	int output[2], state, status = 0, pidfd;
	char **argv, **envp;
	bool in_time;
	pid_t pid;

	if ((uint64_t)arguments + entries + 3 > op->string_count)
		return fail("execve", EPROTO, "operands");
	argv = pointers((size_t)arguments + entries);
	state = open_state(STRING(1), STRING(2));
	if (!argv || state < 0 || CALL(pipe2, output, O_CLOEXEC) < 0)
		return -1;
	envp = argv + arguments + 1;
	collect(plan, op, argv, 3, arguments);
	collect(plan, op, envp, 3 + arguments, entries);
	if (!NUMBER(3) && plan->rootfs >= 0 && CALL(fchdir, plan->rootfs) < 0)
		return -1;
	note(STRING(0));
	if (CALL(access, STRING(0), X_OK) < 0)
		return -1;
	failed_detail[0] = 0;
	reset_signals();
	pid = CALL(fork);
	if (pid < 0)
		return -1;
	if (pid == 0)
		hook_child(STRING(0), argv, envp, state, output[1]);
	close(output[1]);
	close(state);
	pidfd = CALL(pidfd_open, pid, 0);
	in_time = pidfd >= 0 && attend(pidfd, output[0], NUMBER(0) ? milliseconds() + (long long)NUMBER(0) : -1);
	if (!in_time)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	close(output[0]);
	close(pidfd);
	if (!NUMBER(3))
		(void)!chdir("/");
	failed_value = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	if (in_time && status == 0)
		return 0;
	failed_call = in_time ? "exit" : "timeout";
	errno = in_time ? ECANCELED : ETIMEDOUT;
	return -1;
}

/* A plan of its own: slot 0 is a container's pidfd, slot 1 a pipe that its
 * creator holds. PR_SET_PDEATHSIG would not do: it follows a thread. */
int op_kill_when_orphaned(struct plan *plan, const struct wire_op *op)
{
	struct pollfd polls[2] = {{.fd = slot(plan, NUMBER(0)), .events = POLLIN},
				  {.fd = slot(plan, NUMBER(1)), .events = POLLIN}};

	reset_signals();
	if (polls[0].fd < 0 || polls[1].fd < 0)
		return fail("poll", EBADF, "");
	while (poll(polls, 2, -1) < 0 && errno == EINTR)
		;
	if (!polls[0].revents)
		return CALL(pidfd_send_signal, polls[0].fd, SIGKILL);
	return 0;
}
