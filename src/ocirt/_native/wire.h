/* What crosses the boundary between Python and ocirt-init: the plan on its way
 * in, events on their way back. Everything here is read twice, by the C
 * compiler and by cffi, so that no number exists in two places.
 *
 * A plan is one block of memory: header, operations, numbers, string offsets,
 * text. An operation names a run of numbers and a run of strings. */
#ifndef OCIRT_WIRE_H
#define OCIRT_WIRE_H

#include <stdint.h>

/* cdef: begin */
#define WIRE_MAGIC 0x7472636f
#define WIRE_VERSION 1
#define WIRE_SLOTS 4096         /* file descriptors that a plan may hold */
#define WIRE_EVENTS_FD 3        /* where ocirt-init finds its end of the events socket */
#define WIRE_PLAN_FD 4          /* and its plan */
#define WIRE_FIRST_SLOT_FD 5    /* and the plan's descriptors, in order */
#define WIRE_COMMITTED 1        /* the SO_PRIORITY of the start socket, once the container is recorded */
#define WIRE_GO 0x67            /* the host's answer to what it was asked */
#define WIRE_DONE 0x64          /* its word on what it does unasked */
#define WIRE_CALL_SIZE 32
#define WIRE_DETAIL_SIZE 1024

enum wire_code {
	/* namespaces.c */
	OP_JOIN_NAMESPACES = 1, OP_JOIN_PROCESS, OP_UNSHARE, OP_CLONE, OP_SYNC, OP_BECOME_ROOT,
	OP_WRITE_PROC, OP_SET_HOSTNAME, OP_SET_DOMAINNAME, OP_LOOPBACK_UP,
	OP_OFFER_NETLINK,
	/* rootfs.c */
	OP_SET_PROPAGATION, OP_OPEN_TREE, OP_ATTACH_ROOTFS, OP_OVERLAY_ROOTFS, OP_SELECT_ROOTFS, OP_PIVOT_ROOT, OP_CHANGE_ROOT, OP_COVER_ROOT,
	OP_MASK_PATH, OP_READONLY_PATH, OP_MAKE_DIRECTORY, OP_OFFER_OVERLAY,
	/* mounts.c */
	OP_MOUNT_FILESYSTEM, OP_BIND_MOUNT, OP_SET_MOUNT_ATTRIBUTES, OP_MAP_OWNERS,
	/* devices.c */
	OP_MAKE_DEVICE, OP_BIND_DEVICE, OP_MAKE_SYMLINK, OP_OPEN_TERMINAL, OP_PREPARE_STDIO,
	/* credentials.c */
	OP_SET_RLIMITS, OP_SET_NO_NEW_PRIVILEGES, OP_DROP_BOUNDING, OP_SET_USER, OP_SET_CAPABILITIES,
	/* scheduling.c */
	OP_SET_SCHEDULER, OP_SET_IO_PRIORITY, OP_SET_AFFINITY, OP_SET_PERSONALITY, OP_SET_MEMORY_POLICY,
	/* labels.c */
	OP_JOIN_KEYRING, OP_SET_LABEL, OP_SET_FILE_LABEL,
	/* process.c */
	OP_SET_UMASK, OP_CHANGE_DIRECTORY, OP_FIND_HOME, OP_FIND_PROGRAM, OP_RUN_HOOK, OP_AWAIT_START, OP_EXEC,
	OP_KILL_WHEN_ORPHANED,
	/* seccomp.c */
	OP_INSTALL_SECCOMP,
	/* descriptors.c */
	OP_KEEP_DESCRIPTORS,
	OP_END
};

enum wire_tolerance {
	MAY_BE_ABSENT = 1,      /* no such target: nothing to do */
	CREATE_TARGET = 2,      /* make a missing mount point */
	ORDINARY_DIRECTORY = 4, /* the target is a directory that no symlink leads to */
	INSIDE_PROC = 8,        /* the target may lie on a procfs */
	INHERIT_MODE = 16,      /* a tmpfs takes the mode of the directory it covers */
	INHERIT_OWNER = 32,     /* and its owner, */
	COPY_UP = 64,           /* and its content */
	KEEP_LINK = 128,        /* a target that is a symlink is itself the target */
	COPY_LINK = 256         /* a source that is a symlink is made again, and not mounted */
};

enum wire_sync {
	SYNC_ASK,               /* tell the host, and wait until it says go */
	SYNC_UNASKED,           /* wait for what the host does without being told */
	SYNC_TELL               /* tell it, and go on */
};

enum wire_kind { EVENT_PID = 1, EVENT_SYNC, EVENT_TERMINAL, EVENT_STARTED, EVENT_FAILED, EVENT_NETLINK, EVENT_LISTENER, EVENT_TREE };

struct wire_plan {
	uint32_t magic, version, size, operations, numbers, strings, text, passed_fds;
};

struct wire_op {
	uint32_t code, number_count, string_count, first_number, first_string, unused;
};

struct wire_event {
	uint32_t kind;
	uint32_t operation;     /* its index in the plan */
	uint32_t left;          /* how many come after it */
	uint32_t unused;
	int32_t error;          /* errno */
	int32_t value;          /* a pid, a Sync's purpose, a hook's return code, a descriptor's number */
	/* Of a failure alone; other events end here. */
	char call[WIRE_CALL_SIZE];
	char detail[WIRE_DETAIL_SIZE];
};
/* cdef: end */

#endif
