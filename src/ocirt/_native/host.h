/* What the library itself calls, in the caller's own process. */
#ifndef OCIRT_HOST_H
#define OCIRT_HOST_H

#include <stddef.h>

/* cdef: begin */
/* Start `program` (an open executable) on a plan of `size` bytes, as a child in
 * new namespaces where `namespaces` has CLONE_NEW* flags, in the version 2
 * cgroup of an open directory unless that is -1. fds[] become its three streams
 * and the plan's descriptors; it has no others. made[] is its pid, a
 * pidfd, and our end of its socket. Returns 0 or an errno; where there is a pid
 * nonetheless, that child is to be reaped. */
int ocirt_spawn(int program, const char *plan, size_t size, const int *fds, int count, unsigned long namespaces,
		int cgroup, int made[3]);

/* A copy of descriptor `number` of the process behind `pidfd`; or an errno, negative. */
int ocirt_take_fd(int pidfd, int number);

/* bpf(2) on a union bpf_attr, of which `size` bytes are there: a descriptor or 0; or an errno, negative. */
int ocirt_bpf(int command, void *attributes, unsigned size);

/* openat2(2): a descriptor, or an errno, negative. */
int ocirt_openat2(int directory, const char *path, unsigned long flags, unsigned long resolve);

/* Become the parent of whomever our descendants leave without one. Returns 0 or an errno. */
int ocirt_adopt_orphans(void);
/* cdef: end */

#endif
