"""The names that config.json may use, and what a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NAMESPACES: Final = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")

CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
        " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
        " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
        " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
        " PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
"""In the order of their numbers, from 0: see linux/capability.h."""

RLIMITS: Final = tuple(
    f"RLIMIT_{name}"
    for name in (
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
    ).split()
)

SCHEDULER_POLICIES: Final = tuple(
    f"SCHED_{name}" for name in ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE")
)
SCHEDULER_FLAGS: Final = tuple(
    f"SCHED_FLAG_{name}"
    for name in ("RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX").split()
)
IO_CLASSES: Final = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
PERSONALITIES: Final = ("LINUX", "LINUX32")

MEMORY_MODES: Final = tuple(
    f"MPOL_{name}" for name in "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL".split()
)
MEMORY_FLAGS: Final = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")

SECCOMP_ACTIONS: Final = tuple(
    f"SCMP_ACT_{name}" for name in "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY".split()
)
SECCOMP_OPERATORS: Final = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
SECCOMP_FLAGS: Final = tuple(
    f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")
)
SECCOMP_ARCHITECTURES: Final = tuple(
    f"SCMP_ARCH_{name}"
    for name in (
        "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32"
        " PPC PPC64 PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64"
    ).split()
)


def nearest(name: str, known: Iterable[str], reach: int) -> str | None:
    """The known name that is at most ``reach`` letters off, in any case of letters.

    One letter more, less or other changes which letters there are by two at most: most names need no closer look.
    """
    folded = name.casefold()
    letters = set(folded)
    near = (candidate for candidate in known if abs(len(candidate) - len(name)) <= reach)
    alike = (candidate for candidate in near if len(letters.symmetric_difference(candidate.casefold())) <= 2 * reach)
    best = min(((_distance(folded, candidate.casefold()), candidate) for candidate in alike), default=(reach + 1, ""))
    return best[1] if best[0] <= reach else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is misspelt, or a part of a known one; empty where it is neither."""
    candidates = sorted(known)
    folded = name.casefold()
    parts = (candidate for candidate in candidates if len(name) > 2 and _is_part(folded, candidate.casefold()))
    meant = nearest(name, candidates, reach=2) or next(parts, None)
    return f"; did you mean {meant}?" if meant else ""


def _is_part(name: str, candidate: str) -> bool:
    """``net`` of network, ``SYS_ADMIN`` of CAP_SYS_ADMIN."""
    return candidate.startswith(name) or candidate.endswith(f"_{name}")


def _distance(left: str, right: str) -> int:
    """How many letters to add, drop, change or swap with their neighbour to make one word of the other."""
    older: list[int] = []
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if older and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, older[j - 2] + 1)
            row.append(best)
        older, above = above, row
    return above[-1]
