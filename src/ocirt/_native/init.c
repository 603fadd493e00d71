/* ocirt-init: reads a plan, runs it from the first operation to the last, which
 * is Exec. It decides nothing. It runs alone in its process, allocates no
 * memory, and opens no file by itself but those that operations name.
 *
 * Read wire.h first, then this file, then any operation by its name. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ops.h"

const char *failed_call = "";
char failed_detail[WIRE_DETAIL_SIZE];
int failed_value;
int events = WIRE_EVENTS_FD;

static const struct {
	operation *run;
	uint32_t numbers, strings;      /* at least so many operands */
} operations[OP_END] = {
	[OP_JOIN_NAMESPACES] = {op_join_namespaces, 2, 0},
	[OP_JOIN_PROCESS] = {op_join_process, 2, 0},
	[OP_UNSHARE] = {op_unshare, 1, 0},
	[OP_CLONE] = {op_clone, 1, 0},
	[OP_SYNC] = {op_sync, 2, 0},
	[OP_BECOME_ROOT] = {op_become_root, 1, 0},
	[OP_WRITE_PROC] = {op_write_proc, 0, 2},
	[OP_SET_HOSTNAME] = {op_set_hostname, 0, 1},
	[OP_SET_DOMAINNAME] = {op_set_domainname, 0, 1},
	[OP_LOOPBACK_UP] = {op_loopback_up, 0, 0},
	[OP_OFFER_NETLINK] = {op_offer_netlink, 0, 0},
	[OP_SET_PROPAGATION] = {op_set_propagation, 2, 1},
	[OP_OPEN_TREE] = {op_open_tree, 4, 1},
	[OP_ATTACH_ROOTFS] = {op_attach_rootfs, 2, 1},
	[OP_OVERLAY_ROOTFS] = {op_overlay_rootfs, 1, 2},
	[OP_OFFER_OVERLAY] = {op_offer_overlay, 1, 3},
	[OP_SELECT_ROOTFS] = {op_select_rootfs, 1, 2},
	[OP_PIVOT_ROOT] = {op_pivot_root, 1, 0},
	[OP_CHANGE_ROOT] = {op_change_root, 1, 0},
	[OP_COVER_ROOT] = {op_cover_root, 0, 0},
	[OP_MASK_PATH] = {op_mask_path, 0, 1},
	[OP_READONLY_PATH] = {op_readonly_path, 0, 1},
	[OP_MAKE_DIRECTORY] = {op_make_directory, 1, 1},
	[OP_MOUNT_FILESYSTEM] = {op_mount_filesystem, 7, 3},
	[OP_BIND_MOUNT] = {op_bind_mount, 8, 2},
	[OP_MAP_OWNERS] = {op_map_owners, 3, 0},
	[OP_SET_MOUNT_ATTRIBUTES] = {op_set_mount_attributes, 5, 1},
	[OP_MAKE_DEVICE] = {op_make_device, 5, 1},
	[OP_BIND_DEVICE] = {op_bind_device, 4, 1},
	[OP_MAKE_SYMLINK] = {op_make_symlink, 1, 2},
	[OP_OPEN_TERMINAL] = {op_open_terminal, 4, 0},
	[OP_PREPARE_STDIO] = {op_prepare_stdio, 2, 0},
	[OP_SET_RLIMITS] = {op_set_rlimits, 0, 0},
	[OP_SET_NO_NEW_PRIVILEGES] = {op_set_no_new_privileges, 0, 0},
	[OP_DROP_BOUNDING] = {op_drop_bounding, 1, 0},
	[OP_SET_USER] = {op_set_user, 3, 0},
	[OP_SET_CAPABILITIES] = {op_set_capabilities, 4, 0},
	[OP_SET_SCHEDULER] = {op_set_scheduler, 7, 0},
	[OP_SET_IO_PRIORITY] = {op_set_io_priority, 1, 0},
	[OP_SET_AFFINITY] = {op_set_affinity, 0, 0},
	[OP_SET_PERSONALITY] = {op_set_personality, 1, 0},
	[OP_SET_MEMORY_POLICY] = {op_set_memory_policy, 1, 0},
	[OP_JOIN_KEYRING] = {op_join_keyring, 1, 1},
	[OP_SET_LABEL] = {op_set_label, 1, 2},
	[OP_SET_FILE_LABEL] = {op_set_file_label, 0, 2},
	[OP_SET_UMASK] = {op_set_umask, 1, 0},
	[OP_CHANGE_DIRECTORY] = {op_change_directory, 1, 1},
	[OP_FIND_HOME] = {op_find_home, 1, 0},
	[OP_FIND_PROGRAM] = {op_find_program, 0, 1},
	[OP_RUN_HOOK] = {op_run_hook, 4, 3},
	[OP_AWAIT_START] = {op_await_start, 1, 0},
	[OP_EXEC] = {op_exec, 2, 1},
	[OP_KILL_WHEN_ORPHANED] = {op_kill_when_orphaned, 2, 0},
	[OP_INSTALL_SECCOMP] = {op_install_seccomp, 2, 0},
	[OP_KEEP_DESCRIPTORS] = {op_keep_descriptors, 2, 0},
};

void note(const char *detail)
{
	snprintf(failed_detail, sizeof failed_detail, "%s", detail);
}

int fail(const char *call, int error, const char *detail)
{
	failed_call = call;
	note(detail);
	errno = error;
	return -1;
}

/* One frame to the host, with a descriptor where fd >= 0. Under a filter it goes
 * by write(2), the one call that every program may be expected to make. */
