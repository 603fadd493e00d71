/* What the kernel alone needs for a container's life: the system calls that runc's default config.json comes to, made
 * by a program that has nothing to read, decide, remember or explain. No runtime does the same work in less time.
 *
 *     cc -O2 -static -o floor floor.c
 *     echo | ./floor ROOTFS [NAME=DIRECTORY ...]
 *
 * Lives one life of /bin/true, from the first system call to the last, for each byte that it reads, and answers with
 * its milliseconds. Each DIRECTORY is the cgroup to make the container's below, in the hierarchy that the container
 * sees as /sys/fs/cgroup/NAME; without any there are no cgroups and no mount of them.
 *
 * Read from the bottom: main, live, and contain, which is the order of things in the container.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MUST(call) \
	do { \
		if ((call) < 0) \
			give_up(#call); \
	} while (0)

enum { MOST_CGROUPS = 32, PATH_SIZE = 4096 };

static const unsigned long hardened = MS_NOSUID | MS_NODEV | MS_NOEXEC;
/* CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE */
static const unsigned int kept = 1U << 5 | 1U << 10 | 1U << 29;

static struct {
	const char *name, *parent;
	char path[PATH_SIZE];
} cgroups[MOST_CGROUPS];
static size_t cgroup_count;

static void remove_cgroups(void)
{
	for (size_t i = cgroup_count; i-- > 0;)
		rmdir(cgroups[i].path);
}

/* In the container too this is the right end: its own cgroups are busy until its parent, who gives up next, is asked. */
static void give_up(const char *call)
{
	dprintf(STDERR_FILENO, "floor: %s: %s\n", call, strerror(errno));
	remove_cgroups();
	_exit(1);
}

static void put(const char *directory, const char *file, const char *text)
{
	char path[PATH_SIZE + 32];
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, file);
	MUST(fd = open(path, O_WRONLY | O_CLOEXEC));
	MUST(write(fd, text, strlen(text)));
	close(fd);
}

/* A new cpuset is empty, and nobody may join it before it has what its parent has (cpuset(7)). */
static void inherit(size_t index, const char *file)
{
	char path[PATH_SIZE + 32], value[256];
	ssize_t size;
	int fd;

	snprintf(path, sizeof path, "%s/%s", cgroups[index].parent, file);
	MUST(fd = open(path, O_RDONLY | O_CLOEXEC));
	MUST(size = read(fd, value, sizeof value - 1));
	value[size] = 0;
	close(fd);
	put(cgroups[index].path, file, value);
}

/* The default devices (config-linux.md), and what runc allows besides. */
static void restrict_devices(const char *directory)
{
	static const char *const allowed[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",   "c 1:7 rwm",   "c 1:8 rwm",
					      "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"};
	char path[PATH_SIZE + 32];
	int fd;

	put(directory, "devices.deny", "a");
	snprintf(path, sizeof path, "%s/devices.allow", directory);
	MUST(fd = open(path, O_WRONLY | O_CLOEXEC));
	for (size_t i = 0; i < COUNT(allowed); i++)
		MUST(write(fd, allowed[i], strlen(allowed[i])));
	close(fd);
}

static void make_cgroups(void)
{
	for (size_t i = 0; i < cgroup_count; i++) {
		MUST(mkdir(cgroups[i].path, 0755));
		if (strstr(cgroups[i].name, "cpuset")) {
			inherit(i, "cpuset.cpus");
			inherit(i, "cpuset.mems");
		}
		if (strcmp(cgroups[i].name, "devices") == 0)
			restrict_devices(cgroups[i].path);
	}
}

