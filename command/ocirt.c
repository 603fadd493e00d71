/* The command ocirt: answers what is plain, and starts Python for all else.
 *
 * To start Python takes longer than the whole of what state, list, kill, start
 * and delete most often come to. So these are done here, where nothing but what
 * is certain from the record and the kernel is needed. Whatever is unusual, an
 * unknown flag, --help, no such container, the wrong status, a record that
 * looks otherwise, hooks, an error of any system call, is left to Python, which
 * does it from the beginning and has all the words. There is no text of an
 * error here, no check of anything that a user could get wrong, and no policy:
 * what of a configuration matters, Python has found out at create (Record.plain).
 *
 * Read line.c (what was asked), record.c and status.c (what is known), then show.c
 * and act.c (the commands).
 *
 * Python is started so that nobody but its installer has a say in what runs. A
 * script cannot do that: pip writes its first line with the interpreter alone, and
 * without -I that reads PYTHONPATH, the user's own site directory and sitecustomize
 * before us. To start it twice would double the time of every command. So this
 * program takes the interpreter from the first line of ocirt-python beside it,
 * which pip has written there, and runs that script with -I and -S (python(1)). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define SUFFIX "-python"
#define CALLED "called=" /* options of python's -X that are for us alone */
#define BEGUN "begun="
#define NO_COMMAND 127 /* sh(1): there is no such program */

static int fail(const char *path, const char *what)
{
	dprintf(2, "ocirt: %s: %s: %s\n", path, what, strerror(errno));
	return NO_COMMAND;
}

/* The path after "#!" in the first line, or NULL. Longer than the kernel's own limit (execve(2)) it may be. */
static char *interpreter(const char *script, char *line, size_t size)
{
	int fd = open(script, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	ssize_t length = read(fd, line, size - 1);
	close(fd);
	if (length < 0)
		return NULL;
	line[length] = '\0';
	size_t end = strcspn(line, "\n");
	errno = ENOEXEC;
	if (line[end] != '\n' || end < 4 || memcmp(line, "#!/", 3) != 0)
		return NULL;
	line[end] = '\0';
	return line + 2;
}

/* The standard streams are open, or what is opened first would get their numbers. */
static bool has_streams(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			return false;
	return true;
}

static bool answered(char **words, char **environment, int *begun)
{
	struct call call = {0};

	if (!has_streams())
		return false;
	switch (plain(&call, words, environment)) {
	case STATE:
		return show_state(&call);
	case LIST:
		return show_list(&call);
	case KILL:
		return kill_init(&call);
	case START:
		return !*variable(environment, "NOTIFY_SOCKET") && start_init(&call, begun);
	case DELETE:
		return delete_container(&call);
	case NONE:
		break;
	}
	return false;
}

/* begun: a connection to init, which has been told to start; or -1. */
static int start_python(int argc, char *argv[], char *envp[], int begun)
{
	static char script[PATH_MAX + sizeof SUFFIX], line[PATH_MAX + 4], called[PATH_MAX + sizeof CALLED] = CALLED;
	char option[] = "-X", connection[24];
	ssize_t length = readlinkat(AT_FDCWD, "/proc/self/exe", script, PATH_MAX);
	if (length < 0)
		return fail("/proc/self/exe", "cannot be read");
	memcpy(script + length, SUFFIX, sizeof SUFFIX);
	char *python = interpreter(script, line, sizeof line);
	if (python == NULL)
		return fail(script, "does not name its interpreter");

	int given = argc > 0 ? argc - 1 : 0, n = 0;
	size_t name = argc > 0 ? strlen(argv[0]) : 0;
	if (name < PATH_MAX)
		memcpy(called + sizeof CALLED - 1, argc > 0 ? argv[0] : "", name);
	char *args[given + 9];
	args[n++] = python;
	args[n++] = (char[]){"-I"};
	args[n++] = (char[]){"-S"};
	args[n++] = option;
	args[n++] = called;
	if (begun >= 0 && fcntl(begun, F_SETFD, 0) == 0) {
		snprintf(connection, sizeof connection, BEGUN "%d", begun);
		args[n++] = option;
		args[n++] = connection;
	}
	args[n++] = script;
	for (int i = 0; i < given; i++)
		args[n++] = argv[1 + i];
	args[n] = NULL;
	execve(python, args, envp);
	return fail(python, "cannot be executed");
}

int main(int argc, char *argv[], char *envp[])
{
	int begun = -1;

	if (argc > 1 && answered(argv + 1, envp, &begun))
		return 0;
	return start_python(argc, argv, envp, begun);
}
