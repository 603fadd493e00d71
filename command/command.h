/* What the parts of the command share; ocirt.c says what they are for. */
#ifndef OCIRT_COMMAND_H
#define OCIRT_COMMAND_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* line.c: a command line of the plain kind */
struct call {
	const char *root;       /* of all containers' states, absolute */
	const char *id;         /* a container's; of list none */
	const char *signal;
	bool force, quiet, json;
};

enum command { NONE, STATE, LIST, KILL, START, DELETE };

enum command plain(struct call *call, char **words, char **environment);
const char *variable(char **environment, const char *name);
bool is_id(const char *name);

/* record.c: what Python has written down of a container */
struct text {
	char *at;               /* between the quotes, with the escapes of JSON */
	size_t size;
};

struct directory {              /* see Directory of cgroups/files.py */
	struct text path, controllers, missing;
	unsigned long long version;
};

struct known {
	struct text id, bundle, rootfs, version, annotations, created;
	unsigned long long pid;
};

struct record {
	struct known known;
	unsigned long long start_time;
	struct text boot;
	struct directory directories[32];
	size_t count;
	bool owns_others;       /* a unit of systemd, or classes of resctrl */
	bool starts, kills, deletes;    /* Record.plain */
};

bool read_record(int directory, const char *id, struct record *record);
bool next_string(struct text *list, struct text *string);
bool has_escapes(struct text text);
bool equals(struct text text, const char *other);
char *terminated(struct text text);

/* status.c: what the kernel says of it */
enum status { UNKNOWN, CREATED, RUNNING, PAUSED, STOPPED };

struct place {
	char path[PATH_MAX];
	int fd;
};

#define INTENT "intent.json"
#define STATE_FILE "state.json"
#define START_SOCKET "start.sock"

bool open_place(struct place *place, const char *root, const char *id);
bool list_names(int fd, const char **names, size_t most, size_t *count);
bool lock(const struct place *place, int how);
enum status status_of(const struct place *place, const struct record *record);
int is_frozen(const struct record *record, unsigned long long version);
int connect_to_init(const struct place *place);
int open_init(const struct record *record);

/* show.c and act.c: the commands. False: nothing is changed that Python could not do once more, and it should. */
bool show_state(const struct call *call);
bool show_list(const struct call *call);
bool kill_init(const struct call *call);
bool start_init(const struct call *call, int *begun);
bool delete_container(const struct call *call);

#endif
