/* The commands that show something: in the form of cli/query.py, which is runc's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

#define COLUMNS 6
#define LEAST_WIDTH 12
#define MOST 512        /* containers in a list */

static char output[4 << 20];
static size_t written;
static bool overflown;

/* Signs between the members of an object. */
struct layout {
	const char *open, *between, *colon, *close;
};

static const struct layout wide = {"{\n  ", ",\n  ", ": ", "\n}"};
static const struct layout wider = {"{\n    ", ",\n    ", ": ", "\n  }"};
static const struct layout compact = {"{", ",", ":", "}"};

static void put_bytes(const char *bytes, size_t size)
{
	overflown |= size > sizeof output - written;
	if (overflown)
		return;
	memcpy(output + written, bytes, size);
	written += size;
}

static void put(const char *text) { put_bytes(text, strlen(text)); }

/* What HTML has a meaning for is escaped, as Go does. */
static void put_json(struct text text)
{
	put("\"");
	for (size_t i = 0; i < text.size; i++) {
		const char *escape = text.at[i] == '<' ? "\\u003c" : text.at[i] == '>' ? "\\u003e" : "\\u0026";
		if (memchr("<>&", text.at[i], 3))
			put(escape);
		else
			put_bytes(text.at + i, 1);
	}
	put("\"");
}

static struct text as_text(const char *text) { return (struct text){(char *)(uintptr_t)text, strlen(text)}; }

static void put_name(const struct layout *layout, const char *name)
{
	put(layout->between);
	put_json(as_text(name));
	put(layout->colon);
}

static void put_member(const struct layout *layout, const char *name, struct text value)
{
	put_name(layout, name);
	put_json(value);
}

static void put_annotations(const struct layout *outer, const struct layout *inner, struct text pairs)
{
	struct text name, value;
	const char *before = inner->open;

	if (!pairs.size)
		return;
	put_name(outer, "annotations");
	while (next_string(&pairs, &name) && next_string(&pairs, &value)) {
		put(before);
		put_json(name);
		put(inner->colon);
		put_json(value);
		before = inner->between;
	}
	put(inner->close);
}

static const char *word(enum status status)
{
	return status == CREATED ? "created" : status == RUNNING ? "running" : status == PAUSED ? "paused" : "stopped";
}

static void put_container(const struct layout *outer, const struct layout *inner, const struct known *known,
			  enum status status, const char *owner)
{
	char pid[24];

	put(outer->open);
	put_json(as_text("ociVersion"));
	put(outer->colon);
	put_json(known->version);
	put_member(outer, "id", known->id);
	put_name(outer, "pid");
	snprintf(pid, sizeof pid, "%llu", status == STOPPED ? 0 : known->pid);
	put(pid);
	put_member(outer, "status", as_text(word(status)));
	put_member(outer, "bundle", known->bundle);
	put_member(outer, "rootfs", known->rootfs);
	put_member(outer, "created", known->created);
	put_annotations(outer, inner, known->annotations);
	put_member(outer, "owner", as_text(owner));
	put(outer->close);
}

/* Nobody who has closed the other end: that would be SIGPIPE. */
static bool has_reader(void)
{
	struct pollfd standard_output = {.fd = 1};

	return poll(&standard_output, 1, 0) == 0;
}

static bool show(void)
{
	ssize_t size = 0;

	for (size_t done = 0; !overflown && done < written; done += (size_t)size) {
		size = has_reader() ? write(1, output + done, written - done) : -1;
		if (size < 0)
			return false;
	}
	return !overflown;
}

bool show_state(const struct call *call)
{
	static struct place place;
	static struct record record;

	if (!open_place(&place, call->root, call->id) || !read_record(place.fd, call->id, &record))
		return false;
	enum status status = status_of(&place, &record);
	if (status == UNKNOWN)
		return false;
	put_container(&wide, &wider, &record.known, status, "");
	return show();
}

struct row {
	struct known known;
	enum status status;
	char pid[24];
};

