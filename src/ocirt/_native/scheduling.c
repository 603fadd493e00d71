/* How the kernel is to treat the process: sched(7), numa(7), personality(2). All
 * of it survives execve(2). */
#define _GNU_SOURCE
#include <linux/sched/types.h>

#include "ops.h"

#define PROCESS_GROUP 2         /* IOPRIO_WHO_PGRP, linux/ioprio.h */
#define ALL_WORDS 128           /* 8192 CPUs, the most that Linux is built for */

/* Numbers: policy, flags, nice, priority, runtime, deadline, period. */
int op_set_scheduler(struct plan *plan, const struct wire_op *op)
{
	struct sched_attr attr = {
		.size = sizeof attr,
		.sched_policy = (uint32_t)NUMBER(0),
		.sched_flags = NUMBER(1),
		.sched_nice = (int32_t)NUMBER(2),
		.sched_priority = (uint32_t)NUMBER(3),
		.sched_runtime = NUMBER(4),
		.sched_deadline = NUMBER(5),
		.sched_period = NUMBER(6),
	};

	return SYSTEM(sched_setattr, 0, &attr, 0u);
}

/* The whole group, which is ours alone since setsid(2). */
int op_set_io_priority(struct plan *plan, const struct wire_op *op)
{
	return SYSTEM(ioprio_set, PROCESS_GROUP, 0, (int)NUMBER(0));
}

/* The words of a mask; none means every CPU there may be. */
int op_set_affinity(struct plan *plan, const struct wire_op *op)
{
	uint64_t all[ALL_WORDS];

	if (op->number_count)
		return SYSTEM(sched_setaffinity, 0, op->number_count * sizeof(uint64_t), &NUMBER(0)) < 0 ? -1 : 0;
	for (int i = 0; i < ALL_WORDS; i++)
		all[i] = ~UINT64_C(0);
	return SYSTEM(sched_setaffinity, 0, sizeof all, all) < 0 ? -1 : 0;
}

int op_set_personality(struct plan *plan, const struct wire_op *op)
{
	return SYSTEM(personality, (unsigned long)NUMBER(0)) < 0 ? -1 : 0;
}

/* Numbers: the mode with its flags, then the words of a mask of nodes, whose
 * size the kernel wants one bit larger than it is (set_mempolicy(2), BUGS). */
int op_set_memory_policy(struct plan *plan, const struct wire_op *op)
{
	unsigned long words = op->number_count - 1, bits = words ? words * 64 + 1 : 0;
	const uint64_t *nodes = words ? &NUMBER(1) : NULL;

	return SYSTEM(set_mempolicy, (int)NUMBER(0), nodes, bits);
}
