/* Who the container's process is and what it may do (credentials(7), capabilities(7)). */
#define _GNU_SOURCE
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "ops.h"

/* Triples: resource, soft, hard. */
int op_set_rlimits(struct plan *plan, const struct wire_op *op)
{
	for (uint32_t i = 0; op->number_count - i >= 3; i += 3) {
		struct rlimit limit = {.rlim_cur = NUMBER(i + 1), .rlim_max = NUMBER(i + 2)};
		failed_value = (int)i / 3;
		if (CALL(setrlimit, (__rlimit_resource_t)NUMBER(i), &limit) < 0)
			return -1;
	}
	return 0;
}

int op_set_no_new_privileges(struct plan *plan, const struct wire_op *op)
{
	(void)plan;
	(void)op;
	return CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Keep the capabilities of the mask; the first that this kernel does not know ends the walk. */
int op_drop_bounding(struct plan *plan, const struct wire_op *op)
{
	for (unsigned long capability = 0; capability < 64; capability++) {
		if (NUMBER(0) >> capability & 1)
			continue;
		if (CALL(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -1;
	}
	return 0;
}

/* Numbers: uid, gid, may set groups, then the groups. Permitted capabilities
 * survive (PR_SET_KEEPCAPS) until SetCapabilities says which may stay. */
int op_set_user(struct plan *plan, const struct wire_op *op)
{
	static gid_t groups[65536];     /* NGROUPS_MAX */
	size_t count = (size_t)op->number_count - 3;

	if (count > sizeof groups / sizeof *groups)
		return fail("setgroups", EINVAL, "");
	for (size_t i = 0; i < count; i++)
		groups[i] = (gid_t)NUMBER(3 + i);
	if (CALL(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -1;
	if (NUMBER(2) && CALL(setgroups, count, groups) < 0)
		return -1;
	if (CALL(setresgid, (gid_t)NUMBER(1), (gid_t)NUMBER(1), (gid_t)NUMBER(1)) < 0)
		return -1;
	if (CALL(setresuid, (uid_t)NUMBER(0), (uid_t)NUMBER(0), (uid_t)NUMBER(0)) < 0)
		return -1;
	return CALL(prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

static int capset(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (int half = 0; half < 2; half++) {
		data[half].effective = (uint32_t)(effective >> 32 * half);
		data[half].permitted = (uint32_t)(permitted >> 32 * half);
		data[half].inheritable = (uint32_t)(inheritable >> 32 * half);
	}
	return (int)syscall(SYS_capset, &head, data);
}

/* Effective, permitted, inheritable, ambient. An ambient capability that the
 * kernel refuses is left out, as in runc: OCI asks for a warning at most. */
int op_set_capabilities(struct plan *plan, const struct wire_op *op)
{
	if (CALL(capset, NUMBER(0), NUMBER(1), NUMBER(2)) < 0)
		return -1;
	if (CALL(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	for (unsigned long capability = 0; capability < 64; capability++)
		if (NUMBER(3) >> capability & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
	return 0;
}
