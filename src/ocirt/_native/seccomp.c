/* The filter of system calls (seccomp(2)). It is made by the host; here it is
 * only handed to the kernel. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "ops.h"

/* Numbers: flags, whether the profile lets us send a descriptor, then the
 * program, whose instructions are eight bytes each.
 *
 * Under the filter we can rely on nothing. So where Exec comes next, all of it
 * but execve itself is done before. And a listener can be sent only if nobody is
 * asked about sendmsg(2), or we would wait for an answer from whoever is still
 * waiting for the listener; otherwise we tell its number, by write(2), which no
 * profile may leave to others, and the host takes it. */
int op_install_seccomp(struct plan *plan, const struct wire_op *op)
{
	const uint32_t count = op->number_count - 2;
	struct sock_fprog program = {
		.len = (unsigned short)count,
		.filter = (struct sock_filter *)(uintptr_t)&NUMBER(2),
	};
	long listener;

	if (count > BPF_MAXINSNS)
		return fail("seccomp", E2BIG, "");
	if (plan->current + 1 < plan->header->operations && op[1].code == OP_EXEC && prepare_exec(plan, &op[1]) < 0)
		return -1;
	listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, NUMBER(0), &program);
	if (listener < 0)
		return fail("seccomp", errno, "");
	plan->filtered = true;
	if (!(NUMBER(0) & SECCOMP_FILTER_FLAG_NEW_LISTENER))
		return 0;
	if (tell(EVENT_LISTENER, plan, (int)listener, NUMBER(1) ? (int)listener : -1) < 0)
		return fail(NUMBER(1) ? "sendmsg" : "write", errno, "");
	return await_word(WIRE_GO);      /* it is closed by Exec, or on it */
}
