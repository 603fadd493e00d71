"""Every command of ocirt and every flag: what is parsed, what is checked and what ``--help`` prints.

The names and the order are runc's, so that engines and people's fingers find them. Completions of shells and the manual
page are made of it too.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ocirt.cli.log import LEVELS
from ocirt.cli.parse import Flag, Kind

SHELLS: Final = ("bash", "zsh", "fish")

HELP: Final = Flag("help", "show help", "h", Kind.SWITCH)

GLOBALS: Final = (
    Flag("debug", "log what is done, and where an error came from", kind=Kind.SWITCH),
    Flag("log", "append log messages to this file; errors are told on standard error too", values="FILE"),
    Flag("log-format", "format of log messages: text or json", default="text", values="text json"),
    Flag("log-level", "error, warning, info or debug, which is --debug", default="error", values=" ".join(LEVELS)),
    Flag(
        "root",
        'directory of all containers\' states (default: "/run/ocirt", "$XDG_RUNTIME_DIR/ocirt" without root)',
        values="DIRECTORY",
    ),
    Flag("criu", "path of the criu program, or its name", values="FILE"),
    Flag(
        "cgroup-manager",
        "who makes cgroups: cgroupfs, systemd, or disabled to stay in the caller's",
        default="cgroupfs",
        values="cgroupfs systemd disabled",
    ),
    Flag("systemd-cgroup", "let systemd make cgroups, as --cgroup-manager=systemd", kind=Kind.SWITCH),
    Flag(
        "ignore-v1-limits", "leave out limits that cgroup version 2 does not know, instead of failing", kind=Kind.SWITCH
    ),
    Flag(
        "rootless",
        "true, false or auto; taken for runc's sake, since ocirt asks the kernel what the caller may do",
        default="auto",
        values="true false auto",
    ),
    HELP,
    Flag("version", "print the version", "v", Kind.SWITCH),
)


class Command(NamedTuple):
    """One row of the table of commands."""

    name: str
    help: str
    usage: str
    """What follows the command's name and flags."""
    run: str
    """Where it is done, as ``module.function`` of this package; imported only when it is asked for."""
    flags: tuple[Flag, ...] = ()
    least: int = 0
    most: int | None = None
    """How many arguments it takes; ``None`` is no limit."""
    stops: bool = False
    """Its flags end at the first argument, because the others may look like flags."""
    failure: str = ""
    """Begins the message of every error of this command."""
    status: int = 1
    """What it exits with on an error of ours."""
    offers: tuple[str, ...] = ("CONTAINER",)
    """What a shell offers for each argument, as ``Flag.values``."""
    example: str = ""
    """Lines of a shell, for its help."""


BUNDLE: Final = Flag("bundle", "the bundle's directory", "b", default=".", values="DIRECTORY")
PID_FILE: Final = Flag("pid-file", "write the process's pid to this file", values="FILE")
CONSOLE: Final = Flag("console-socket", "send the terminal's master side to this AF_UNIX socket", values="FILE")
PIDFD: Final = Flag("pidfd-socket", "send a pidfd of the process to this AF_UNIX socket", values="FILE")
DETACH: Final = Flag("detach", "leave the process running and return", "d", Kind.SWITCH)
PRESERVE: Final = Flag(
    "preserve-fds", "hand on that many descriptors after the streams (and LISTEN_FDS)", "", Kind.NUMBER, "0"
)
FORMAT: Final = Flag("format", "table or json", "f", default="table", values="table json")