static struct row rows[MOST];
static const char *names[MOST];
static size_t count;

static bool collect_names(const char *root)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool all = fd >= 0 && list_names(fd, names, MOST, &count);
	size_t ids = 0;

	if (fd >= 0)
		close(fd);
	for (size_t i = 0; i < count; i++)
		if (is_id(names[i]))
			names[ids++] = names[i];
	count = ids;
	return all;
}

/* Shell's, with Ciura's gaps: hundreds of names, most often in order. */
static void sort_names(void)
{
	static const size_t gaps[] = {301, 132, 57, 23, 10, 4, 1};

	for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++)
		for (size_t i = gaps[g]; i < count; i++) {
			const char *name = names[i];
			size_t place = i;
			for (; place >= gaps[g] && strcmp(names[place - gaps[g]], name) > 0; place -= gaps[g])
				names[place] = names[place - gaps[g]];
			names[place] = name;
		}
}

/* It belongs to root. */
static bool read_row(const char *root, const char *name, struct row *row)
{
	static struct place place;
	static struct record record;
	struct stat info;

	if (!open_place(&place, root, name) || !read_record(place.fd, name, &record) || fstat(place.fd, &info) < 0)
		return false;
	row->known = record.known;
	row->status = status_of(&place, &record);
	close(place.fd);
	return row->status != UNKNOWN && info.st_uid == 0;
}

/* As it nearly always is; to ask all of NSS is for Python. */
static bool is_root_called_root(void)
{
	static const char expected[] = "root:x:0:";
	char line[sizeof expected - 1];
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, line, sizeof line);

	if (fd >= 0)
		close(fd);
	return size == sizeof line && memcmp(line, expected, sizeof line) == 0;
}

static void put_row(const char *const *cells, const size_t *widths)
{
	for (size_t column = 0; column < COLUMNS; column++) {
		size_t size = strlen(cells[column]);
		put_bytes(cells[column], size);
		for (; size < widths[column]; size++)
			put(" ");
	}
	put("\n");
}

static bool put_table(void)
{
	static const char *const heading[COLUMNS] = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"};
	static const char *cells[MOST + 1][COLUMNS];
	size_t widths[COLUMNS] = {0};

	memcpy(cells, heading, sizeof heading);
	for (size_t i = 0; i < count; i++) {
		struct known *known = &rows[i].known;
		if (has_escapes(known->bundle) || has_escapes(known->created))
			return false;
		snprintf(rows[i].pid, sizeof rows[i].pid, "%llu", rows[i].status == STOPPED ? 0 : known->pid);
		const char *row[COLUMNS] = {
			terminated(known->id), rows[i].pid, word(rows[i].status),
			terminated(known->bundle), terminated(known->created), "root",
		};
		memcpy(cells[i + 1], row, sizeof row);
	}
	for (size_t column = 0; column < COLUMNS - 1; column++) {       /* the last one is as wide as it is */
		widths[column] = LEAST_WIDTH;
		for (size_t i = 0; i <= count; i++)
			if (strlen(cells[i][column]) + 3 > widths[column])
				widths[column] = strlen(cells[i][column]) + 3;
	}
	for (size_t i = 0; i <= count; i++)
		put_row(cells[i], widths);
	return true;
}

static void put_array(void)
{
	for (size_t i = 0; i < count; i++) {
		put(i ? "," : "[");
		put_container(&compact, &compact, &rows[i].known, rows[i].status, "root");
	}
	put(count ? "]\n" : "null\n");
}

bool show_list(const struct call *call)
{
	if (!collect_names(call->root))
		return false;
	sort_names();
	for (size_t i = 0; i < count; i++) {
		if (call->quiet) {
			put(names[i]);
			put("\n");
		} else if (!read_row(call->root, names[i], &rows[i])) {
			return false;
		}
	}
	if (call->quiet)
		return show();
	if (count && !is_root_called_root())
		return false;
	if (call->json)
		put_array();
	else if (!put_table())
		return false;
	return show();
}
