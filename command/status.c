/* The state directory of a container, and its status, which is what the kernel says (state.py, StateDirectory). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../src/ocirt/_native/syscalls.h"
#include "command.h"

#define START_TIME 19   /* of the fields behind the name, which may hold anything (proc_pid_stat(5)) */

bool open_place(struct place *place, const char *root, const char *id)
{
	int size = snprintf(place->path, sizeof place->path, "%s/%s", root, id);

	place->fd = -1;
	if (size < (int)sizeof place->path)
		place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return place->fd >= 0;
}

/* Nobody else works on this container, and it is still this one. */
bool lock(const struct place *place, int how)
{
	struct stat there, here;

	return flock(place->fd, how) == 0 && fstatat(AT_FDCWD, place->path, &there, AT_SYMLINK_NOFOLLOW) == 0
	       && fstat(place->fd, &here) == 0 && there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

/* As getdents64(2) has it. */
struct entry {
	uint64_t number;
	int64_t offset;
	unsigned short size;
	unsigned char type;
	char name[];
};

/* What a directory holds, until the next one is asked; false if that is more. */
bool list_names(int fd, const char **names, size_t most, size_t *count)
{
	static _Alignas(struct entry) char entries[1 << 16];
	size_t size = 0;
	long more;

	do {
		more = syscall(SYS_getdents64, fd, entries + size, sizeof entries - size);
		size += more > 0 ? (size_t)more : 0;
	} while (more > 0);
	*count = 0;
	for (size_t at = 0; at < size; at += ((struct entry *)(void *)(entries + at))->size) {
		const char *name = ((struct entry *)(void *)(entries + at))->name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (*count == most)
			return false;
		names[(*count)++] = name;
	}
	return more == 0;
}

/* A short file, with a NUL behind it: its size, or -errno. */
static ssize_t short_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t length = fd < 0 ? -1 : read(fd, text, size);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (length == (ssize_t)size)
		return -EFBIG;
	text[length < 0 ? 0 : length] = '\0';
	return length < 0 ? -error : length;
}

/* This boot's pids are meant; -1 where that cannot be told. */
static int is_of_this_boot(const struct record *record)
{
	static char boot[64];

	if (!*boot && short_file("/proc/sys/kernel/random/boot_id", boot, sizeof boot) < 0)
		return -1;
	boot[strcspn(boot, "\n")] = '\0';
	return equals(record->boot, boot);
}

/* The letter of a process's state, 'X' if it is gone; 0 where that cannot be told. */
static char process_state(unsigned long long pid, unsigned long long *start_time)
{
	char path[64], stat[4096];

	snprintf(path, sizeof path, "/proc/%llu/stat", pid);
	ssize_t size = short_file(path, stat, sizeof stat);
	*start_time = 0;
	if (size == -ENOENT || size == -ESRCH)
		return 'X';
	if (size < 0)
		return 0;
	char *field = NULL;
	for (char *at = stat; (at = strchr(at, ')')); at++)
		if (at[1] == ' ')
			field = at + 2;
	if (!field)
		return 0;
	const char state = *field;
	for (int i = 0; i < START_TIME; i++) {
		field += strcspn(field, " ");
		field += *field == ' ';
	}
	for (; *field >= '0' && *field <= '9'; field++)
		*start_time = *start_time * 10 + (unsigned)(*field - '0');
	return state;
}

static int has_line(const char *directory, const char *name, const char *line)
{
	char path[PATH_MAX], text[4096];

	if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
		return -1;
	ssize_t size = short_file(path, text, sizeof text);
	if (size < 0)
		return size == -ENOENT || size == -ENODEV ? 0 : -1;
	for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		if (strcmp(at, line) == 0)
			return 1;
	}
	return 0;
}

static bool has_freezer(const struct directory *d)
{
	struct text list = d->controllers, name;

	if (d->version != 1)
		return false;
	while (next_string(&list, &name))
		if (equals(name, "freezer"))
			return true;
	return false;
}

/* Whether one version of cgroups holds all of it still; -1 where that cannot be told. */
int is_frozen(const struct record *record, unsigned long long version)
{
	for (size_t i = 0; i < record->count; i++) {
		const struct directory *d = &record->directories[i];
		if (version == 1 && has_freezer(d))
			return has_line(terminated(d->path), "freezer.state", "FROZEN");
		if (version == 2 && d->version == 2)
			return has_line(terminated(d->path), "cgroup.events", "frozen 1");
	}
	return 0;
}

/* To an init that waits for its start: -ENOENT or -ECONNREFUSED if it does not. By our descriptor, since a path may be
 * longer than a socket's address (unix(7)). */
int connect_to_init(const struct place *place)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat info;

	if (fstatat(place->fd, START_SOCKET, &info, 0) < 0)
		return -errno;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" START_SOCKET, place->fd);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

enum status status_of(const struct place *place, const struct record *record)
{
	unsigned long long start_time;
	const char state = process_state(record->known.pid, &start_time);

	const int this_boot = is_of_this_boot(record);
	if (!state || this_boot < 0)
		return UNKNOWN;
	if (start_time != record->start_time || !start_time || strchr("ZX", state) || !this_boot)
		return STOPPED;
	const int v1 = is_frozen(record, 1), v2 = is_frozen(record, 2);
	if (v1 < 0 || v2 < 0)
		return UNKNOWN;
	if (v1 || v2)
		return PAUSED;
	int init = connect_to_init(place);
	if (init >= 0)
		close(init);
	return init >= 0 ? CREATED : init == -ENOENT || init == -ECONNREFUSED ? RUNNING : UNKNOWN;
}

/* A pidfd of init, -ESRCH if it is not there any more; a zombie is. */
int open_init(const struct record *record)
{
	unsigned long long start_time;

	const int this_boot = is_of_this_boot(record);
	if (this_boot <= 0)
		return this_boot < 0 ? -EIO : -ESRCH;
	int fd = pidfd_open((pid_t)record->known.pid, 0);
	if (fd < 0)
		return -errno;
	const char state = process_state(record->known.pid, &start_time);
	if (state && start_time == record->start_time)
		return fd;
	close(fd);
	return state ? -ESRCH : -EIO;
}
