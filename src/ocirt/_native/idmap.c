/* Id-mapped mounts: a tree shows its files' owners as a user namespace maps
 * them (mount_setattr(2), MOUNT_ATTR_IDMAP). Possible only while the tree is
 * detached, since nobody may have seen it with other owners. */
#define _GNU_SOURCE
#include "ops.h"

int map_owners(const struct plan *plan, int tree, uint64_t namespace, bool recursive)
{
	int fd = slot(plan, namespace);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint32_t)fd};

	if (fd < 0)
		return fail("slot", EBADF, "user namespace");
	return CALL(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr);
}

/* Numbers: slot of the tree, slot of the user namespace, recursive. */
int op_map_owners(struct plan *plan, const struct wire_op *op)
{
	int tree = slot(plan, NUMBER(0));

	return tree < 0 ? fail("slot", EBADF, "tree") : map_owners(plan, tree, NUMBER(1), NUMBER(2));
}
