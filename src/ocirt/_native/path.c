/* From a path in the container to an open file, never leaving the rootfs.
 *
 * Whoever made the image may have put symlinks, FIFOs and devices anywhere, and
 * a process that shares a volume may exchange directories while we look. So a
 * path is resolved once, by the kernel, beneath the rootfs (openat2(2),
 * RESOLVE_IN_ROOT), and from then on only its descriptor is used. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

#include "ops.h"

#define PROC_MAGIC 0x9fa0
#define PROC_ROOT 1             /* its inode number */
#define LINKS_MAX 40            /* as the kernel's own limit, path_resolution(7) */

/* EAGAIN: a rename or mount elsewhere raced with the walk, and the kernel could
 * not tell whether ".." stayed inside. It asks to try again; so we do, for a
 * while that no honest load reaches. */
int resolve(int root, const char *path, uint64_t flags, uint64_t extra)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | extra};
	int fd;

	failed_call = "openat2";
	for (int tries = 0; tries < 20000; tries++) {
		fd = openat2(root, path, &how);
		if (fd >= 0 || errno != EAGAIN)
			return fd;
		if (tries > 100)
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	return fd;
}

static int make_node(int parent, const char *name, mode_t type)
{
	int fd;

	if (S_ISDIR(type))
		return CALL(mkdirat, parent, name, 0755) < 0 && errno != EEXIST ? -1 : 0;
	fd = CALL(openat, parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -1;
	return close(fd);
}

/* `left` is the walked part, `name` a symlink in it that leads nowhere yet,
 * `right` what follows: what would the kernel look up instead? */
static int follow(int parent, char *path, size_t left, size_t name_size, const char *right)
{
	char link[PATH_MAX], name[NAME_MAX + 1], rest[PATH_MAX], prefix[PATH_MAX];
	ssize_t size;

	memcpy(name, path + left, name_size);
	name[name_size] = 0;
	size = readlinkat(parent, name, link, sizeof link - 1);
	if (size < 0)
		return 0;
	link[size] = 0;
	snprintf(rest, sizeof rest, "%s", right);
	snprintf(prefix, sizeof prefix, "%.*s", link[0] == '/' ? 0 : (int)left, path);
	if (snprintf(path, PATH_MAX, "%s%s%s", prefix, link, rest) >= PATH_MAX)
		return fail("readlink", ENAMETOOLONG, link);
	return 1;
}

/* Make what is missing of a path, directory by directory, each below the open
 * directory before it. The last part becomes a file of `type`. */
static int make_path(int root, const char *wanted, mode_t type)
{
	char path[PATH_MAX], name[NAME_MAX + 1], prefix[PATH_MAX + 1];
	size_t at = 0, end;
	int parent, next, links = 0;

	if (snprintf(path, sizeof path, "%s", wanted) >= (int)sizeof path)
		return fail("openat2", ENAMETOOLONG, wanted);
	for (;;) {
		while (path[at] == '/')
			at++;
		if (!path[at])
			return 0;
		end = at + strcspn(path + at, "/");
		if (end - at > NAME_MAX)
			return fail("openat2", ENAMETOOLONG, wanted);
		snprintf(prefix, sizeof prefix, "/%.*s", (int)end, path);
		next = resolve(root, prefix, O_PATH, 0);
		if (next >= 0) {
			close(next);
			at = end;
			continue;
		}
		if (errno != ENOENT)
			return -1;
		snprintf(prefix, sizeof prefix, "/%.*s", (int)at, path);
		parent = resolve(root, prefix, O_PATH | O_DIRECTORY, 0);
		if (parent < 0)
			return -1;
		next = follow(parent, path, at, end - at, path + end);
		if (next == 0) {
			snprintf(name, sizeof name, "%.*s", (int)(end - at), path + at);
			next = make_node(parent, name, path[end + strspn(path + end, "/")] ? S_IFDIR : type);
			at = end;
		} else if (next > 0) {
			at = 0;
			if (++links > LINKS_MAX)
				next = fail("openat2", ELOOP, wanted);
		}
		close(parent);
		if (next < 0)
			return -1;
	}
}

/* The directory that is to hold `path`, made where missing; its last part goes
 * to `last`. For what is created by name: mknodat, symlinkat. It stays open for
 * the next operation: most of them fill /dev. */
int make_parent(struct plan *plan, const char *path, char *last, size_t size)
{
	char parent[PATH_MAX];
	size_t end = strlen(path), start;
	int fd;

	while (end > 0 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (end == start || end - start >= size || start >= sizeof parent)
		return fail("openat2", EINVAL, path);
	memcpy(last, path + start, end - start);
	last[end - start] = 0;
	if (strcmp(last, "..") == 0 || strcmp(last, ".") == 0)
		return fail("openat2", EINVAL, path);
	snprintf(parent, sizeof parent, "/%.*s", (int)start, path);
	note(path);
	if (plan->parent >= 0 && strcmp(plan->parent_path, parent) == 0)
		return plan->parent;
	forget_parent(plan);
	fd = resolve(ROOT(plan), parent, O_PATH | O_DIRECTORY, 0);
	if (fd < 0 && errno == ENOENT && make_path(ROOT(plan), parent, S_IFDIR) == 0)
		fd = resolve(ROOT(plan), parent, O_PATH | O_DIRECTORY, 0);
	plan->parent = fd;
	memcpy(plan->parent_path, parent, strlen(parent) + 1);
	return fd;
}

/* What comes between may mount something there. */
void forget_parent(struct plan *plan)
{
	if (plan->parent >= 0)
		close(plan->parent);
	plan->parent = -1;
}

bool is_procfs_root(int fd)
{
	struct statfs system;
	struct stat info;

	return fstat(fd, &info) == 0 && info.st_ino == PROC_ROOT && fstatfs(fd, &system) == 0 &&
		system.f_type == PROC_MAGIC;
}

/* Is this open directory the container's /proc? */
static bool is_proc_directory(int root, int fd)
{
	struct stat proc, info;
	int there = resolve(root, "/proc", O_PATH, 0);
	bool same = there >= 0 && fstat(there, &proc) == 0 && fstat(fd, &info) == 0 && proc.st_dev == info.st_dev &&
		proc.st_ino == info.st_ino;

	if (there >= 0)
		close(there);
	return same;
}

/* Nothing may cover a part of a procfs, nor anything but a procfs its place, or
 * the kernel's own view of a process could be replaced (CVE-2019-16884,
 * CVE-2025-52881). Asked of the open target, since names can lie. */
static int check_proc(int root, int fd, uint64_t tolerance, const char *path)
{
	struct statfs info;

	if (tolerance & INSIDE_PROC)
		return fd;
	if (CALL(fstatfs, fd, &info) == 0 && info.f_type != PROC_MAGIC &&
	    (tolerance & IS_PROCFS || !is_proc_directory(root, fd)))
		return fd;
	close(fd);
	snprintf(failed_detail, sizeof failed_detail, "%.900s: cannot be mounted because it is inside /proc", path);
	errno = EPERM;
	return -1;
}

/* A mount point: the directory or file at `path`, made if missing and allowed.
 * -1 with errno ENOENT where it is absent and nobody asked to make it. */
int resolve_target(const struct plan *plan, const char *path, uint64_t tolerance, mode_t type)
{
	uint64_t extra = tolerance & ORDINARY_DIRECTORY ? RESOLVE_NO_SYMLINKS : 0;
	uint64_t flags = O_PATH | (tolerance & KEEP_LINK ? O_NOFOLLOW : 0);
	int fd;

	note(path);
	fd = resolve(ROOT(plan), path, flags, extra);
	if (fd < 0 && errno == ENOENT && tolerance & CREATE_TARGET) {
		if (make_path(ROOT(plan), path, type) < 0)
			return -1;
		fd = resolve(ROOT(plan), path, flags, extra);
	}
	if (fd < 0)
		return -1;
	if (tolerance & ORDINARY_DIRECTORY) {
		struct stat info;
		if (CALL(fstat, fd, &info) < 0 || !S_ISDIR(info.st_mode)) {
			close(fd);
			return fail("fstat", ENOTDIR, path);
		}
	}
	return check_proc(ROOT(plan), fd, tolerance, path);
}

/* A character device of the container's, opened only if it is the one we mean:
 * looked at before (an O_PATH open has no effect on a device) and after (it may
 * have been exchanged in between). CVE-2025-52565, CVE-2026-88265. */
int open_device(const struct plan *plan, const char *path, int flags, unsigned major, unsigned minor)
{
	struct stat info;
	int fd = -1;

	note(path);
	for (int look = 0; look < 2; look++) {
		if (fd >= 0)
			close(fd);
		fd = resolve(ROOT(plan), path, look ? (uint64_t)(unsigned)flags | O_NONBLOCK | O_NOCTTY : O_PATH,
			     RESOLVE_NO_SYMLINKS);
		if (fd < 0)
			return -1;
		if (CALL(fstat, fd, &info) < 0 || !S_ISCHR(info.st_mode) || info.st_rdev != makedev(major, minor)) {
			close(fd);
			return fail("fstat", EPERM, path);
		}
	}
	if (fcntl(fd, F_SETFL, flags & O_ACCMODE) < 0)
		return -1;
	return fd;
}
