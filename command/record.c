/* What Python has written down of a container (state.py), read as it was written.
 *
 * This is no parser of JSON: it knows the one form in which Record comes out of
 * Python's compact encoder, member by member, with nothing beyond ASCII. So no
 * fact is stored twice, and none can disagree; what looks otherwise, whatever the
 * reason, is for Python to read. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define DIGITS 18       /* more could be more than 64 bits */

static char arena[4 << 20];     /* of all files read, those parts that are needed */
static size_t used;

struct cursor {
	char *at, *end;
};

static bool literal(struct cursor *c, const char *expected)
{
	size_t size = strlen(expected);

	if ((size_t)(c->end - c->at) < size || memcmp(c->at, expected, size) != 0)
		return false;
	c->at += size;
	return true;
}

/* Escapes stay: the same in what we write, but for those of letters that have a number. */
static bool string(struct cursor *c, struct text *text)
{
	if (!literal(c, "\""))
		return false;
	text->at = c->at;
	for (; c->at < c->end; c->at++) {
		if (*c->at == '"') {
			text->size = (size_t)(c->at++ - text->at);
			return true;
		}
		if (*c->at < ' ' || *c->at > '~')
			return false;
		if (*c->at == '\\' && (++c->at == c->end || !*c->at || !strchr("\"\\bfnrt", *c->at)))
			return false;
	}
	return false;
}

static bool number(struct cursor *c, unsigned long long *value)
{
	size_t digits = 0;

	for (*value = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; digits++)
		*value = *value * 10 + (unsigned)(*c->at++ - '0');
	return digits > 0 && digits <= DIGITS && (c->at[-(ptrdiff_t)digits] != '0' || digits == 1);
}

/* ["a","b"], of which the inner part is kept. */
static bool strings(struct cursor *c, struct text *list)
{
	struct text entry;

	if (!literal(c, "["))
		return false;
	list->at = c->at;
	if (!literal(c, "]")) {
		do
			if (!string(c, &entry))
				return false;
		while (literal(c, ","));
		if (!literal(c, "]"))
			return false;
	}
	list->size = (size_t)(c->at - 1 - list->at);
	return true;
}

/* {"a":"b","c":"d"}, of which the inner part is kept. */
static bool pairs(struct cursor *c, struct text *list)
{
	struct text name, value;

	if (!literal(c, "{"))
		return false;
	list->at = c->at;
	if (!literal(c, "}")) {
		do
			if (!string(c, &name) || !literal(c, ":") || !string(c, &value))
				return false;
		while (literal(c, ","));
		if (!literal(c, "}"))
			return false;
	}
	list->size = (size_t)(c->at - 1 - list->at);
	return true;
}

static bool directory(struct cursor *c, struct directory *d)
{
	struct text parents;

	return literal(c, "{\"path\":") && string(c, &d->path) && !has_escapes(d->path)
	       && literal(c, ",\"controllers\":") && strings(c, &d->controllers)
	       && literal(c, ",\"version\":") && number(c, &d->version)
	       && literal(c, ",\"parents\":") && strings(c, &parents)
	       && literal(c, ",\"missing\":") && strings(c, &d->missing) && !has_escapes(d->missing)
	       && literal(c, "}");
}

static bool directories(struct cursor *c, struct record *record)
{
	if (!literal(c, "["))
		return false;
	if (literal(c, "]"))
		return true;
	do
		if (record->count == sizeof record->directories / sizeof *record->directories
		    || !directory(c, &record->directories[record->count++]))
			return false;
	while (literal(c, ","));
	return literal(c, "]");
}

static bool plain_commands(struct cursor *c, struct record *record)
{
	struct text list, name;

	if (!literal(c, ",\"plain\":"))
		return true;
	if (!strings(c, &list))
		return false;
	while (next_string(&list, &name)) {
		record->starts |= equals(name, "start");
		record->kills |= equals(name, "kill");
		record->deletes |= equals(name, "delete");
	}
	return true;
}

/* What there is to remove besides the cgroup, of which no more is known here. */
static bool others(struct cursor *c, struct record *record)
{
	struct text ignored;

	if (literal(c, ",\"rdt_groups\":") && !strings(c, &ignored))
		return false;
	record->owns_others = literal(c, ",\"rdt_made\":");
	if (record->owns_others && !strings(c, &ignored))
		return false;
	(void)literal(c, ",\"keyring\":false");
	if (!literal(c, ",\"unit\":"))
		return true;
	record->owns_others = true;
	return literal(c, "{\"name\":") && string(c, &ignored) && literal(c, ",\"bus\":") && string(c, &ignored)
	       && literal(c, ",\"ours\":") && (literal(c, "true") || literal(c, "false")) && literal(c, "}");
}

