/* The command ocirt: starts Python so that nobody but its installer has a say in what runs.
 *
 * A script cannot: pip writes its first line with the interpreter alone, and
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

#define SUFFIX "-python"
#define CALLED "called=" /* an option of python's -X that is for us alone */
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

int main(int argc, char *argv[], char *envp[])
{
	static char script[PATH_MAX + sizeof SUFFIX], line[PATH_MAX + 4], called[PATH_MAX + sizeof CALLED] = CALLED;
	ssize_t length = readlinkat(AT_FDCWD, "/proc/self/exe", script, PATH_MAX);
	if (length < 0)
		return fail("/proc/self/exe", "cannot be read");
	memcpy(script + length, SUFFIX, sizeof SUFFIX);
	char *python = interpreter(script, line, sizeof line);
	if (python == NULL)
		return fail(script, "does not name its interpreter");

	int given = argc > 0 ? argc - 1 : 0;
	size_t name = argc > 0 ? strlen(argv[0]) : 0;
	if (name < PATH_MAX)
		memcpy(called + sizeof CALLED - 1, argc > 0 ? argv[0] : "", name);
	char *args[given + 7];
	args[0] = python;
	args[1] = (char[]){"-I"};
	args[2] = (char[]){"-S"};
	args[3] = (char[]){"-X"};
	args[4] = called;
	args[5] = script;
	for (int i = 0; i < given; i++)
		args[6 + i] = argv[1 + i];
	args[given + 6] = NULL;
	execve(python, args, envp);
	return fail(python, "cannot be executed");
}