CREATION: Final = (
    BUNDLE,
    Flag("config", "the configuration, instead of config.json in the bundle", "f", values="FILE"),
    CONSOLE,
    PIDFD,
    PID_FILE,
    Flag("no-pivot", "do without pivot_root(2), which an initramfs does not allow; less safe", kind=Kind.SWITCH),
    Flag("no-new-keyring", "leave the container the caller's session keyring", kind=Kind.SWITCH),
    PRESERVE,
)
LIMITS: Final = (
    Flag(
        "resources",
        "read them from this JSON file, as linux.resources has them; - for standard input",
        "r",
        values="FILE",
    ),
    Flag("blkio-weight", "weight of block devices, 10 to 1000", kind=Kind.NUMBER),
    Flag("cpu-period", "period of the CPU quota, in microseconds"),
    Flag("cpu-quota", "CPU time in each period, in microseconds"),
    Flag("cpu-burst", "unused CPU time that may be kept for later periods, in microseconds"),
    Flag("cpu-share", "CPU shares, relative to others"),
    Flag("cpu-rt-period", "period of the real-time budget, in microseconds (cgroup version 1)"),
    Flag("cpu-rt-runtime", "real-time budget in each period, in microseconds (cgroup version 1)"),
    Flag("cpuset-cpus", "CPUs to use, 0-3,7 for example"),
    Flag("cpuset-mems", "memory nodes to use"),
    Flag("cpu-idle", "1 to run only when nobody else wants to, or 0"),
    Flag("memory", "limit of memory: bytes, 512M, or -1"),
    Flag("memory-reservation", "memory that is left to it when others need some"),
    Flag("memory-swap", "limit of memory and swap together"),
    Flag("kernel-memory", "limit of kernel memory (cgroup version 1, old kernels)", hidden=True),
    Flag("kernel-memory-tcp", "limit of TCP's buffers (cgroup version 1)", hidden=True),
    Flag("pids-limit", "how many tasks, or -1", kind=Kind.NUMBER),
    Flag("l3-cache-schema", "Intel RDT: parts of the L3 cache"),
    Flag("mem-bw-schema", "Intel RDT: memory bandwidth"),
)
SUBREAPER: Final = Flag(
    "no-subreaper", "do not adopt the container's orphans while it is in the foreground", kind=Kind.SWITCH
)
IMAGES: Final = (
    Flag("image-path", "directory of the checkpoint's files (default: ./checkpoint)", values="DIRECTORY"),
    Flag("work-path", "directory for CRIU's log and work files (default: the image path)", values="DIRECTORY"),
    Flag("tcp-established", "established TCP connections too", kind=Kind.SWITCH),
    Flag("ext-unix-sk", "Unix sockets whose other end is outside", kind=Kind.SWITCH),
    Flag("shell-job", "its terminal is the caller's", kind=Kind.SWITCH),
    Flag("file-locks", "file locks too", kind=Kind.SWITCH),
    Flag(
        "manage-cgroups-mode",
        "what CRIU does about cgroups: soft, full, strict or ignore",
        values="soft full strict ignore",
    ),
    Flag("empty-ns", "make this namespace, but nothing in it (network)", repeats=True),
    Flag("auto-dedup", "drop memory from parent images once it is superseded", kind=Kind.SWITCH),
    Flag("lazy-pages", "memory comes over when it is used (userfaultfd)", kind=Kind.SWITCH),
    Flag(
        "network-lock",
        "how CRIU keeps the network still: iptables, nftables or skip",
        values="iptables nftables skip",
    ),
)

