/* What the library itself calls: one function, in the caller's own process. */
#ifndef OCIRT_HOST_H
#define OCIRT_HOST_H

/* cdef: begin */
/* Start `program` (an open executable) as a child, in new namespaces where
 * `namespaces` has CLONE_NEW* flags, in the version 2 cgroup of an open directory
 * unless that is -1. Its descriptors 0 to count-1 become fds[], all others are
 * closed. Returns 0 or an errno; *pid and *pidfd are the child's. */
int ocirt_spawn(int program, const int *fds, int count, unsigned long namespaces, int cgroup, int *pid, int *pidfd);
/* cdef: end */

#endif
