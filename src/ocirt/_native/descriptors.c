/* Files of the caller's that the program finds at the numbers that they have there.
 *
 * They go there before anything else is opened: so nothing that an operation
 * opens can get such a number, and no limit of the container's is in the way.
 * What is ours already steps aside, to any number that is not wanted. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "ops.h"

/* The lowest number from this one on that is not wanted. */
static int beside(const struct plan *plan, int number)
{
	for (uint32_t i = 0; i < plan->kept_count; i++)
		if (plan->kept[2 * i + 1] == (uint64_t)number)
			number++;
	return number;
}

/* What is free may be wanted too: then it goes on from there. */
static int step_aside(const struct plan *plan, int *fd)
{
	for (int place = beside(plan, *fd); *fd >= 0 && place != *fd; place = beside(plan, *fd)) {
		int moved = CALL(fcntl, *fd, F_DUPFD_CLOEXEC, place);
		if (moved < 0)
			return -1;
		close(*fd);
		*fd = moved;
	}
	return 0;
}

/* Numbers: a slot and the number that it goes to, for each; those rise. Where it
 * was, nothing stays: what operations open needs numbers below the container's limit. */
int op_keep_descriptors(struct plan *plan, const struct wire_op *op)
{
	plan->kept = &NUMBER(0);
	plan->kept_count = op->number_count / 2;
	if (step_aside(plan, &events) < 0)
		return -1;
	for (uint32_t i = 0; i < WIRE_SLOTS; i++)
		if (step_aside(plan, &plan->fds[i]) < 0)
			return -1;
	for (uint32_t i = 0; i < plan->kept_count; i++) {
		const int from = slot(plan, plan->kept[2 * i]);
		const uint64_t to = plan->kept[2 * i + 1];
		snprintf(failed_detail, sizeof failed_detail, "%llu", (unsigned long long)to);
		if (to > INT_MAX)
			return fail("dup3", EBADF, "");
		if (CALL(dup3, from, (int)to, 0) < 0 || CALL(close, from) < 0)
			return -1;
	}
	return 0;
}

/* The lowest number from `next` on that stays open. */
static unsigned staying(const struct plan *plan, unsigned next, int other)
{
	unsigned lowest = (unsigned)events >= next ? (unsigned)events : ~0u;

	if (other >= 0 && (unsigned)other >= next && (unsigned)other < lowest)
		lowest = (unsigned)other;
	for (uint32_t i = 0; i < plan->kept_count; i++)
		if (plan->kept[2 * i + 1] >= next && plan->kept[2 * i + 1] < lowest)
			return (unsigned)plan->kept[2 * i + 1];
	return lowest;
}

/* Close all but the standard streams, the events socket, what is kept, and one
 * more, or -1. No descriptor has the highest of all numbers. */
int close_beside(const struct plan *plan, int other)
{
	unsigned next = 3, stays;

	do {
		stays = staying(plan, next, other);
		if (stays > next && CALL(close_fds, next, stays - 1, 0) < 0)
			return -1;
		next = stays + 1;
	} while (next);
	return 0;
}
