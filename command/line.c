/* Command lines of the plain kind, by the rules of cli/parse.py.
 *
 * The tables have the flags that engines pass and the values that mean nothing
 * out of the ordinary. All else, wrong or right, is for Python. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

#define MAX_ID 200

struct flag {
	const char *name;
	const char *values;     /* the plain ones; NULL is any */
	bool alone;             /* "true" without a value */
	const char *value;      /* the last that was given */
};

/* The text behind a prefix; NULL if it begins otherwise. */
static const char *behind(const char *text, const char *prefix)
{
	size_t size = strlen(prefix);

	return strlen(text) >= size && memcmp(text, prefix, size) == 0 ? text + size : NULL;
}

const char *variable(char **environment, const char *name)
{
	for (; *environment; environment++) {
		const char *rest = behind(*environment, name);
		if (rest && *rest == '=')
			return rest + 1;
	}
	return "";
}

static bool is_among(const char *words, const char *wanted)
{
	for (size_t size; *words; words += size + (words[size] == ' ')) {
		size = strcspn(words, " ");
		if (strlen(wanted) == size && memcmp(words, wanted, size) == 0)
			return true;
	}
	return false;
}

static struct flag *find(struct flag *flags, const char *name, size_t size)
{
	for (; flags->name; flags++)
		if (strlen(flags->name) == size && memcmp(flags->name, name, size) == 0)
			return flags;
	return NULL;
}

/* Take flags up to the first word that is none; NULL if one is not plain. */
static char **take_flags(struct flag *flags, char **words)
{
	for (; *words && **words == '-'; words++) {
		const char *name = *words + ((*words)[1] == '-' ? 2 : 1);
		size_t size = strcspn(name, "=");
		struct flag *flag = find(flags, name, size);

		if (!flag)
			return NULL;
		if (name[size] == '=')
			flag->value = name + size + 1;
		else if (flag->alone)
			flag->value = "true";
		else if (!*++words)
			return NULL;
		else
			flag->value = *words;
		if (flag->values && !is_among(flag->values, flag->value))
			return NULL;
	}
	return words;
}

static bool is_on(const struct flag *flag) { return flag->value && strcmp(flag->value, "true") == 0; }

/* A directory whose absolute path cannot come to "/", which cli/__init__.py refuses. */
static bool is_plain_path(const char *path)
{
	bool leads_on = false;

	if (*path != '/')
		return false;
	for (size_t size; *path; path += size) {
		path += strspn(path, "/");
		size = strcspn(path, "/");
		if (size == 2 && memcmp(path, "..", 2) == 0)
			return false;
		leads_on |= size > 1 || (size == 1 && *path != '.');
	}
	return leads_on;
}

/* Another one than the first, which has all IDs (user_namespaces(7)); -1 where that cannot be told. */
static int in_user_namespace(void)
{
	static const char first[] = "         0          0 4294967295\n";
	char map[128];
	int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, map, sizeof map);

	if (fd >= 0)
		close(fd);
	if (size < 0)
		return -1;
	return (size_t)size != sizeof first - 1 || memcmp(map, first, sizeof first - 1) != 0;
}

/* default_root of state.py; NULL for who has nothing but /tmp. */
static const char *default_root(char **environment)
{
	static char path[PATH_MAX];
	const char *runtime = variable(environment, "XDG_RUNTIME_DIR");
	int below = 1;

	if (geteuid() == 0)
		below = *runtime && strcmp(variable(environment, "USER"), "root") != 0 ? in_user_namespace() : 0;
	if (below == 0)
		return "/run/ocirt";
	if (below < 0 || !*runtime || snprintf(path, sizeof path, "%s/ocirt", runtime) >= (int)sizeof path)
		return NULL;
	return path;
}

/* The file is there from the beginning, as with Log of cli/log.py. */
static bool has_log(const char *path)
{
	struct stat info;

	if (!path || !*path)
		return true;
	if (stat(path, &info) == 0 && S_ISFIFO(info.st_mode))   /* whose reader would see the end of it */
		return true;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* ID of state.py */
bool is_id(const char *name)
{
	size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.");

	return size > 0 && size <= MAX_ID && !name[size] && *name != '.';
}

/* Flags, the id, and what else the command has. */
static enum command of_container(struct call *call, enum command command, char **words)
{
	struct flag none[] = {{0}};
	struct flag forcing[] = {{"force", "true false", true, NULL}, {"f", "true false", true, NULL}, {0}};
	struct flag *flags = command == DELETE ? forcing : none;

	words = take_flags(flags, words);
	if (!words || !*words || !is_id(*words))
		return NONE;
	call->id = *words++;
	call->signal = "TERM";
	if (command == KILL && *words)
		call->signal = *words++;
	else if (command != KILL)
		words = take_flags(flags, words);
	if (flags[0].value && flags[1].value)   /* which of them came last? */
		return NONE;
	call->force = is_on(&flags[0]) || (command == DELETE && is_on(&flags[1]));
	return words && !*words ? command : NONE;
}

static enum command of_all(struct call *call, char **words)
{
	struct flag flags[] = {
		{"format", "table json", false, NULL}, {"f", "table json", false, NULL},
		{"quiet", "true false", true, NULL}, {"q", "true false", true, NULL}, {0},
	};

	words = take_flags(flags, words);
	if (!words || *words || (flags[0].value && flags[1].value) || (flags[2].value && flags[3].value))
		return NONE;
	const char *format = flags[0].value ? flags[0].value : flags[1].value;
	call->json = format && strcmp(format, "json") == 0;
	call->quiet = is_on(&flags[2]) || is_on(&flags[3]);
	return LIST;
}

/* What is asked for, if that is plain. */
enum command plain(struct call *call, char **words, char **environment)
{
	struct flag flags[] = {
		{"root", NULL, false, NULL},
		{"log", NULL, false, NULL},
		{"criu", NULL, false, NULL},
		{"log-format", "text json", false, NULL},
		{"log-level", "error warning info", false, NULL},
		{"cgroup-manager", "cgroupfs systemd disabled", false, NULL},
		{"systemd-cgroup", "true false", true, NULL},
		{"ignore-v1-limits", "true false", true, NULL},
		{"rootless", "true false auto", false, NULL},
		{"debug", "false", true, NULL},
		{0},
	};
	enum command command = NONE;

	words = take_flags(flags, words);
	if (!words || !*words)
		return NONE;
	call->root = flags[0].value ? flags[0].value : default_root(environment);
	if (!call->root || !is_plain_path(call->root))
		return NONE;
	if (strcmp(*words, "list") == 0)
		command = of_all(call, words + 1);
	else if (strcmp(*words, "state") == 0)
		command = of_container(call, STATE, words + 1);
	else if (strcmp(*words, "kill") == 0)
		command = of_container(call, KILL, words + 1);
	else if (strcmp(*words, "start") == 0)
		command = of_container(call, START, words + 1);
	else if (strcmp(*words, "delete") == 0)
		command = of_container(call, DELETE, words + 1);
	return command != NONE && has_log(flags[1].value) ? command : NONE;
}
