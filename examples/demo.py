"""What ocirt does, in seven containers on this host's own files: no image, no daemon. ``make demo`` runs it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import ocirt


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m")


def main() -> None:
    title("A program in a container of its own")
    done = ocirt.run(["sh", "-c", "echo hello from $(hostname), I am $(id -un), process $$"], text=True)
    print(done.stdout, end="")

    title("What it writes is gone afterwards, what is private was never there")
    script = "echo x > /usr/trace; ls /usr/trace; echo files in /root: $(ls -A /root | wc -l)"
    done = ocirt.run(["sh", "-c", script], text=True)
    print(done.stdout, end="")
    print("on the host:", "still there" if Path("/usr/trace").exists() else "no trace")

    title("Time is limited")
    try:
        ocirt.run(["sh", "-c", "echo started; sleep 60"], timeout=0.5)
    except subprocess.TimeoutExpired as error:
        print(error, error.output)

    title("So is memory, and what else a machine has")
    script = "x = bytearray(200 << 20); print(len(x))"
    for memory in ("300M", "64M"):
        try:
            done = ocirt.run(["python3", "-c", script], limits=ocirt.Limits(memory=memory, swap=0), text=True)
            print(f"with {memory}: {done.returncode}", done.stdout, end="" if done.stdout else "\n")
        except ocirt.OCIError as error:  # an ordinary user without a cgroup, a kernel that does not count swap
            print(error)

    title("Errors name the member of the configuration")
    try:
        ocirt.run(["no-such-program"])
    except ocirt.SetupError as error:
        print(error)
    try:
        ocirt.Spec.loads('{"ociVersion": "1.3.0", "root": {}, "process": {"cwd": "tmp", "args": []}}')
    except ocirt.SpecError as error:
        print(error)

    title("A container that stays, and commands in it")
    spec = ocirt.Spec.default(rootless=os.geteuid() != 0)
    assert spec.process is not None
    with tempfile.TemporaryDirectory() as directory:
        rootfs = make_rootfs(Path(directory))
        bundle = ocirt.Bundle.create(
            Path(directory, "bundle"),
            rootfs=rootfs,
            spec=spec.evolve(
                process=spec.process.evolve(terminal=False, args=("sleep", "60")),
                mounts=(*spec.mounts, *(ocirt.bind(path) for path in ("/usr", "/etc/alternatives"))),
            ),
        )
        with ocirt.Container.create(
            "demo", bundle, stdin=subprocess.DEVNULL, root=Path(directory, "state")
        ) as container:
            container.start()
            print(container)
            for number in range(3):
                process = container.exec(
                    ["sh", "-c", f"echo command {number}: $(hostname) $PPID"], stdout=subprocess.PIPE
                )
                output, _ = process.communicate()
                print((output or b"").decode(), end="")
        print(container)


def make_rootfs(directory: Path) -> Path:
    """Almost empty: the host's own /usr is mounted into it."""
    rootfs = directory / "rootfs"
    for name in ("dev", "etc", "proc", "sys", "usr", "tmp"):
        (rootfs / name).mkdir(parents=True)
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            (rootfs / link).symlink_to(f"usr/{link}")
    return rootfs


if __name__ == "__main__":
    main()
