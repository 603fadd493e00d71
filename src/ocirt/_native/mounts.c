/* The mounts of config.json. Each is finished while detached and then moved into
 * its place by descriptor, so that no half-made mount is ever visible and no
 * path is looked up twice. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>

#include "ops.h"

#define REC 0x4000              /* MS_REC in a propagation operand */

/* Operands from `first` on: set, clear, recursive set, recursive clear, a
 * tolerance that is not for us, then propagation flags. */
static int set_attributes(const struct plan *plan, const struct wire_op *op, int fd, unsigned first)
{
	for (unsigned recursive = 0; recursive < 2; recursive++) {
		struct mount_attr attr = {.attr_set = NUMBER(first + 2 * recursive),
					  .attr_clr = NUMBER(first + 2 * recursive + 1)};
		unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
		if ((attr.attr_set | attr.attr_clr) && CALL(mount_setattr, fd, "", flags, &attr) < 0)
			return -1;
	}
	for (unsigned i = first + 5; i < op->number_count; i++) {
		struct mount_attr attr = {.propagation = NUMBER(i) & ~(uint64_t)REC};
		if (CALL(mount_setattr, fd, "", AT_EMPTY_PATH | (NUMBER(i) & REC ? AT_RECURSIVE : 0), &attr) < 0)
			return -1;
	}
	return 0;
}

/* A directory on a file or the reverse is ENOTDIR to mount(2) and EINVAL to
 * move_mount(2). Users know it as the former, and dockerd explains it to them. */
