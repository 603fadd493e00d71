/* tmpcopyup: what the image has in a directory becomes the first content of the
 * tmpfs that covers it.
 *
 * The image is hostile, and may change while we copy: nothing of it is opened
 * that was not looked at before, no link is followed, and what we work on is
 * bounded: depth, number of entries, memory. How much data there may be is for
 * the tmpfs's own size to say. The copy is ours alone until it is mounted. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "ops.h"

#define DEPTH_MAX 128           /* two descriptors each, of the 1024 that we can count on */
#define ENTRIES_MAX (1u << 20)
#define XATTR_MAX (1u << 16)    /* xattr(7): the kernel's own limits of a list and of a value */
#define BUCKETS (1u << 14)
#define LINKS_SIZE (1u << 25)   /* reserved, not used up */

/* As SYSTEM, of results that are sizes. */
#define SYSTEM_LONG(name, ...) (failed_call = #name, syscall(SYS_##name, __VA_ARGS__))

struct known {
	uint64_t device, inode;
	uint32_t next;                  /* its offset among the links, or 0 */
	char path[];                    /* of the copy */
};

struct copy {
	int top;                        /* of the copy */
	uint32_t entries;
	size_t length;
	char path[PATH_MAX];            /* of the entry at work, below the top */
	uint32_t *links;                /* buckets, then struct known */
	uint32_t used;
};

static struct copy copy;
static char names[XATTR_MAX], value[XATTR_MAX];

static uint32_t *bucket(const struct stat *info)
{
	return &copy.links[(info->st_ino * 2654435761u ^ info->st_dev) % BUCKETS];
}

/* Where the first name of this file went, or NULL. */
static const char *known_copy(const struct stat *info)
{
	const struct known *known;

	if (!copy.links)
		return NULL;
	for (uint32_t at = *bucket(info); at; at = known->next) {
		known = (const void *)((const char *)copy.links + at);
		if (known->inode == info->st_ino && known->device == info->st_dev)
			return known->path;
	}
	return NULL;
}

static int remember(const struct stat *info)
{
	size_t size = (sizeof(struct known) + copy.length + 1 + 7) & ~(size_t)7;
	struct known *known;

	if (!copy.links) {
		copy.links = mmap(NULL, LINKS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (copy.links == MAP_FAILED) {
			copy.links = NULL;
			return fail("mmap", ENOMEM, "");
		}
		copy.used = BUCKETS * sizeof *copy.links;
	}
	if (size > LINKS_SIZE - copy.used)
		return fail("linkat", E2BIG, "");
	known = (void *)((char *)copy.links + copy.used);
	known->device = info->st_dev;
	known->inode = info->st_ino;
	known->next = *bucket(info);
	memcpy(known->path, copy.path, copy.length + 1);
	*bucket(info) = copy.used;
	copy.used += (uint32_t)size;
	return 0;
}

/* The label of SELinux is not the file's own: linux.mountLabel gives the tmpfs's. */
static int copy_xattrs(int from, int to)
{
	ssize_t size = SYSTEM_LONG(flistxattr, from, names, sizeof names), length;

	if (size < 0)
		return errno == ENOTSUP ? 0 : -1;
	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		if (strcmp(name, "security.selinux") == 0)
			continue;
		length = SYSTEM_LONG(fgetxattr, from, name, value, sizeof value);
		if (length < 0 && errno == ENODATA)
			continue;
		if (length < 0 || SYSTEM_LONG(fsetxattr, to, name, value, (size_t)length, 0) < 0)
			return -1;
	}
	return 0;
}

static int set_times(int directory, const char *name, const struct stat *info)
{
	struct timespec times[2] = {info->st_atim, info->st_mtim};

	return (int)SYSTEM_LONG(utimensat, directory, name, times, name ? AT_SYMLINK_NOFOLLOW : 0);
}

/* In this order: a change of owner takes set-user-ID and file capabilities away. */
static int copy_attributes(int from, int to, const struct stat *info)
{
	if (CALL(fchown, to, info->st_uid, info->st_gid) < 0 || CALL(fchmod, to, info->st_mode & 07777) < 0)
		return -1;
	return copy_xattrs(from, to) < 0 ? -1 : set_times(to, NULL, info);
}

/* Holes stay holes: a file may be larger than memory, and hold nothing. */
static int copy_data(int from, int to, off_t size)
{
	off_t at = 0, end;
	ssize_t sent;

	while (at < size) {
		at = CALL(lseek, from, at, SEEK_DATA);
		if (at < 0 && errno != ENXIO)
			return -1;
		if (at < 0)
			break;
		end = CALL(lseek, from, at, SEEK_HOLE);
		if (end < 0 || CALL(lseek, from, at, SEEK_SET) < 0 || CALL(lseek, to, at, SEEK_SET) < 0)
			return -1;
		for (end = end < size ? end : size; at < end; at += sent) {
			sent = SYSTEM_LONG(sendfile, to, from, NULL, (size_t)(end - at));
			if (sent < 0)
				return -1;
			if (sent == 0)
				return (int)SYSTEM_LONG(ftruncate, to, at);
		}
	}
	return (int)SYSTEM_LONG(ftruncate, to, size);
}

/* What was looked at, opened; a FIFO put in its place must not hold us up. */
static int open_seen(int directory, const char *name, int flags, const struct stat *seen)
{
	struct stat info;
	int fd = CALL(openat, directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);

	if (fd < 0 || CALL(fstat, fd, &info) < 0)
		return -1;
	if (info.st_ino == seen->st_ino && info.st_dev == seen->st_dev && (info.st_mode & S_IFMT) == (seen->st_mode & S_IFMT))
		return fd;
	close(fd);
	return fail("openat", EAGAIN, name);
}