COMMANDS: Final = (
    Command(
        "checkpoint",
        "write a running container's processes to files",
        "<container-id>",
        "checkpoint.checkpoint",
        (
            *IMAGES,
            Flag("parent-path", "an earlier checkpoint or pre-dump, relative to the image path", values="DIRECTORY"),
            Flag("leave-running", "let it go on afterwards", kind=Kind.SWITCH),
            Flag("pre-dump", "write its memory alone, and let it go on", kind=Kind.SWITCH),
            Flag("tcp-skip-in-flight", "leave out TCP connections that are being made", kind=Kind.SWITCH),
            Flag("link-remap", "make links for open files that have been deleted", kind=Kind.SWITCH),
            Flag("page-server", "send memory to ADDRESS:PORT"),
            Flag("status-fd", "write a NUL to this descriptor when lazy pages can be asked for", "", Kind.NUMBER),
        ),
        1,
        1,
    ),
    Command(
        "completion",
        "print the completions of a shell",
        "bash|zsh|fish",
        "completion.completion",
        (),
        1,
        1,
        offers=(" ".join(SHELLS),),
        example="ocirt completion bash > /usr/share/bash-completion/completions/ocirt\n"
        "ocirt completion zsh > /usr/share/zsh/site-functions/_ocirt\n"
        "ocirt completion fish > /usr/share/fish/vendor_completions.d/ocirt.fish",
    ),
    Command(
        "create",
        "create a container, which then waits for start",
        "<container-id>",
        "lifecycle.create",
        (*CREATION, SUBREAPER),
        1,
        1,
        failure="ocirt create failed: ",
        offers=(),
        example="ocirt create --bundle /srv/web --pid-file /run/web.pid web\nocirt start web",
    ),
    Command(
        "delete",
        "remove a container and all that belongs to it",
        "<container-id>",
        "lifecycle.delete",
        (Flag("force", "kill it first if it runs (SIGKILL)", "f", Kind.SWITCH),),
        1,
        1,
    ),
    Command(
        "events",
        "show what a container uses, every few seconds, and when memory runs out, as JSON",
        "<container-id>",
        "events.events",
        (
            Flag("interval", "how long to wait between two looks", kind=Kind.DURATION, default="5s"),
            Flag("stats", "show what it uses now, and nothing more", kind=Kind.SWITCH),
        ),
        1,
        1,
    ),
    Command(
        "exec",
        "execute one more process in a running container",
        "<container-id> <command> [arguments...]  ||  -p process.json <container-id>",
        "execution.execute",
        (
            CONSOLE,
            PIDFD,
            Flag("cwd", "working directory in the container"),
            Flag("env", "set an environment variable: NAME=value", "e", repeats=True),
            Flag("tty", "give it a terminal", "t", Kind.SWITCH),
            Flag("user", "<uid>[:<gid>], in numbers", "u"),
            Flag("additional-gids", "one more group, by number", "g", Kind.NUMBER, repeats=True),
            Flag("process", "read the whole process from this JSON file", "p", values="FILE"),
            DETACH,
            PID_FILE,
            Flag("process-label", "SELinux label of the process"),
            Flag("apparmor", "AppArmor profile of the process"),
            Flag("no-new-privs", "set no_new_privs, or not", kind=Kind.SWITCH),
            Flag("cap", "add a capability", "c", repeats=True),
            PRESERVE,
            Flag("cgroup", "a cgroup below the container's: [<controller>[,<controller>...]:]<path>", repeats=True),
            Flag("ignore-paused", "wait for a paused container instead of failing", kind=Kind.SWITCH),
            SUBREAPER,
        ),
        1,
        stops=True,
        failure="exec failed: ",
        status=255,
        example="ocirt exec -t web sh\nocirt exec -u 1000:1000 -e LANG=C --cwd /srv web ls -l",
    ),
    Command(
        "features", "show what this ocirt can do on this kernel, as JSON", "", "query.features", (), 0, 0, offers=()
    ),
    Command(
        "kill",
        "send a signal (default: SIGTERM) to the container's init",
        "<container-id> [signal]",
        "lifecycle.kill",
        (Flag("all", "send it to all processes of the container", "a", Kind.SWITCH),),
        1,
        2,
        stops=True,
        offers=("CONTAINER", "SIGNAL"),
        example="ocirt kill web\nocirt kill web HUP\nocirt kill web 9",
    ),
    Command(
        "list",
        "list the containers of one root",
        "",
        "query.list_containers",
        (FORMAT, Flag("quiet", "show the ids only", "q", Kind.SWITCH)),
        0,
        0,
        offers=(),
    ),
    Command(
        "man",
        "print the manual page ocirt(1)",
        "",
        "manual.manual",
        (),
        0,
        0,
        offers=(),
        example="ocirt man | man -l -",
    ),
    Command("pause", "stop all processes of a container", "<container-id>", "control.pause", (), 1, 1),
    Command(
        "plan",
        "print what create would do for a bundle",
        "<bundle>",
        "query.plan",
        (),
        1,
        1,
        offers=("DIRECTORY",),
    ),
    Command(
        "ps",
        "show a container's processes",
        "<container-id> [ps options]",
        "query.ps",
        (FORMAT,),
        1,
        stops=True,
        example="ocirt ps web\nocirt ps web -o pid,rss,args",
    ),
    Command(
        "restore",
        "make a container of a checkpoint; wait for its end and delete it, unless detached",
        "<container-id>",
        "checkpoint.restore",
        (
            *IMAGES,
            BUNDLE,
            CONSOLE,
            DETACH,
            PID_FILE,
            SUBREAPER,
            Flag("no-pivot", "do not use pivot_root(2) (not supported)", kind=Kind.SWITCH),
            Flag("tcp-close", "close TCP connections that were established", kind=Kind.SWITCH),
            Flag("lsm-profile", "give its processes this profile: TYPE:NAME"),
            Flag("lsm-mount-context", "give its mounts this SELinux label"),
        ),
        1,
        1,
    ),
    Command("resume", "let a paused container go on", "<container-id>", "control.resume", (), 1, 1),
    Command(
        "run",
        "create and start a container; wait for its end and delete it, unless detached",
        "<container-id>",
        "lifecycle.run",
        (*CREATION, DETACH, Flag("keep", "do not delete it at the end", kind=Kind.SWITCH), SUBREAPER),
        1,
        1,
        failure="ocirt run failed: ",
        offers=(),
        example="cd bundle && ocirt spec && ocirt run demo\nocirt run --detach --bundle /srv/web web",
    ),
    Command(
        "spec",
        "write a new config.json",
        "",
        "query.spec",
        (
            BUNDLE,
            Flag("rootless", "one for a rootless container", kind=Kind.SWITCH),
            Flag(
                "from-docker-inspect",
                "one for the container of which docker inspect has written this file; - for standard input",
                values="FILE",
            ),
        ),
        0,
        0,
        offers=(),
        example="docker inspect web | ocirt spec --from-docker-inspect -",
    ),
    Command("start", "run the program of a created container", "<container-id>", "lifecycle.start", (), 1, 1),
    Command("state", "show a container's state as JSON", "<container-id>", "query.state", (), 1, 1),
    Command(
        "update",
        "change a container's limits",
        "<container-id>",
        "control.update",
        LIMITS,
        1,
        1,
        example="ocirt update --memory 512M --pids-limit 100 web\n"
        'echo \'{"cpu": {"quota": 50000}}\' | ocirt update -r - web',
    ),
)
