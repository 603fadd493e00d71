/* Device nodes, the terminal, and the three streams. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <asm/ioctls.h>

#include "ops.h"

#define DEVPTS_MAGIC 0x1cd1

/* Numbers: type and permissions, major, minor, uid, gid. What stands there
 * already must be that device (config-linux.md, Devices). */
int op_make_device(struct plan *plan, const struct wire_op *op)
{
	mode_t mode = (mode_t)NUMBER(0);
	dev_t device = S_ISFIFO(mode) ? 0 : makedev((unsigned)NUMBER(1), (unsigned)NUMBER(2));
	char name[NAME_MAX + 1];
	struct stat info;
	int parent = make_parent(plan, STRING(0), name, sizeof name), node, made;

	if (parent < 0)
		return -1;
	note(STRING(0));
	made = CALL(mknodat, parent, name, mode, device);
	if (made < 0 && errno != EEXIST)
		return -1;
	if (made == 0 && !NUMBER(3) && !NUMBER(4))
		return 0;
	node = CALL(openat, parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (node < 0 || CALL(fstat, node, &info) < 0)
		return -1;
	if ((info.st_mode & S_IFMT) != (mode & S_IFMT) || (!S_ISFIFO(mode) && info.st_rdev != device))
		return fail("mknodat", EEXIST, STRING(0));
	if (made == 0 && (NUMBER(3) || NUMBER(4)) &&
	    CALL(fchownat, node, "", (uid_t)NUMBER(3), (gid_t)NUMBER(4), AT_EMPTY_PATH) < 0)
		return -1;
	return close(node);
}

/* An empty file to mount on, or the very device: what else an image has there
 * is not to be hidden without a word (config-linux.md, Devices). */
static bool may_cover(const struct stat *there, const struct stat *device)
{
	if (S_ISREG(there->st_mode))
		return there->st_size == 0;
	return (there->st_mode & S_IFMT) == (device->st_mode & S_IFMT) && there->st_rdev == device->st_rdev;
}

/* Numbers: slot or NO_SLOT, type, major, minor. What the host has at that path is
 * looked at first: names in /dev are anybody's to give. */
int op_bind_device(struct plan *plan, const struct wire_op *op)
{
	struct stat info, there;
	int tree, target, result;

	note(STRING(0));
	if (NUMBER(0) != NO_SLOT)
		tree = slot(plan, NUMBER(0));
	else
		tree = CALL(open_tree, AT_FDCWD, STRING(0), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return NUMBER(0) != NO_SLOT ? fail("slot", EBADF, STRING(0)) : -1;
	if (CALL(fstat, tree, &info) < 0)
		return -1;
	if ((info.st_mode & S_IFMT) != NUMBER(1) || info.st_rdev != makedev((unsigned)NUMBER(2), (unsigned)NUMBER(3)))
		return fail("fstat", ENODEV, STRING(0));
	target = resolve_target(plan, STRING(0), CREATE_TARGET | KEEP_LINK, S_IFREG);
	if (target < 0 || CALL(fstat, target, &there) < 0)
		return -1;
	if (!may_cover(&there, &info))
		return fail("move_mount", EEXIST, STRING(0));
	result = CALL(move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close(tree);
	close(target);
	return result;
}

/* Number 0: what stands there is replaced (ptmx), or else left as it is. */
int op_make_symlink(struct plan *plan, const struct wire_op *op)
{
	char name[NAME_MAX + 1];
	int parent = make_parent(plan, STRING(0), name, sizeof name), result;

	if (parent < 0)
		return -1;
	note(STRING(0));
	if (NUMBER(0) && CALL(unlinkat, parent, name, 0) < 0 && errno != ENOENT)
		return -1;
	result = CALL(symlinkat, STRING(1), parent, name);
	return result < 0 && errno != EEXIST ? -1 : 0;
}

/* The multiplexer of the container's own devpts: inode 2 of that file system. */
static int open_multiplexer(const struct plan *plan)
{
	struct statfs system;
	struct stat info;
	int fd = open_device(plan, "/dev/pts/ptmx", O_RDWR, 5, 2);

	if (fd < 0)
		return -1;
	if (CALL(fstatfs, fd, &system) < 0 || CALL(fstat, fd, &info) < 0)
		return -1;
	if (system.f_type != DEVPTS_MAGIC || info.st_ino != 2)
		return fail("fstatfs", EPERM, "/dev/pts/ptmx");
	return fd;
}

static int cover_console(const struct plan *plan, int slave)
{
	int tree = CALL(open_tree, slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH), target, result;

	if (tree < 0)
		return -1;
	target = resolve_target(plan, "/dev/console", CREATE_TARGET, S_IFREG);
	if (target < 0)
		return -1;
	result = CALL(move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close(target);
	close(tree);
	return result;
}

/* Numbers: rows, columns, owner, and whether /dev/console shows it. The other
 * end is had by TIOCGPTPEER (ioctl_tty(2)), never by a path below /dev/pts. */
int op_open_terminal(struct plan *plan, const struct wire_op *op)
{
	struct winsize size = {.ws_row = (unsigned short)NUMBER(0), .ws_col = (unsigned short)NUMBER(1)};
	int master = open_multiplexer(plan), slave, unlock = 0;

	if (master < 0 || CALL(ioctl, master, TIOCSPTLCK, &unlock) < 0)
		return -1;
	slave = CALL(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || CALL(fchown, slave, (uid_t)NUMBER(2), (gid_t)-1) < 0)
		return -1;
	if (size.ws_row && size.ws_col && CALL(ioctl, slave, TIOCSWINSZ, &size) < 0)
		return -1;
	if (NUMBER(3) && cover_console(plan, slave) < 0)
		return -1;
	if (CALL(tell, EVENT_TERMINAL, plan, 0, master) < 0)
		return -1;
	for (int fd = 0; fd < 3; fd++)
		if (CALL(dup3, slave, fd, 0) < 0)
			return -1;
	if (CALL(ioctl, 0, TIOCSCTTY, 0) < 0)
		return -1;
	close(master);
	return close(slave);
}

static bool is_null(const struct stat *info)
{
	return S_ISCHR(info->st_mode) && info->st_rdev == makedev(1, 3);
}

/* Reads as empty, and nothing can be written to it. */
static int open_closed_door(void)
{
	int fd = (int)CALL(syscall, SYS_memfd_create, "null", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && CALL(fcntl, fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -1;
	return fd;
}

/* Numbers: owner, and which streams are ours to give away. A stream that is the
 * host's /dev/null becomes the container's, or root in it could chmod the
 * host's; where the container has none, a closed door is better than that one. */
int op_prepare_stdio(struct plan *plan, const struct wire_op *op)
{
	struct stat info;
	int null = -1;

	for (int fd = 0; fd < 3; fd++) {
		if (CALL(fstat, fd, &info) < 0)
			return -1;
		if (is_null(&info)) {
			if (null < 0)
				null = open_device(plan, "/dev/null", O_RDWR, 1, 3);
			if (null < 0 && errno == ENOENT)
				null = open_closed_door();
			if (null < 0 || CALL(dup3, null, fd, 0) < 0)
				return -1;
		} else if (NUMBER(1) >> fd & 1 && CALL(fchown, fd, (uid_t)NUMBER(0), (gid_t)-1) < 0 &&
			   errno != EPERM && errno != EINVAL && errno != EROFS) {
			return -1;
		}
	}
	return null < 0 ? 0 : close(null);
}
