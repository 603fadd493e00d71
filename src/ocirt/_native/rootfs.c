/* The tree that becomes the container's "/": taken, covered, made ours. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "ops.h"

#define CLONE_TREE (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)

/* Propagation of "/", whichever it is by now: MS_* flag, recursive. */
int op_set_propagation(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr attr = {.propagation = NUMBER(0)};

	return CALL(mount_setattr, AT_FDCWD, STRING(0), NUMBER(1) ? AT_RECURSIVE : 0, &attr);
}

/* A part of the container's own tree, with what is mounted there by now. */
static int open_inside(const struct plan *plan, const char *path, bool recursive, bool nofollow)
{
	int fd = resolve(ROOT(plan), path, O_PATH | (nofollow ? O_NOFOLLOW : 0), 0), tree;

	if (fd < 0)
		return -1;
	tree = CALL(open_tree, fd, "", CLONE_TREE | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));
	close(fd);
	return tree;
}

/* A copy of a host tree, kept in a slot: taken while we may still see it, for a
 * user namespace whose root may not. Numbers: slot, recursive, not followed,
 * and whether the path is the container's. Where the host's mounts are shared,
 * the copy would hand what is mounted on it back to the host; it only follows,
 * as our own copies of the host's mounts do. */
int op_open_tree(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr slave = {.propagation = 1 << 19};
	int tree;

	note(STRING(0));
	if (NUMBER(0) >= WIRE_SLOTS)
		return fail("open_tree", EBADF, STRING(0));
	if (NUMBER(3))
		tree = open_inside(plan, STRING(0), NUMBER(1), NUMBER(2));
	else
		tree = CALL(open_tree, AT_FDCWD, STRING(0), CLONE_TREE | (NUMBER(1) ? AT_RECURSIVE : 0) |
			    (NUMBER(2) ? AT_SYMLINK_NOFOLLOW : 0));
	plan->fds[NUMBER(0)] = tree;
	if (tree < 0 || NUMBER(3))
		return tree < 0 ? -1 : 0;
	return (int)CALL(mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &slave);
}

/* A tree mounted on "/" lies on top of it, out of every path's way: no directory
 * of the host is needed, and pivot_root(2) takes it from there. */