static int copy_file(int from, int to, const char *name, const struct stat *info)
{
	int source = open_seen(from, name, 0, info), made, result;

	if (source < 0)
		return -1;
	made = CALL(openat, to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (made < 0)
		return -1;
	result = copy_data(source, made, info->st_size);
	if (result == 0)
		result = copy_attributes(source, made, info);
	close(source);
	close(made);
	return result;
}

static int copy_symlink(int look, int to, const char *name)
{
	char link[PATH_MAX];
	ssize_t size = CALL(readlinkat, look, "", link, sizeof link - 1);

	if (size < 0)
		return -1;
	link[size] = 0;
	return CALL(symlinkat, link, to, name);
}

/* Symlinks, FIFOs, sockets, devices: what is made by name, and never opened. */
static int copy_node(int look, int to, const char *name, const struct stat *info)
{
	int made = S_ISLNK(info->st_mode) ? copy_symlink(look, to, name) :
		CALL(mknodat, to, name, info->st_mode, info->st_rdev);

	if (made < 0 || CALL(fchownat, to, name, info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	return set_times(to, name, info);
}

static int copy_tree(int from, int to, int depth);

static int copy_directory(int from, int to, const char *name, const struct stat *info, int depth)
{
	int source, made, result;

	if (depth >= DEPTH_MAX)
		return fail("mkdirat", ELOOP, name);
	source = open_seen(from, name, O_DIRECTORY, info);
	if (source < 0 || CALL(mkdirat, to, name, 0700) < 0)
		return -1;
	made = CALL(openat, to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (made < 0)
		return -1;
	result = copy_tree(source, made, depth + 1);
	if (result == 0)
		result = copy_attributes(source, made, info);
	close(source);
	close(made);
	return result;
}

static int copy_entry(int from, int to, const char *name, int depth)
{
	const char *first;
	struct stat info;
	int look, result;

	if (++copy.entries > ENTRIES_MAX)
		return fail("getdents64", E2BIG, name);
	look = CALL(openat, from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (look < 0)
		return errno == ENOENT ? 0 : -1;
	if (CALL(fstat, look, &info) < 0)
		return -1;
	first = S_ISDIR(info.st_mode) || info.st_nlink < 2 ? NULL : known_copy(&info);
	if (first)
		result = (int)SYSTEM_LONG(linkat, copy.top, first, to, name, 0);
	else if (S_ISDIR(info.st_mode))
		result = copy_directory(from, to, name, &info, depth);
	else if (S_ISREG(info.st_mode))
		result = copy_file(from, to, name, &info);
	else
		result = copy_node(look, to, name, &info);
	close(look);
	if (result == 0 && !first && !S_ISDIR(info.st_mode) && info.st_nlink > 1)
		result = remember(&info);
	return result;
}

struct entry {
	uint64_t inode;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* copy.path is left as it is where something fails: it says where. */
static int copy_tree(int from, int to, int depth)
{
	_Alignas(struct entry) char buffer[2048];
	size_t length = copy.length;
	long size;

	while ((size = SYSTEM_LONG(getdents64, from, buffer, sizeof buffer)) > 0)
		for (long at = 0; at < size; at += ((const struct entry *)(buffer + at))->size) {
			const char *name = ((const struct entry *)(buffer + at))->name;
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
				continue;
			if (length + strlen(name) + 2 > sizeof copy.path)
				return fail("openat", ENAMETOOLONG, name);
			copy.length = length + (size_t)snprintf(copy.path + length, sizeof copy.path - length, "%s%s",
								length ? "/" : "", name);
			if (copy_entry(from, to, name, depth) < 0)
				return -1;
		}
	copy.length = length;
	copy.path[length] = 0;
	return size < 0 ? -1 : 0;
}

static int copy_top(int from, int to, bool owner)
{
	struct stat info;

	if (CALL(fstat, from, &info) < 0 || copy_tree(from, to, 0) < 0)
		return -1;
	if (owner && CALL(fchown, to, info.st_uid, info.st_gid) < 0)
		return -1;
	return copy_xattrs(from, to) < 0 ? -1 : set_times(to, NULL, &info);
}

/* What the image's mount forbids, its copy does not allow: devices, set-user-ID
 * programs, programs. statfs(2) has the numbers of mount_setattr(2) for these. */
static int keep_forbidden(int from, int mount)
{
	struct mount_attr attr = {0};
	struct statfs info;

	if (CALL(fstatfs, from, &info) < 0)
		return -1;
	attr.attr_set = (uint64_t)info.f_flags & (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return attr.attr_set ? CALL(mount_setattr, mount, "", AT_EMPTY_PATH, &attr) : 0;
}

/* From the directory `covered` to the detached tmpfs `mount`. */
int copy_up(int covered, int mount, bool owner, const char *target)
{
	int from = CALL(openat, covered, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = -1;

	copy = (struct copy){.top = -1};
	if (from >= 0)
		copy.top = CALL(openat, mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy.top >= 0 && keep_forbidden(from, mount) == 0)
		result = copy_top(from, copy.top, owner);
	if (result < 0)
		snprintf(failed_detail, sizeof failed_detail, "tmpcopyup: %.*s%s%.*s", 400, target, copy.length ? "/" : "",
			 400, copy.path);
	if (copy.links)
		syscall(SYS_munmap, copy.links, LINKS_SIZE);
	if (from >= 0)
		close(from);
	if (copy.top >= 0)
		close(copy.top);
	return result;
}
