/* Entering, creating and naming namespaces; the meetings with the host in between. */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "ops.h"

/* Inside a namespace that others are in already, we must not be traceable: they
 * could take the host's descriptors from us (CVE-2016-9962). */
static int hide(void)
{
	return CALL(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* Pairs of (CLONE_NEW* flag, slot), the user namespace last. One that is owned
 * by that user namespace can be entered only after it, one that is not only
 * before: so everything is tried, then the user namespace, then the rest. */
int op_join_namespaces(struct plan *plan, const struct wire_op *op)
{
	uint64_t done = 0;

	if (hide() < 0)
		return -1;
	for (int round = 0; round < 2; round++)
		for (uint32_t i = 0; op->number_count - i >= 2; i += 2) {
			uint64_t flag = NUMBER(i);
			if (done & flag)
				continue;
			if (CALL(setns, slot(plan, NUMBER(i + 1)), (int)flag) == 0) {
				done |= flag;
				continue;
			}
			if (round == 1 || flag == CLONE_NEWUSER || errno != EPERM) {
				failed_value = (int)i / 2;
				return -1;
			}
		}
	return 0;
}

/* All of a process's namespaces at once, setns(2) on its pidfd: slot, flags. */
int op_join_process(struct plan *plan, const struct wire_op *op)
{
	if (hide() < 0)
		return -1;
	return CALL(setns, slot(plan, NUMBER(0)), (int)NUMBER(1));
}

int op_unshare(struct plan *plan, const struct wire_op *op)
{
	return CALL(unshare, (int)NUMBER(0));
}

/* A child in new namespaces goes on with the plan; it is the host's child, not
 * ours (CLONE_PARENT). */
int op_clone(struct plan *plan, const struct wire_op *op)
{
	int pidfd = -1;
	struct clone_args args = {.flags = NUMBER(0) | CLONE_PARENT | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd};
	long pid;

	pid = CALL(clone3, &args);
	if (pid < 0)
		return -1;
	if (pid > 0) {
		tell(EVENT_PID, plan, (int)pid, pidfd);
		_exit(0);
	}
	setsid();
	return 0;
}

/* Numbers: the purpose, and who waits for whom. A host that acts unasked is not
 * woken, and has usually spoken before we come here. */
int op_sync(struct plan *plan, const struct wire_op *op)
{
	if (NUMBER(1) != SYNC_UNASKED && CALL(tell, EVENT_SYNC, plan, (int)NUMBER(0), -1) < 0)
		return -1;
	return NUMBER(1) == SYNC_TELL ? 0 : await_word(NUMBER(1) == SYNC_UNASKED ? WIRE_DONE : WIRE_GO);
}

/* The first act after the ID maps exist. Groups of the caller must not come
 * along where the kernel lets us drop them. */
int op_become_root(struct plan *plan, const struct wire_op *op)
{
	(void)plan;
	if (CALL(setresgid, 0, 0, 0) < 0 || CALL(setresuid, 0, 0, 0) < 0)
		return -1;
	if (NUMBER(0) && CALL(setgroups, 0, NULL) < 0)
		return -1;
	return hide();
}

/* The procfs that we see. In a mount namespace of others it may be anything. */
static int open_proc(void)
{
	int proc = CALL(open, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (proc >= 0 && !is_procfs_root(proc))
		return fail("fstatfs", EPERM, "/proc is no procfs");
	return proc;
}

/* A file of the host's procfs, which we still see: the container's own cannot
 * be trusted to be one (CVE-2025-52881). */
int op_write_proc(struct plan *plan, const struct wire_op *op)
{
	struct open_how how = {.flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW, .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV};
	const char *value = STRING(1);
	int proc, fd;
	ssize_t wrote;

	proc = open_proc();
	if (proc < 0)
		return -1;
	note(STRING(0));
	fd = CALL(openat2, proc, STRING(0), &how);
	close(proc);
	if (fd < 0)
		return -1;
	wrote = CALL(write, fd, value, strlen(value));
	close(fd);
	return wrote < 0 ? -1 : 0;
}

int op_set_hostname(struct plan *plan, const struct wire_op *op)
{
	return CALL(sethostname, STRING(0), strlen(STRING(0)));
}

int op_set_domainname(struct plan *plan, const struct wire_op *op)
{
	return CALL(setdomainname, STRING(0), strlen(STRING(0)));
}

/* netdevice(7): a new network namespace has a loopback device that is down. */
int op_loopback_up(struct plan *plan, const struct wire_op *op)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = CALL(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

	(void)plan;
	(void)op;
	if (fd < 0)
		return -1;
	result = CALL(ioctl, fd, SIOCSIFFLAGS, &request);
	close(fd);
	return result;
}

/* A socket belongs to the network namespace it was opened in: with ours, the
 * host can work on our network without entering it (netlink(7)). */
int op_offer_netlink(struct plan *plan, const struct wire_op *op)
{
	int fd = CALL(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	(void)op;
	if (fd < 0 || CALL(tell, EVENT_NETLINK, plan, 0, fd) < 0)
		return -1;
	close(fd);
	return await_word(WIRE_GO);
}
