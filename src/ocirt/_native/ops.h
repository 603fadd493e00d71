/* The inside of ocirt-init: what an operation sees, and how it says what failed. */
#ifndef OCIRT_OPS_H
#define OCIRT_OPS_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "syscalls.h"
#include "wire.h"

struct plan {
	const struct wire_plan *header;
	const struct wire_op *operations;
	const uint64_t *numbers;
	const uint32_t *strings;
	const char *text;
	uint32_t current;               /* the operation at work */
	int fds[WIRE_SLOTS];            /* passed ones first, then those that operations open */

	/* What one operation leaves for a later one. */
	int rootfs;                     /* the tree that becomes "/", until it has */
	int masked_directory;           /* the empty tmpfs that every masked directory shows */
	int parent;                     /* the directory of the last node or link */
	char parent_path[PATH_MAX];
	bool in_directory;              /* the first ChangeDirectory succeeded */
	char program[PATH_MAX];
	char home[PATH_MAX];            /* "HOME=...", or empty */
	char **argv, **envp;            /* what Exec passes on, once that is prepared */
	bool filtered;                  /* few system calls are left to us */
	const uint64_t *kept;           /* what KeepDescriptors was told: pairs of slot and number */
	uint32_t kept_count;
};

/* The operands of the operation at hand. Their counts are checked before it runs. */
#define NUMBER(i) (plan->numbers[op->first_number + (uint32_t)(i)])
#define STRING(i) (plan->text + plan->strings[op->first_string + (uint32_t)(i)])
#define NO_SLOT 0xffffffffu

/* What a slot holds: nothing, or -1, where there is no such slot. */
static inline int slot(const struct plan *plan, uint64_t number)
{
	return number < WIRE_SLOTS ? plan->fds[number] : -1;
}

/* Where container paths start: the tree being built, or "/" once it is ours. */
#define ROOT(plan) ((plan)->rootfs < 0 ? AT_FDCWD : (plan)->rootfs)

/* An operation returns 0, or -1 with errno; failed_call and failed_detail say more. */
typedef int operation(struct plan *plan, const struct wire_op *op);

extern const char *failed_call;
extern char failed_detail[WIRE_DETAIL_SIZE];
extern int failed_value;

#define CALL(function, ...) (failed_call = #function, function(__VA_ARGS__))
#define SYSTEM(name, ...) (failed_call = #name, (int)syscall(SYS_##name, __VA_ARGS__))
int fail(const char *call, int error, const char *detail);
void note(const char *detail);

/* init.c */
extern int events;              /* our end of the events socket */
int tell(enum wire_kind kind, const struct plan *plan, int value, int fd);
int await_word(char wanted);
void reset_signals(void);

/* descriptors.c */
int close_beside(const struct plan *plan, int other);

/* process.c */
int prepare_exec(struct plan *plan, const struct wire_op *op);

/* path.c: the only ways from a container's path to a file. */
int resolve(int root, const char *path, uint64_t flags, uint64_t extra);
#define IS_PROCFS (UINT64_C(1) << 32)   /* beside the tolerances: a procfs is what goes there */
bool is_procfs_root(int fd);
int resolve_target(const struct plan *plan, const char *path, uint64_t tolerance, mode_t type);
int make_parent(struct plan *plan, const char *path, char *last, size_t size);
void forget_parent(struct plan *plan);
int open_device(const struct plan *plan, const char *path, int flags, unsigned major, unsigned minor);

/* idmap.c, copyup.c: what is done to a mount while it is detached. */
int map_owners(const struct plan *plan, int tree, uint64_t namespace, bool recursive);
int copy_up(int covered, int mount, bool owner, const char *target);

/* mounts.c */
#define LONGEST_VALUE 255       /* bytes that fsconfig(2) takes */
#define LONGEST_DATA 4095       /* and mount(2), of all parameters together */
int explain(int fs, const char *what);
int mount_by_data(const char *type, const char *source, const char *data);

operation op_join_namespaces, op_join_process, op_unshare, op_clone, op_sync, op_become_root, op_write_proc,
	op_set_hostname, op_set_domainname, op_loopback_up, op_set_propagation, op_open_tree, op_attach_rootfs,
	op_overlay_rootfs, op_select_rootfs, op_pivot_root, op_change_root, op_cover_root, op_mask_path, op_readonly_path, op_make_directory,
	op_mount_filesystem, op_bind_mount, op_map_owners, op_set_mount_attributes, op_make_device, op_bind_device, op_make_symlink,
	op_open_terminal, op_prepare_stdio, op_set_rlimits, op_set_no_new_privileges, op_drop_bounding, op_set_user,
	op_set_capabilities, op_set_scheduler, op_set_io_priority, op_set_affinity, op_set_personality,
	op_set_memory_policy, op_join_keyring, op_set_label, op_set_file_label, op_set_umask, op_change_directory,
	op_find_home, op_find_program, op_run_hook, op_await_start, op_exec, op_kill_when_orphaned, op_offer_netlink,
	op_install_seccomp, op_keep_descriptors, op_offer_overlay;

#endif