static int attach(int mount, int target)
{
	struct stat what, where;
	int result = CALL(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	int error = errno;

	if (result == 0)
		return 0;
	if (error == EINVAL && fstat(mount, &what) == 0 && fstat(target, &where) == 0 &&
	    S_ISDIR(what.st_mode) != S_ISDIR(where.st_mode))
		error = ENOTDIR;
	errno = error;
	return result;
}

/* What lies on "/" is where the container's paths start from then on: its own
 * descriptor would still lead below it. */
static bool became_root(struct plan *plan, const char *target, int mount)
{
	if (strcmp(target, "/") != 0 || plan->rootfs < 0)
		return false;
	close(plan->rootfs);
	plan->rootfs = mount;
	return true;
}

/* What the file system itself says of a refused parameter; fsopen(2) lets it be
 * read from the context, one message a read. */
int explain(int fs, const char *what)
{
	int error = errno;
	char message[256];
	ssize_t size = read(fs, message, sizeof message - 1);

	message[size > 0 ? size : 0] = 0;
	message[strcspn(message, "\n")] = 0;
	snprintf(failed_detail, sizeof failed_detail, "%.600s%s%s%s", what, size > 0 ? " (" : "",
		 size > 2 ? message + 2 : "", size > 0 ? ")" : "");
	close(fs);
	errno = error;
	return -1;
}

static int configure(int fs, const char *parameter)
{
	char key[256];
	const char *value = strchr(parameter, '=');

	if (!value)
		return CALL(fsconfig, fs, FSCONFIG_SET_FLAG, parameter, NULL, 0);
	if (value - parameter >= (ptrdiff_t)sizeof key)
		return fail("fsconfig", EINVAL, parameter);
	snprintf(key, sizeof key, "%.*s", (int)(value - parameter), parameter);
	return CALL(fsconfig, fs, FSCONFIG_SET_STRING, key, value + 1, 0);
}

/* tmpfs on a directory of the image looks like that directory (runc's rule). */
static int inherit_mode(int fs, int target)
{
	struct stat info;
	char mode[8];

	if (CALL(fstat, target, &info) < 0)
		return -1;
	snprintf(mode, sizeof mode, "%04o", info.st_mode & 07777);
	return CALL(fsconfig, fs, FSCONFIG_SET_STRING, "mode", mode, 0);
}

/* What is done while nobody sees it yet: content, attributes, owners. */
static int furnish(const struct plan *plan, const struct wire_op *op, int mount, int target, uint64_t tolerance)
{
	if (tolerance & COPY_UP && copy_up(target, mount, tolerance & INHERIT_OWNER, STRING(0)) < 0)
		return -1;
	if (NUMBER(0) != NO_SLOT && map_owners(plan, mount, NUMBER(0), false) < 0)
		return -1;
	return set_attributes(plan, op, mount, 2);
}

/* For the one flag that only the old call can set, iversion. It wants a path,
 * which is the mount itself, and takes the mount's own attributes away. */
static int remount(const struct plan *plan, const struct wire_op *op, int mount)
{
	if (CALL(fchdir, mount) < 0)
		return -1;
	failed_call = "mount";
	if (syscall(SYS_mount, NULL, ".", NULL, NUMBER(1), NULL) < 0 || CALL(chdir, "/") < 0)
		return -1;
	return set_attributes(plan, op, mount, 2);
}

/* Before Linux 6.8 overlayfs has its lower directories as one parameter, and mount(2)
 * takes one that is too long for fsconfig(2). It wants a place: "/", whose top is
 * reached by "/..", and which is left again at once. The mount, detached. */
int mount_by_data(const char *type, const char *source, const char *data)
{
	int tree, error;

	if (SYSTEM(mount, source, "/", type, 0, data) < 0)
		return -1;
	tree = CALL(open_tree, AT_FDCWD, "/..", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	error = errno;
	if (CALL(umount2, "/..", MNT_DETACH) < 0)
		return -1;
	errno = error;
	return tree;
}

static bool too_long(const struct plan *plan, const struct wire_op *op)
{
	for (unsigned i = 3; i < op->string_count; i++) {
		const char *value = strchr(STRING(i), '=');
		if (value && strlen(value + 1) > LONGEST_VALUE)
			return true;
	}
	return false;
}

static int mount_with_long_parameters(const struct plan *plan, const struct wire_op *op)
{
	char data[LONGEST_DATA + 1];
	size_t used = 0;

	data[0] = 0;
	for (unsigned i = 3; i < op->string_count; i++) {
		used += (size_t)snprintf(data + used, sizeof data - used, "%s%s", i > 3 ? "," : "", STRING(i));
		if (used >= sizeof data)
			return fail("mount", E2BIG, STRING(1));
	}
	return mount_by_data(STRING(1), STRING(2), data);
}

static int mount_with_parameters(const struct plan *plan, const struct wire_op *op, int target, uint64_t tolerance)
{
	int fs = CALL(fsopen, STRING(1), FSOPEN_CLOEXEC), mount;

	if (fs < 0)
		return -1;
	if (*STRING(2) && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "source", STRING(2), 0) < 0)
		return explain(fs, STRING(2));
	if (tolerance & INHERIT_MODE && inherit_mode(fs, target) < 0)
		return explain(fs, "mode");
	for (unsigned i = 3; i < op->string_count; i++)
		if (configure(fs, STRING(i)) < 0) {
			failed_value = (int)i - 2;
			return explain(fs, STRING(i));
		}
	if (CALL(fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return explain(fs, STRING(1));
	note(STRING(0));
	mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC, (unsigned)NUMBER(2));
	close(fs);
	return mount;
}

/* Numbers: slot of a user namespace or NO_SLOT, flags of a remount, attributes.
 * Strings: target, type, source, then parameters ("key" or "key=value"). */
int op_mount_filesystem(struct plan *plan, const struct wire_op *op)
{
	uint64_t tolerance = NUMBER(6);
	int target, mount, result;

	note(STRING(0));
	target = resolve_target(plan, STRING(0), tolerance & ~(uint64_t)CREATE_TARGET, S_IFDIR);
	if (target < 0 && errno == ENOENT && tolerance & CREATE_TARGET) {
		tolerance &= ~(uint64_t)(INHERIT_MODE | COPY_UP);
		target = resolve_target(plan, STRING(0), tolerance, S_IFDIR);
	}
	if (target < 0)
		return -1;
	note(STRING(1));
	mount = too_long(plan, op) ? mount_with_long_parameters(plan, op) :
				     mount_with_parameters(plan, op, target, tolerance);
	if (mount < 0 || furnish(plan, op, mount, target, tolerance) < 0)
		return -1;
	result = attach(mount, target);
	if (result == 0 && NUMBER(1))
		result = remount(plan, op, mount);
	close(target);
	return became_root(plan, STRING(0), mount) ? result : close(mount) | result;
}

/* crun's copy-symlink: the link itself is made again. One that is there already
 * must be the same. */
static int copy_link(struct plan *plan, const char *path, int link)
{
	char name[NAME_MAX + 1], wanted[PATH_MAX], found[PATH_MAX];
	int parent = make_parent(plan, path, name, sizeof name);
	ssize_t size;

	if (parent < 0)
		return -1;
	size = CALL(readlinkat, link, "", wanted, sizeof wanted - 1);
	if (size < 0)
		return -1;
	wanted[size] = 0;
	if (CALL(symlinkat, wanted, parent, name) == 0)
		return 0;
	if (errno != EEXIST)
		return -1;
	size = readlinkat(parent, name, found, sizeof found - 1);
	found[size > 0 ? size : 0] = 0;
	return size >= 0 && strcmp(found, wanted) == 0 ? 0 : fail("symlinkat", EEXIST, path);
}

/* Numbers: slot or NO_SLOT, recursive, not followed, attributes. Strings:
 * target, source. */
int op_bind_mount(struct plan *plan, const struct wire_op *op)
{
	struct stat info;
	int tree, target, result;

	note(STRING(1));
	if (NUMBER(0) != NO_SLOT)
		tree = slot(plan, NUMBER(0));
	else
		tree = CALL(open_tree, AT_FDCWD, STRING(1),
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (NUMBER(1) ? AT_RECURSIVE : 0) |
			    (NUMBER(2) ? AT_SYMLINK_NOFOLLOW : 0));
	if (tree < 0)
		return NUMBER(0) != NO_SLOT ? fail("slot", EBADF, STRING(0)) : -1;
	if (CALL(fstat, tree, &info) < 0)
		return -1;
	if (S_ISLNK(info.st_mode) && NUMBER(7) & COPY_LINK) {
		result = copy_link(plan, STRING(0), tree);
		close(tree);
		return result;
	}
	if (set_attributes(plan, op, tree, 3) < 0)
		return -1;
	target = resolve_target(plan, STRING(0), NUMBER(7) | (is_procfs_root(tree) ? IS_PROCFS : 0),
				info.st_mode & S_IFMT);
	if (target < 0)
		return -1;
	result = attach(tree, target);
	close(target);
	return became_root(plan, STRING(0), tree) ? result : close(tree) | result;
}

/* A mount that stands already: remounts, and "ro" that had to wait. */
int op_set_mount_attributes(struct plan *plan, const struct wire_op *op)
{
	int target = resolve_target(plan, STRING(0), INSIDE_PROC, 0), result;

	if (target < 0)
		return -1;
	result = set_attributes(plan, op, target, 0);
	close(target);
	return result;
}
