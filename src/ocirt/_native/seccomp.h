/* What ocirt calls of libseccomp, which is opened at run time (seccomp/library.py)
 * so that neither its headers nor itself are needed to build and install. Its
 * enums are ints here; the declarations are those of version 2.5. */
#ifndef OCIRT_SECCOMP_H
#define OCIRT_SECCOMP_H

#include <stdint.h>

/* cdef: begin */
struct scmp_arg_cmp {
	unsigned int arg;
	int op;
	uint64_t datum_a, datum_b;
};

void *seccomp_init(uint32_t def_action);
void seccomp_release(void *ctx);
uint32_t seccomp_arch_native(void);
uint32_t seccomp_arch_resolve_name(const char *arch_name);
int seccomp_arch_add(void *ctx, uint32_t arch_token);
int seccomp_attr_set(void *ctx, int attr, uint32_t value);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
int seccomp_rule_add_array(void *ctx, uint32_t action, int syscall, unsigned int arg_cnt,
			   const struct scmp_arg_cmp *arg_array);
int seccomp_export_bpf(void *ctx, int fd);

struct scmp_version {
	unsigned int major;
	unsigned int minor;
	unsigned int micro;
};

const struct scmp_version *seccomp_version(void);
/* cdef: end */

#endif