static void join_cgroups(pid_t pid)
{
	char text[16];

	snprintf(text, sizeof text, "%d", pid);
	for (size_t i = 0; i < cgroup_count; i++)
		put(cgroups[i].path, "cgroup.procs", text);
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	MUST(fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	MUST(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

/* mounts[6] of the default: the container's own cgroup of every hierarchy, each read-only, below a read-only tmpfs. */
static void mount_cgroups(void)
{
	char target[PATH_SIZE];

	if (cgroup_count == 0)
		return;
	MUST(mount("cgroup", "sys/fs/cgroup", "tmpfs", hardened, "mode=755"));
	for (size_t i = 0; i < cgroup_count; i++) {
		snprintf(target, sizeof target, "sys/fs/cgroup/%s", cgroups[i].name);
		MUST(mkdir(target, 0755));
		MUST(mount(cgroups[i].path, target, NULL, MS_BIND, NULL));
		MUST(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_RELATIME | hardened, NULL));
	}
	MUST(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | hardened, NULL));
}

static void mount_filesystems(const char *rootfs)
{
	MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	MUST(chdir(rootfs));
	MUST(mount("proc", "proc", "proc", 0, NULL));
	MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	MUST(mkdir("dev/pts", 0755));
	MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	MUST(mkdir("dev/shm", 0755));
	MUST(mount("shm", "dev/shm", "tmpfs", hardened, "mode=1777,size=65536k"));
	MUST(mkdir("dev/mqueue", 0755));
	MUST(mount("mqueue", "dev/mqueue", "mqueue", hardened, NULL));
	MUST(mount("sysfs", "sys", "sysfs", hardened | MS_RDONLY, NULL));
	mount_cgroups();
}

static void make_devices(void)
{
	static const struct {
		const char *path;
		unsigned int major, minor;
	} devices[] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
		       {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
	static const char *const links[][2] = {
		{"/proc/self/fd", "dev/fd"},         {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"},      {"pts/ptmx", "dev/ptmx"}};

	umask(0);
	for (size_t i = 0; i < COUNT(devices); i++)
		MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	for (size_t i = 0; i < COUNT(links); i++)
		MUST(symlink(links[i][0], links[i][1]));
	umask(0022);
}

/* linux.readonlyPaths and linux.maskedPaths; no kernel has all of them. */
static void cover_paths(void)
{
	static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
	static const char *const masked[] = {
		"proc/acpi",       "proc/asound",      "proc/kcore",       "proc/keys",    "proc/latency_stats",
		"proc/timer_list", "proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi"};
	struct stat info;

	for (size_t i = 0; i < COUNT(readonly); i++)
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			MUST(mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | hardened, NULL));
	for (size_t i = 0; i < COUNT(masked); i++) {
		if (stat(masked[i], &info) < 0)
			continue;
		if (S_ISDIR(info.st_mode))
			MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY | hardened, "nr_blocks=1,nr_inodes=2"));
		else
			MUST(mount("/dev/null", masked[i], NULL, MS_BIND, NULL));
	}
}

static void drop_privileges(void)
{
	struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{.effective = kept, .permitted = kept}};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	for (unsigned long capability = 0; capability < 64; capability++)
		if (!((unsigned long)kept >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			break;
	MUST(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	MUST(setgroups(0, NULL));
	MUST(setresgid(0, 0, 0));
	MUST(setresuid(0, 0, 0));
	MUST(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0));
	MUST(syscall(SYS_capset, &head, data));
}

static void contain(const char *rootfs)
{
	char *arguments[] = {"/bin/true", NULL};
	char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};

	MUST(setsid());
	raise_loopback();
	MUST(sethostname("runc", 4));
	mount_filesystems(rootfs);
	make_devices();
	cover_paths();
	MUST(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	drop_privileges();
	MUST(execve(arguments[0], arguments, environment));
}

static double milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The container is told to go on by the end of a pipe, once it is in its cgroups. */
static double live(const char *rootfs)
{
	struct clone_args wanted = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
				    .exit_signal = SIGCHLD};
	double began = milliseconds();
	int go[2], status;
	pid_t pid;
	char byte;

	make_cgroups();
	MUST(pipe2(go, O_CLOEXEC));
	MUST(pid = (pid_t)syscall(SYS_clone3, &wanted, sizeof wanted));
	if (pid == 0) {
		close(go[1]);
		MUST(read(go[0], &byte, 1));
		contain(rootfs);
	}
	join_cgroups(pid);
	close(go[0]);
	close(go[1]);
	MUST(waitpid(pid, &status, 0));
	for (size_t i = 0; i < cgroup_count; i++)
		MUST(rmdir(cgroups[i].path));
	if (status != 0)
		exit(1);
	return milliseconds() - began;
}

int main(int count, char **arguments)
{
	char byte;

	if (count < 2 || count - 2 > MOST_CGROUPS) {
		dprintf(STDERR_FILENO, "usage: floor ROOTFS [NAME=DIRECTORY ...]\n");
		return 2;
	}
	for (int i = 2; i < count; i++, cgroup_count++) {
		cgroups[cgroup_count].name = strsep(&arguments[i], "=");
		cgroups[cgroup_count].parent = arguments[i] ? arguments[i] : "";
		snprintf(cgroups[cgroup_count].path, PATH_SIZE, "%s/floor-%d", cgroups[cgroup_count].parent, getpid());
	}
	while (read(STDIN_FILENO, &byte, 1) == 1)
		dprintf(STDOUT_FILENO, "%.4f\n", live(arguments[1]));
	return 0;
}
