/* The commands that do something, where it goes as it most often goes (container.py, starting.py). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../src/ocirt/_native/syscalls.h"
#include "../src/ocirt/_native/wire.h"
#include "command.h"

#define SIGNALS 65              /* NSIG, where C libraries differ */
#define KILL_MILLISECONDS 10000 /* KILL_SECONDS */
#define LONGEST_WAIT 8          /* milliseconds, between attempts to remove a cgroup; Python has more patience */

static char upper(char letter) { return letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter; }

static bool is_called(const char *given, const char *name, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (upper(given[i]) != name[i])
			return false;
	return !given[size];
}

/* signal_number of cli/lifecycle.py: digits, or a name with or without SIG; -1 for what is rare or wrong. */
static int signal_number(const char *text)
{
	const char *names = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
			    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
	size_t size = strspn(text, "0123456789");
	int number = 0;

	if (size == 1 || size == 2) {
		for (; *text >= '0' && *text <= '9'; text++)
			number = number * 10 + (*text - '0');
		return !*text && number < SIGNALS ? number : -1;
	}
	if (upper(text[0]) == 'S' && upper(text[1]) == 'I' && upper(text[2]) == 'G')
		text += 3;
	for (number = 1; *names; number++, names += size + (names[size] == ' ')) {
		size = strcspn(names, " ");
		if (is_called(text, names, size))
			return number;
	}
	return -1;
}

/* Container.kill. SIGKILL reaches a container without a pid namespace, or a paused one, in other ways. */
bool kill_init(const struct call *call)
{
	static struct place place;
	static struct record record;
	const int number = signal_number(call->signal);

	if (number < 0 || !open_place(&place, call->root, call->id) || !read_record(place.fd, call->id, &record))
		return false;
	if (number == SIGKILL && !record.kills)
		return false;
	enum status status = status_of(&place, &record);
	if (status != RUNNING && status != CREATED)
		return false;
	int init = open_init(&record);
	if (init < 0 || pidfd_send_signal(init, number) < 0)
		return false;
	/* If it was paused since, it has not ended of that on version 1. */
	return number != SIGKILL || is_frozen(&record, 1) == 0;
}

static int wait_for(int fd, short events, int milliseconds)
{
	struct pollfd waiter = {.fd = fd, .events = events};
	int ready;

	do
		ready = poll(&waiter, 1, milliseconds);
	while (ready < 0 && errno == EINTR);
	return ready;
}

/* Init has closed its end by its execve and has said nothing but that it was on its way. What it says stays unread. */
static bool has_executed(int connection)
{
	int unread = 0;

	return wait_for(connection, 0, -1) > 0 && ioctl(connection, FIONREAD, &unread) == 0
	       && unread == (int)offsetof(struct wire_event, call);
}

/* Container.start. Whatever becomes of it once it has begun, the words are Python's, who reads them on this connection. */
bool start_init(const struct call *call, int *begun)
{
	static struct place place;
	static struct record record;

	if (!open_place(&place, call->root, call->id) || !lock(&place, LOCK_EX)
	    || !read_record(place.fd, call->id, &record) || !record.starts)
		return false;
	if (is_frozen(&record, 1) != 0 || is_frozen(&record, 2) != 0)
		return false;
	int connection = connect_to_init(&place);
	if (connection < 0)
		return false;
	*begun = connection;
	(void)send(connection, "s", 1, MSG_NOSIGNAL);   /* its silence will tell */
	return has_executed(connection) && (unlinkat(place.fd, START_SOCKET, 0) == 0 || errno == ENOENT);
}

/* Nothing but what every container has. */
static bool is_plain_directory(int fd)
{
	const char *names[3];
	size_t count;

	if (!list_names(fd, names, sizeof names / sizeof *names, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], INTENT) != 0 && strcmp(names[i], STATE_FILE) != 0 && strcmp(names[i], START_SOCKET) != 0)
			return false;
	return true;
}

/* _kill_init: also the zombie of an init that others outlive. */
static bool end_init(const struct record *record)
{
	int init = open_init(record);

	if (init < 0)
		return init == -ESRCH;
	(void)pidfd_send_signal(init, SIGKILL);
	return wait_for(init, POLLIN, KILL_MILLISECONDS) > 0;
}

static bool remove_directory(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR) == 0 || errno == ENOENT; }

/* Parents that were not there before; others may use them by now (_remove_parents of cgroups/files.py). */
static bool remove_parents(struct text missing)
{
	struct text parents[32], parent;
	size_t count = 0;

	while (next_string(&missing, &parent)) {
		if (count == sizeof parents / sizeof *parents)
			return false;
		parents[count++] = parent;
	}
	while (count > 0)
		if (!remove_directory(terminated(parents[--count])))
			return errno == EBUSY || errno == ENOTEMPTY;
	return true;
}

/* Who was killed a moment ago may still be in it. */
static bool remove_patiently(const char *path)
{
	for (long milliseconds = 1;; milliseconds *= 2) {
		if (remove_directory(path))
			return true;
		if (errno != EBUSY || milliseconds > LONGEST_WAIT)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
	}
}

static bool remove_cgroup(struct record *record)
{
	for (size_t i = 0; i < record->count; i++)
		if (!remove_patiently(terminated(record->directories[i].path)))
			return false;
	for (size_t i = 0; i < record->count; i++)
		if (!remove_parents(record->directories[i].missing))
			return false;
	return true;
}

static bool unlink_all(int fd)
{
	for (const char *const *name = (const char *const[]){START_SOCKET, INTENT, STATE_FILE, NULL}; *name; name++)
		if (unlinkat(fd, *name, 0) < 0 && errno != ENOENT)
			return false;
	return true;
}

/* Container.delete, in its order: wherever this ends, Python's goes on from there. */
bool delete_container(const struct call *call)
{
	static struct place place;
	static struct record record;

	if (!open_place(&place, call->root, call->id) || !lock(&place, LOCK_EX | LOCK_NB)
	    || !read_record(place.fd, call->id, &record) || !record.deletes || record.owns_others
	    || !is_plain_directory(place.fd))
		return false;
	enum status status = status_of(&place, &record);
	if (status != STOPPED && status != CREATED && !(status == RUNNING && call->force))
		return false;
	return end_init(&record) && remove_cgroup(&record) && unlink_all(place.fd) && remove_directory(place.path);
}
