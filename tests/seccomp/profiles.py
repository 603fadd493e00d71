"""A large profile of the kind that engines send: everything is refused but what it lists."""

from __future__ import annotations

from collections.abc import Collection

from ocirt.spec import Seccomp, Syscall, SyscallArg

FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
    futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    ioctl lchown lchown32 lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64
    mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64
    setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate
    truncate64 umask unlink unlinkat utime utimensat utimes vmsplice write writev
"""
MEMORY = """
    brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap msync munlock
    munlockall munmap pkey_alloc pkey_free pkey_mprotect process_madvise
"""
PROCESSES = """
    alarm arch_prctl capget capset clone clone3 execve execveat exit exit_group fork getegid getegid32 geteuid
    geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill
    pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_getaffinity sched_getattr
    sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsuid setgid setgid32 setgroups setgroups32
    setpgid setpriority setregid setresgid setresgid32 setresuid setresuid32 setreuid setrlimit setsid setuid
    setuid32 set_robust_list set_tid_address set_thread_area sigaltstack sysinfo syslog tgkill times tkill uname
    ugetrlimit vfork wait4 waitid waitpid
"""
SIGNALS_AND_TIME = """
    clock_adjtime clock_getres clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 epoll_create
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd eventfd2 futex futex_time64 getitimer gettimeofday
    nanosleep pipe pipe2 poll ppoll ppoll_time64 pselect6 rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait select _newselect setitimer signalfd signalfd4 sigprocmask sigreturn
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime
"""
SOCKETS = """
    accept accept4 bind connect getpeername getrandom getsockname getsockopt listen mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmsg semctl semget
    semop semtimedop send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall
    socketpair
"""

LISTED = tuple(" ".join((FILES, MEMORY, PROCESSES, SIGNALS_AND_TIME, SOCKETS)).split())

ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


def listed(default: str, *, without: Collection[str] = (), architectures: tuple[str, ...] = ()) -> Seccomp:
    """Refuse by ``default`` what is not listed, and a few things by their arguments."""
    names = tuple(name for name in LISTED if name not in without)
    personalities = tuple(
        Syscall(("personality",), "SCMP_ACT_ALLOW", None, (SyscallArg(0, value, op="SCMP_CMP_EQ"),))
        for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    )
    family = Syscall(("socket",), "SCMP_ACT_ALLOW", None, (SyscallArg(0, 40, op="SCMP_CMP_NE"),))
    return Seccomp(
        default,
        architectures=architectures,
        syscalls=(Syscall(names, "SCMP_ACT_ALLOW"), *personalities, family),
    )
