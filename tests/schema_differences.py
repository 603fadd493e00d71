"""Where the JSON Schema of the specification and ocirt differ, and why: ocirt follows the prose, and the kernel.

``config.md`` and ``config-linux.md`` are the specification; the schema is a help to tools, as its README says.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Difference(NamedTuple):
    """Places and what is told of them, as regular expressions, and the reason."""

    path: str
    words: str
    why: str


STRICTER: Final = tuple(
    Difference(*row)
    for row in (
        # any text
        (r".*", "must not hold a NUL character", "a string of C ends there: another value would be used"),
        (r".*", "holds half a surrogate pair", "RFC 8259: no bytes stand for it"),
        (
            r"(linux\.sysctl|linux\.resources\.unified|annotations)\[''\]",
            "must be a string",
            "the schema's pattern leaves the empty key out",
        ),
        (r"linux\.sysctl.*", "does not name a file below /proc/sys", "sysctl(8)"),
        # the document
        (
            r"ociVersion",
            "is not a version as SemVer",
            "config.md, Specification version: MUST be in SemVer v2.0.0 format",
        ),
        (r"ociVersion", "is beyond version 1", "another major version is another specification (semver.org)"),
        (r"root", "is required", "config.md, Root: on all other platforms this field is REQUIRED"),
        (r"root\.path", "must not be empty", "no path; the prose says a directory MUST exist there"),
        (r"(host|domain)name", "without a private UTS namespace", "it would rename the host; runc refuses it too"),
        (r"(host|domain)name", "is longer than 64 bytes", "sethostname(2)"),
        (r"annotations", "needs a key that is not empty", "config.md, Annotations: keys MUST NOT be an empty string"),
        # process
        (r"process\.cwd", "is (empty|relative)", "config.md, Process: this value MUST be an absolute path"),
        (r"process\.args", "args must not be empty", "config.md, Process: at least one entry is REQUIRED"),
        (r"process\.args\[0\]", "must not be empty", "execvp(3) finds no program without a name"),
        (r"(process|hooks\..*)\.env\[\d+\]", "must have the form NAME=value", "IEEE Std 1003.1-2008's environ"),
        (r"process\.user\.[ug]id", "is required", "config.md, POSIX-platform User: REQUIRED"),
        (r"(process\.user|linux\.devices).*", "is no ID but what the kernel takes for none", "(uid_t)-1, see chown(2)"),
        (r"process\.user\.umask", "has more bits than the permissions", "umask(2)"),
        (r"process\.consoleSize\.\w+", "is more than a terminal can have", "struct winsize, see ioctl_tty(2)"),
        (
            r"process\.rlimits\[\d+\]\.type",
            "is listed twice",
            "config.md: if it has duplicates, MUST generate an error",
        ),
        (
            r"process\.rlimits\[\d+\]\.type",
            "is no resource",
            "config.md: MUST generate an error for what cannot be mapped",
        ),
        (r"process\.rlimits\[\d+\]\.soft", "is above the hard limit", "setrlimit(2)"),
        (r"process\.capabilities\..*", "is not a capability", "a misspelt one would be left out in silence"),
        (r"process\.oomScoreAdj", "must be within -1000 and 1000|int32", "proc(5)"),
        (
            r"process\.scheduler\.\w+",
            "can only be specified for|is for SCHED_|must be at least 1024|must not be below",
            "config.md: with other policies the value means nothing; sched(7)",
        ),
        (r"process\.scheduler\.(nice|priority)", "must be within", "sched(7)"),
        (r"process\.ioPriority\.priority", "must be within 0 and 7", "config.md: a value between 0 and 7"),
        (r"process\.execCPUAffinity\.\w+", "is not a list|runs backwards|goes beyond", "cpuset(7), List format"),
        # mounts and hooks
        (r"mounts\[\d+\]\.destination", "must not be empty", "config.md: the path inside the container"),
        (
            r"mounts\[\d+\]\.type",
            "must name a filesystem|is no filesystem",
            "config.md: OPTIONAL for bind mounts alone",
        ),
        (r"mounts\[\d+\]\.source", "is required", "a bind mount of nothing"),
        (r"mounts\[\d+\]\.options\[\d+\]", "is unknown|is not a mount option", "it would be ignored, or is misspelt"),
        (r"mounts\[\d+\]\.options\[\d+\]", "is for (mounts of type tmpfs|bind mounts) alone", "it would be ignored"),
        (r"mounts\[\d+\]\.options\[\d+\]", "needs uidMappings and gidMappings", "config.md, idmap"),
        (r"mounts\[\d+\]\.[ug]idMappings", "must have both", "config.md: if one is specified, the other MUST be too"),
        (r"hooks\.\w+\[\d+\]\.path", "must be an absolute path", "config.md, POSIX-platform Hooks"),
        # linux
        (r"linux\.namespaces\[\d+\]\.type", "is listed twice", "config-linux.md: duplicates MUST generate an error"),
        (
            r"linux\.namespaces\[\d+\]\.path",
            "must be an absolute path",
            "config-linux.md, Namespaces: MUST be absolute",
        ),
        (r"linux\.[ug]idMappings", "user namespace", "the mappings and the namespace belong together"),
        (r".*[ug]idMappings", "entries where the kernel takes", "user_namespaces(7)"),
        (r".*[ug]idMappings\[\d+\]\.\w+", "overlaps|beyond the last ID|must be at least 1", "user_namespaces(7)"),
        (r"linux\.timeOffsets", "time namespace", "config-linux.md: a new time namespace MUST be there to have them"),
        (
            r"linux\.timeOffsets.*",
            "is not a clock|must be an object|must not be null",
            "time_namespaces(7) has two clocks",
        ),
        (r"linux\.timeOffsets\.\w+\.nanosecs", "is a second or more", "time_namespaces(7)"),
        (r"linux\.timeOffsets.*", "must be an integer|int64|uint32", "the same, of a clock that there is not"),
        (r"linux\.devices\[\d+\]\.path", "must be an absolute path", "config-linux.md: full path to device"),
        (r"linux\.devices\[\d+\]\.m(aj|in)or", "is required", "config-linux.md: REQUIRED unless type is p"),
        (r"linux\.devices\[\d+\]\.m(aj|in)or", "must be within", "makedev(3): the kernel has 12 and 20 bits"),
        (r"linux\.netDevices.*", "invalid network device name", "dev_valid_name() of the kernel"),
        (
            r"linux\.netDevices",
            "without a NET namespace",
            "there would be nowhere to move them to; runc refuses it too",
        ),
        (r"linux\.netDevices.*", "is what two devices are to be called", "netdevice(7): names are unique"),
        (
            r"linux\.(masked|readonly)Paths\[\d+\]",
            "must be an absolute path",
            "config-linux.md: MUST be absolute paths",
        ),
        (r"linux\.personality\.domain", "is required", "config-linux.md, Personality: REQUIRED"),
        (r"linux\.personality\.flags", "must be empty", "config-linux.md: currently no flag values are supported"),
        (r"linux\.memoryPolicy\.mode", "is required", "config-linux.md, Memory policy: REQUIRED"),
        (
            r"linux\.memoryPolicy\.nodes",
            "is not a list|runs backwards|goes beyond|at least one node|no nodes",
            "set_mempolicy(2)",
        ),
        (r"linux\.intelRdt\.closID", "must be the name of a directory", "it names one in resctrl"),
        (r"linux\.intelRdt\..*", "must be a single line|must begin with MB:", "config-linux.md, IntelRdt"),
        (r"linux\.seccomp\..*[eE]rrnoRet", "has no meaning for|is more than", "config-linux.md: MUST return an error"),
        (r"linux\.seccomp\.listenerMetadata", "without listenerPath", "config-linux.md: MUST NOT be set then"),
        (r"linux\.seccomp\.defaultAction", "cannot be used as default action", "write(2) could not tell of it"),
        (
            r"linux\.seccomp\.syscalls\[\d+\]\.names\[\d+\]",
            "for the write syscall",
            "the listener would wait for itself",
        ),
        (r"linux\.seccomp\.syscalls\[\d+\]\.args\[\d+\]\.index", "must be at most 5", "syscall(2): six arguments"),
        # limits
        (
            r"linux\.resources\.devices.*",
            "invalid cgroup device type|must be made of|must be a device",
            "config-linux.md",
        ),
        (r"linux\.resources\.memory\.\w+", "must be a number of bytes", "-1 is unlimited; less is nothing"),
        (r"linux\.resources\.memory\.swappiness", "must be within 0 and 100", "config-linux.md: from 0 to 100"),
        (r"linux\.resources\.memory\.swap", "is below the limit", "memory+swap is never less than memory"),
        (r"linux\.resources\.cpu\.(cpus|mems)", "is not a list|runs backwards|goes beyond", "cpuset(7), List format"),
        (r"linux\.resources\.cpu\.idle", "must be 0 or 1", "config-linux.md: idle or not"),
        (r"linux\.resources\.blockIO.*", "must be within 10 and 1000", "config-linux.md: from 10 to 1000"),
        (
            r"linux\.resources\.blockIO\.weightDevice.*",
            "must have weight or leafWeight",
            "config-linux.md: at least one",
        ),
        (r"linux\.resources\.pids\.limit", "must be a number of tasks", "-1 is unlimited; less is nothing"),
        (
            r"linux\.resources\.rdma.*",
            "must have hcaHandles or hcaObjects",
            "config-linux.md: at least one MUST be given",
        ),
        (
            r"linux\.resources\.unified.*",
            "must be a file name|must be in the form",
            "config-linux.md: a file of cgroup v2",
        ),
    )
)
"""What the schema takes and ocirt does not."""

LAXER: Final = tuple(
    Difference(*row)
    for row in (
        (
            r"linux\.rootfsPropagation",
            "is not one of",
            "runc takes the recursive forms too, and engines write rprivate and rslave",
        ),
        (
            r"linux\.devices\[\d+\]\.fileMode",
            "is greater than the maximum",
            "engines write st_mode as stat(2) gives it, with the file's type and the sticky bits",
        ),
        (
            r"linux\.seccomp(\.defaultAction)?",
            "'defaultAction' is a required property|'' is not one of",
            "without an action and without rules it asks for nothing; runc reads it so, and engines send it",
        ),
        (r"(freebsd|solaris|vm|windows|zos)\b.*", "", "other platforms' own: kept and written back, not read"),
        (r"process\.user\.username", "", "Windows' own: kept and written back, not read"),
    )
)
"""What ocirt takes and the schema does not."""


def explained(differences: tuple[Difference, ...], path: str, words: str) -> Difference | None:
    """Why one side alone tells this."""
    for row in differences:
        if re.fullmatch(row.path, path) and re.search(row.words, words):
            return row
    return None