static int attach(struct plan *plan, int tree)
{
	if (CALL(move_mount, tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -1;
	plan->rootfs = tree;
	return 0;
}

/* Number 1: what is mounted below must not be mounted on the host as well,
 * where the two are shared: pivot_root(2) would refuse such a tree. */
int op_attach_rootfs(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr private = {.propagation = 1 << 18};
	int tree;

	note(STRING(0));
	if (NUMBER(0) != NO_SLOT)
		tree = slot(plan, NUMBER(0));
	else
		tree = CALL(open_tree, AT_FDCWD, STRING(0), CLONE_TREE | AT_RECURSIVE);
	if (tree < 0)
		return NUMBER(0) != NO_SLOT ? fail("slot", EBADF, STRING(0)) : -1;
	if (NUMBER(1) && CALL(mount_setattr, tree, "", AT_EMPTY_PATH, &private) < 0)
		return -1;
	return attach(plan, tree);
}

/* A tmpfs at `where`: the layer, overlayfs's workplace, and where the whole of
 * it may be seen. Its descriptor. */
static int mount_scratch(const char *where)
{
	static const char *const parts[] = {"upper", "work", "whole", "root"};
	int fs = CALL(fsopen, "tmpfs", FSOPEN_CLOEXEC), mount;

	if (fs < 0 || CALL(fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    CALL(fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	close(fs);
	if (mount < 0 || CALL(move_mount, mount, "", AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -1;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (CALL(mkdirat, mount, parts[i], 0755) < 0)
			return -1;
	return mount;
}

/* `count` strings of the operation, from `first` on: the lower directories, the
 * top one first. Several go one by one, since no value may have 256 bytes. */
static int set_lowers(const struct plan *plan, const struct wire_op *op, int fs, uint32_t first, uint32_t count)
{
	const char *key = count == 1 ? "lowerdir" : "lowerdir+";

	for (uint32_t i = first; i < first + count; i++)
		if (CALL(fsconfig, fs, FSCONFIG_SET_STRING, key, STRING(i), 0) < 0)
			return -1;
	return 0;
}

/* An overlayfs that is mounted nowhere yet. In a user namespace it keeps its notes
 * in user xattrs. `plain`: what it makes of the upper directory is to be a lower
 * one of others, so all of a file is there, under its own name. */
static int layer_by_data(const char *lowers, const char *upper, const char *work, const char *more)
{
	char data[LONGEST_DATA + 1];
	int size = *upper ? snprintf(data, sizeof data, "lowerdir=%s,upperdir=%s,workdir=%s%s", lowers, upper, work, more) :
			    snprintf(data, sizeof data, "lowerdir=%s%s", lowers, more);

	if (size >= (int)sizeof data)
		return fail("mount", E2BIG, "overlay");
	return mount_by_data("overlay", "overlay", data);
}

static int layer(const struct plan *plan, const struct wire_op *op, uint32_t first, uint32_t count,
		 const char *upper, const char *work, bool in_user_namespace, bool plain)
{
	int fs, tree;

	note("overlay");
	if (strlen(STRING(first)) > LONGEST_VALUE) {
		char more[64];
		snprintf(more, sizeof more, "%s%s", in_user_namespace ? ",userxattr" : "",
			 plain ? ",metacopy=off,redirect_dir=nofollow,index=off" : "");
		return layer_by_data(STRING(first), upper, work, more);
	}
	fs = CALL(fsopen, "overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	if (set_lowers(plan, op, fs, first, count) < 0 ||
	    (*upper && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "upperdir", upper, 0) < 0) ||
	    (*upper && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "workdir", work, 0) < 0) ||
	    (in_user_namespace && CALL(fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0) ||
	    (plain && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "metacopy", "off", 0) < 0) ||
	    (plain && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "redirect_dir", "nofollow", 0) < 0) ||
	    (plain && CALL(fsconfig, fs, FSCONFIG_SET_STRING, "index", "off", 0) < 0) ||
	    CALL(fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return explain(fs, "overlay");
	tree = CALL(fsmount, fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	return tree;
}

static int layer_in_scratch(const struct plan *plan, const struct wire_op *op, uint32_t first, uint32_t count,
			    const char *scratch, bool in_user_namespace)
{
	char upper[PATH_MAX], work[PATH_MAX];

	snprintf(upper, sizeof upper, "%s/upper", scratch);
	snprintf(work, sizeof work, "%s/work", scratch);
	return layer(plan, op, first, count, upper, work, in_user_namespace, false);
}

/* A throw-away layer, which lives in a tmpfs on string 0, visible to nobody, above
 * the trees of the other strings. Number 0: in a user namespace. */
int op_overlay_rootfs(struct plan *plan, const struct wire_op *op)
{
	int scratch, tree;

	note(STRING(0));
	scratch = mount_scratch(STRING(0));
	if (scratch < 0)
		return -1;
	close(scratch);
	tree = layer_in_scratch(plan, op, 1, op->string_count - 1, STRING(0), NUMBER(0));
	return tree < 0 ? -1 : attach(plan, tree);
}

/* An overlayfs for the host, which works on it by descriptor: it is mounted nowhere,
 * and gone with the last descriptor. Number 0 as above; strings: the upper
 * directory and overlayfs's workplace, both empty if there is nothing to be
 * written, the lower ones. */
int op_offer_overlay(struct plan *plan, const struct wire_op *op)
{
	int tree = layer(plan, op, 2, op->string_count - 2, STRING(0), STRING(1), NUMBER(0), true);

	if (tree < 0 || CALL(tell, EVENT_TREE, plan, 0, tree) < 0)
		return -1;
	return close(tree);
}

/* One name of the directory `whole`: a symlink is copied, a directory bound. */
static int show(int whole, int root, const char *name, struct mount_attr *attr)
{
	char link[PATH_MAX];
	ssize_t size = readlinkat(whole, name, link, sizeof link - 1);
	int part, result;

	note(name);
	if (size >= 0) {
		link[size] = 0;
		return CALL(symlinkat, link, root, name);
	}
	if (errno != EINVAL)                            /* which means: no symlink */
		return errno == ENOENT ? 0 : fail("readlinkat", errno, name);
	part = CALL(open_tree, whole, name, CLONE_TREE | AT_RECURSIVE);
	if (part < 0 || CALL(mkdirat, root, name, 0755) < 0 ||
	    CALL(mount_setattr, part, "", AT_EMPTY_PATH | AT_RECURSIVE, attr) < 0)
		return -1;
	result = CALL(move_mount, part, "", root, name, MOVE_MOUNT_F_EMPTY_PATH);
	close(part);
	return result;
}

/* An empty directory, with the names from string 2 on of the tree at string 0:
 * as they are below a throw-away layer (number 0), or read-only. The layer is
 * attached first, since kernels before 6.15 clone nothing that is not. */
int op_select_rootfs(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (NUMBER(0) ? 0 : MOUNT_ATTR_RDONLY)};
	int scratch, whole, root;

	note(STRING(1));
	scratch = mount_scratch(STRING(1));
	if (scratch < 0)
		return -1;
	note(STRING(0));
	whole = NUMBER(0) ? layer_in_scratch(plan, op, 0, 1, STRING(1), false) : CALL(open, STRING(0), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (whole < 0 ||
	    (NUMBER(0) && CALL(move_mount, whole, "", scratch, "whole", MOVE_MOUNT_F_EMPTY_PATH) < 0))
		return -1;
	root = CALL(open_tree, scratch, "root", CLONE_TREE);
	if (root < 0 || attach(plan, root) < 0)
		return -1;
	for (uint32_t i = 2; i < op->string_count; i++)
		if (show(whole, root, STRING(i), &attr) < 0)
			return -1;
	close(whole);
	return close(scratch);
}

/* pivot_root(".", ".") puts the old root on top of the new one, so the image
 * needs no directory for it; detaching drops it. Number 0: it may be shared, and is
 * made a slave first, or the host's would be unmounted together with our view. */
int op_pivot_root(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr slave = {.propagation = 1 << 19};
	int old = CALL(open, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (old < 0 || CALL(fchdir, plan->rootfs) < 0 || CALL(pivot_root, ".", ".") < 0)
		return -1;
	if (NUMBER(0) && CALL(mount_setattr, old, "", AT_EMPTY_PATH | AT_RECURSIVE, &slave) < 0)
		return -1;
	if (CALL(umount2, ".", MNT_DETACH) < 0 || CALL(chdir, "/") < 0)
		return -1;
	close(old);
	close(plan->rootfs);
	plan->rootfs = -1;
	return 0;
}

/* Without a mount namespace of its own the container gets a root directory
 * only: a slot's, or the one that AttachRootfs would have mounted. */
int op_change_root(struct plan *plan, const struct wire_op *op)
{
	int root = NUMBER(0) != NO_SLOT ? slot(plan, NUMBER(0)) : plan->rootfs;

	if (CALL(fchdir, root) < 0 || CALL(chroot, ".") < 0)
		return -1;
	close(root);
	plan->rootfs = -1;
	return 0;
}

/* Covers a file. The host's /dev/null, since an image's may be anything (CVE-2025-31133). */
static int open_null(void)
{
	struct stat info;
	int fd = CALL(open_tree, AT_FDCWD, "/dev/null", CLONE_TREE);

	if (fd >= 0 && (CALL(fstat, fd, &info) < 0 || !S_ISCHR(info.st_mode) || info.st_rdev != makedev(1, 3)))
		return fail("fstat", ENODEV, "/dev/null of the host");
	return fd;
}

/* Covers a directory. One superblock serves them all. With a label where there is one. */
static int open_empty(struct plan *plan, const char *label)
{
	static const char *inodes[] = {"1", "2"};       /* some kernels need one for the root itself */
	int fs, mount = -1;

	if (plan->masked_directory >= 0)
		return CALL(open_tree, plan->masked_directory, "", CLONE_TREE | AT_EMPTY_PATH);
	for (int i = 0; i < 2 && mount < 0; i++) {
		fs = CALL(fsopen, "tmpfs", FSOPEN_CLOEXEC);
		if (fs < 0)
			return -1;
		if (CALL(fsconfig, fs, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) == 0 &&
		    CALL(fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", inodes[i], 0) == 0 &&
		    (!label || CALL(fsconfig, fs, FSCONFIG_SET_STRING, "context", label, 0) == 0) &&
		    CALL(fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
			mount = CALL(fsmount, fs, FSMOUNT_CLOEXEC,
				     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		close(fs);
	}
	plan->masked_directory = mount;
	return mount;
}

/* Strings: the path, and for what covers a directory a label, if it needs one. */
int op_mask_path(struct plan *plan, const struct wire_op *op)
{
	const char *label = op->string_count > 1 ? STRING(1) : NULL;
	struct stat info;
	int target = resolve_target(plan, STRING(0), INSIDE_PROC, 0), cover, result;

	if (target < 0)
		return errno == ENOENT ? 0 : -1;
	if (CALL(fstat, target, &info) < 0)
		return -1;
	cover = S_ISDIR(info.st_mode) ? open_empty(plan, label) : open_null();
	if (cover < 0)
		return -1;
	result = CALL(move_mount, cover, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	if (cover != plan->masked_directory)
		close(cover);
	close(target);
	return result;
}

/* One of the host's filesystems goes from our mount namespace, and stays where
 * it is for others. One that we may not take away (mount_namespaces(7), locked
 * mounts), or that lies below another, is covered. */
static int take_away(struct plan *plan, const char *path)
{
	struct mount_attr slave = {.propagation = 1 << 19};
	int cover, result;

	note(path);
	if (CALL(mount_setattr, AT_FDCWD, path, AT_RECURSIVE | AT_SYMLINK_NOFOLLOW, &slave) == 0 &&
	    CALL(umount2, path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == ENOENT)
		return 0;
	if (errno != EINVAL && errno != EPERM)
		return -1;
	cover = open_empty(plan, NULL);
	if (cover < 0)
		return -1;
	result = CALL(move_mount, cover, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
	if (cover != plan->masked_directory)
		close(cover);
	return result;
}

/* Where pivot_root(2) refuses (an initramfs): the rootfs lies on top of "/", as if it had been
 * moved there, so that who leaves it by chroot(2) comes back to it. Strings:
 * where the host shows the whole of procfs or sysfs. As long as those were in
 * our namespace, whoever makes a user namespace could have them without masks. */
int op_cover_root(struct plan *plan, const struct wire_op *op)
{
	for (uint32_t i = 0; i < op->string_count; i++)
		if (take_away(plan, STRING(i)) < 0)
			return -1;
	note("");
	if (CALL(fchdir, plan->rootfs) < 0 || CALL(chroot, ".") < 0)
		return -1;
	close(plan->rootfs);
	plan->rootfs = -1;
	return 0;
}

/* The path, bound onto itself read-only; made so while nobody sees it yet. */
int op_readonly_path(struct plan *plan, const struct wire_op *op)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	int target = resolve_target(plan, STRING(0), INSIDE_PROC, 0), tree, result;

	if (target < 0)
		return errno == ENOENT ? 0 : -1;
	tree = CALL(open_tree, target, "", CLONE_TREE | AT_EMPTY_PATH | AT_RECURSIVE);
	if (tree < 0)
		return -1;
	result = CALL(mount_setattr, tree, "", AT_EMPTY_PATH, &attr);
	if (result == 0)
		result = CALL(move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close(tree);
	close(target);
	return result;
}

int op_make_directory(struct plan *plan, const struct wire_op *op)
{
	int fd = resolve_target(plan, STRING(0), CREATE_TARGET | INSIDE_PROC, S_IFDIR), result;

	if (fd < 0 || NUMBER(0) == 0755)
		return fd < 0 ? -1 : close(fd);
	close(fd);
	fd = resolve(ROOT(plan), STRING(0), O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return -1;
	result = CALL(fchmod, fd, (mode_t)NUMBER(0));
	close(fd);
	return result;
}