/* An object that matters only in that all of it is there. */
static bool object(struct cursor *c)
{
	size_t depth = 0;
	bool quoted = false;

	if (c->at == c->end || *c->at != '{')
		return false;
	for (; c->at < c->end; c->at++) {
		if (quoted && *c->at == '\\')
			c->at++;
		else if (*c->at == '"')
			quoted = !quoted;
		else if (!quoted && *c->at == '{')
			depth++;
		else if (!quoted && *c->at == '}' && --depth == 0)
			return c->at++, true;
	}
	return false;
}

static bool intent(struct cursor *c, struct record *record)
{
	struct known *known = &record->known;

	if (!(literal(c, "{\"record\":{\"id\":") && string(c, &known->id)
	      && literal(c, ",\"bundle\":") && string(c, &known->bundle)
	      && literal(c, ",\"rootfs\":") && string(c, &known->rootfs)
	      && literal(c, ",\"oci_version\":") && string(c, &known->version)
	      && literal(c, ",\"annotations\":") && pairs(c, &known->annotations)
	      && literal(c, ",\"cgroup\":") && directories(c, record)))
		return false;
	if (!others(c, record) || !plain_commands(c, record) || !literal(c, "},"))
		return false;
	used = (size_t)(c->at - arena);         /* and no need of what follows */
	return literal(c, "\"config\":") && object(c) && literal(c, "}") && c->at == c->end;
}

static bool digits(struct cursor *c)
{
	const char *before = c->at;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
		c->at++;
	return c->at > before;
}

/* 0 1.5 1.5e-05 */
static bool decimal(struct cursor *c)
{
	if (!literal(c, "0") && !digits(c))
		return false;
	if (literal(c, ".") && !digits(c))
		return false;
	return !literal(c, "e") || ((literal(c, "-") || literal(c, "+")) && digits(c));
}

/* Only that it is well-formed matters. */
static bool used_before(struct cursor *c)
{
	if (!literal(c, ",\"used_before\":["))
		return true;
	do
		if (!decimal(c))
			return false;
	while (literal(c, ","));
	return literal(c, "]");
}

static bool outcome(struct cursor *c, struct record *record)
{
	used = (size_t)(c->end - arena);
	return literal(c, "{\"created\":") && string(c, &record->known.created) && record->known.created.size > 0
	       && literal(c, ",\"pid\":") && number(c, &record->known.pid) && record->known.pid > 0
	       && record->known.pid <= INT_MAX
	       && literal(c, ",\"start_time\":") && number(c, &record->start_time)
	       && literal(c, ",\"boot\":") && string(c, &record->boot)
	       && used_before(c) && literal(c, "}") && c->at == c->end;
}

static bool contents(int directory_fd, const char *name, struct cursor *c)
{
	int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : 1;

	c->at = c->end = arena + used;
	while (size > 0) {
		size = read(fd, c->end, (size_t)(arena + sizeof arena - c->end));
		c->end += size > 0 ? size : 0;
	}
	if (fd >= 0)
		close(fd);
	return size == 0 && c->end < arena + sizeof arena;
}

/* False also where there is none yet. */
bool read_record(int directory_fd, const char *id, struct record *record)
{
	struct cursor c;

	*record = (struct record){0};
	return contents(directory_fd, INTENT, &c) && intent(&c, record)
	       && contents(directory_fd, STATE_FILE, &c) && outcome(&c, record)
	       && equals(record->known.id, id);
}

/* The first of the inner part of a list or an object; that goes on behind it. */
bool next_string(struct text *list, struct text *string_)
{
	struct cursor c = {list->at, list->at + list->size};

	if (!string(&c, string_))
		return false;
	if (c.at < c.end)
		c.at++;         /* the comma, or the colon */
	*list = (struct text){c.at, (size_t)(c.end - c.at)};
	return true;
}

bool has_escapes(struct text text) { return memchr(text.at, '\\', text.size) != NULL; }

bool equals(struct text text, const char *other)
{
	return strlen(other) == text.size && memcmp(text.at, other, text.size) == 0;
}

/* For system calls: in the place of the quote behind it. */
char *terminated(struct text text)
{
	text.at[text.size] = '\0';
	return text.at;
}