int tell(enum wire_kind kind, const struct plan *plan, int value, int fd)
{
	struct wire_event event = {.kind = kind, .operation = plan->current, .error = errno, .value = value};
	uint32_t count = plan->header ? plan->header->operations : 0;
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {&event, kind == EVENT_FAILED ? sizeof event : offsetof(struct wire_event, call)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	event.left = plan->current < count ? count - plan->current - 1 : 0;
	if (kind == EVENT_FAILED) {
		snprintf(event.call, sizeof event.call, "%s", failed_call);
		snprintf(event.detail, sizeof event.detail, "%s", failed_detail);
	}
	if (fd >= 0) {
		message.msg_control = control.space;
		message.msg_controllen = sizeof control.space;
		control.head.cmsg_len = CMSG_LEN(sizeof fd);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	}
	if (plan->filtered && fd < 0)
		return write(events, &event, part.iov_len) < 0 ? -1 : 0;
	return sendmsg(events, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The host says one byte at a time. What it does unasked it may have told
 * before we ask for something else: that is kept until its turn. If the host is
 * gone instead, so are we: a container that nobody has recorded must not live on. */
int await_word(char wanted)
{
	static unsigned kept;
	char byte;
	ssize_t got;

	if (wanted == WIRE_DONE && kept) {
		kept--;
		return 0;
	}
	for (;;) {
		do
			got = read(events, &byte, 1);
		while (got < 0 && errno == EINTR);
		if (got != 1)
			_exit(125);
		if (byte == wanted || byte != WIRE_DONE)
			return 0;
		kept++;
	}
}

/* Is [first, first + count) inside a table of `size` entries? */
static bool within(uint32_t first, uint32_t count, uint32_t size)
{
	return first <= size && count <= size - first;
}

/* The host wrote the plan, and still every offset is checked, once and here, so
 * that no operation has to. */
static int check_plan(const struct plan *plan, size_t size)
{
	const struct wire_plan *h = plan->header;
	uint64_t need = sizeof *h + (uint64_t)h->operations * sizeof(struct wire_op) + (uint64_t)h->numbers * 8 +
		(uint64_t)h->strings * 4 + h->text;

	if (h->magic != WIRE_MAGIC || h->version != WIRE_VERSION || h->size != size || need != size)
		return fail("check_plan", EPROTO, "header");
	if (h->passed_fds > WIRE_SLOTS || h->text == 0 || plan->text[h->text - 1] != 0)
		return fail("check_plan", EPROTO, "text");
	for (uint32_t i = 0; i < h->strings; i++)
		if (plan->strings[i] >= h->text)
			return fail("check_plan", EPROTO, "string");
	for (uint32_t i = 0; i < h->operations; i++) {
		const struct wire_op *op = &plan->operations[i];
		if (op->code >= OP_END || !operations[op->code].run ||
		    op->number_count < operations[op->code].numbers || op->string_count < operations[op->code].strings ||
		    !within(op->first_number, op->number_count, h->numbers) ||
		    !within(op->first_string, op->string_count, h->strings))
			return fail("check_plan", EPROTO, "operation");
	}
	return 0;
}

static int load_plan(struct plan *plan)
{
	struct stat info;
	const char *base;

	if (CALL(fstat, WIRE_PLAN_FD, &info) < 0)
		return -1;
	if ((size_t)info.st_size < sizeof(struct wire_plan))
		return fail("load_plan", EPROTO, "size");
	base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, WIRE_PLAN_FD, 0);
	if (base == MAP_FAILED)
		return fail("mmap", errno, "plan");
	plan->header = (const void *)base;
	plan->operations = (const void *)(base + sizeof *plan->header);
	if (sizeof *plan->header + (uint64_t)plan->header->operations * sizeof(struct wire_op) +
	    (uint64_t)plan->header->numbers * 8 + (uint64_t)plan->header->strings * 4 > (uint64_t)info.st_size)
		return fail("load_plan", EPROTO, "tables");
	plan->numbers = (const void *)(plan->operations + plan->header->operations);
	plan->strings = (const void *)(plan->numbers + plan->header->numbers);
	plan->text = (const void *)(plan->strings + plan->header->strings);
	if (check_plan(plan, (size_t)info.st_size) < 0)
		return -1;
	for (uint32_t i = 0; i < WIRE_SLOTS; i++)
		plan->fds[i] = i < plan->header->passed_fds ? WIRE_FIRST_SLOT_FD + (int)i : -1;
	plan->rootfs = plan->masked_directory = plan->parent = -1;
	return close(WIRE_PLAN_FD);
}

/* Python ignores SIGPIPE and SIGXFSZ, and its threads may block signals: nobody
 * whom we start must inherit either (signal(7): both survive execve). Done as
 * late as that, for it is many calls, and by then nobody waits for us. */
void reset_signals(void)
{
	static bool done;
	struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } action = {0};
	uint64_t none = 0;

	for (int number = 1; number <= 64 && !done; number++)
		syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
	done = true;
}

int main(void)
{
	static struct plan plan;

	setsid();
	umask(0);
	fcntl(events, F_SETFD, FD_CLOEXEC);
	if (load_plan(&plan) < 0) {
		tell(EVENT_FAILED, &plan, 0, -1);
		return 125;
	}
	for (; plan.current < plan.header->operations; plan.current++) {
		const struct wire_op *op = &plan.operations[plan.current];
		failed_call = "";
		failed_value = 0;
		failed_detail[0] = 0;
		if (op->code != OP_MAKE_DEVICE && op->code != OP_MAKE_SYMLINK)
			forget_parent(&plan);
		if (operations[op->code].run(&plan, op) < 0) {
			tell(EVENT_FAILED, &plan, failed_value, -1);
			return 125;
		}
	}
	return 0;
}
