/* Keys (keyrings(7)) and the labels of security modules. */
#define _GNU_SOURCE
#include <linux/keyctl.h>

#include "ops.h"

/* The permissions of a key in what KEYCTL_DESCRIBE says: "type;uid;gid;perm;name". */
static uint32_t permission_of(const char *text)
{
	uint32_t permission = 0;

	for (int field = 0; field < 3; field++) {
		text = strchr(text, ';');
		if (!text++)
			return 0;
	}
	for (; *text && *text != ';'; text++)
		permission = permission << 4 | (uint32_t)(*text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10);
	return permission;
}

/* String: a name. Number: the permission to give to a new keyring, or nothing.
 * One that is found with it already is somebody else's, so then a nameless one
 * has to do. ENOSYS: a kernel without keys has none to protect. */
int op_join_keyring(struct plan *plan, const struct wire_op *op)
{
	char text[512];
	uint32_t permission;
	int ring;

	note(STRING(0));
	ring = SYSTEM(keyctl, KEYCTL_JOIN_SESSION_KEYRING, STRING(0), 0, 0, 0);
	if (ring < 0)
		return errno == ENOSYS ? 0 : -1;
	if (!NUMBER(0))
		return 0;
	if (SYSTEM(keyctl, KEYCTL_DESCRIBE, ring, text, sizeof text - 1, 0) < 0)
		return -1;
	text[sizeof text - 1] = 0;
	permission = permission_of(text);
	if (permission & (uint32_t)NUMBER(0))
		return SYSTEM(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) < 0 ? -1 : 0;
	return SYSTEM(keyctl, KEYCTL_SETPERM, ring, permission | (uint32_t)NUMBER(0), 0, 0);
}

/* Number: the slot of a procfs. Strings: what to write, then the files to try. */
int op_set_label(struct plan *plan, const struct wire_op *op)
{
	struct open_how how = {.flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW, .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV};
	int proc = slot(plan, NUMBER(0)), fd = -1;
	ssize_t wrote;

	if (!is_procfs_root(proc))
		return fail("fstatfs", EPERM, "/proc is no procfs");
	for (unsigned i = 1; i < op->string_count && fd < 0; i++) {
		note(STRING(i));
		fd = CALL(openat2, proc, STRING(i), &how);
		if (fd < 0 && errno != ENOENT)
			return -1;
	}
	if (fd < 0)
		return -1;
	note(STRING(0));
	wrote = CALL(write, fd, STRING(0), strlen(STRING(0)));
	close(fd);
	return wrote < 0 ? -1 : 0;
}

/* Strings: a directory of the container, its label. */
int op_set_file_label(struct plan *plan, const struct wire_op *op)
{
	int fd = resolve(ROOT(plan), STRING(0), O_RDONLY | O_DIRECTORY, 0), result;

	note(STRING(0));
	if (fd < 0)
		return -1;
	result = SYSTEM(fsetxattr, fd, "security.selinux", STRING(1), strlen(STRING(1)) + 1, 0);
	close(fd);
	return result;
}
