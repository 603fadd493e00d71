"""An image is made of this host's busybox, run, changed, and run again; nothing of it needs a network.

As root or as an ordinary user: ``python examples/images.py``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import ocirt
from ocirt.image import ContainerConfig, Image, Store


def main() -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("needs a static busybox (Debian: apt-get install busybox-static)")
    with tempfile.TemporaryDirectory() as directory:
        show(Path(directory), Path(busybox))


def show(work: Path, busybox: Path) -> None:
    rootfs = work / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy(busybox, rootfs / "bin/busybox")
    (rootfs / "bin/sh").symlink_to("busybox")
    (rootfs / "etc").mkdir()
    (rootfs / "etc/motd").write_text("hello from an image\n")

    config = ContainerConfig(entrypoint=("busybox",), cmd=("cat", "/etc/motd"), env=("PATH=/bin",))
    made = Image.from_rootfs(rootfs, f"oci:{work}/layout:first", config=config)
    print("an image of one layer:", made.descriptor.digest.algorithm, len(made.manifest.layers))

    store = Store(work / "store")
    print("run:", ocirt.run([], image=f"oci:{work}/layout:first", store=store, text=True).stdout.strip())

    with Image.open(f"oci:{work}/layout:first") as image:
        bundle = image.unpack(work / "bundle")
    (bundle.rootfs / "etc/motd").write_text("hello from its second layer\n")
    packed = Image.repack(work / "bundle", f"oci:{work}/layout:second")
    print("repacked:", len(packed.manifest.layers), "layers")
    print("run:", ocirt.run([], image=f"oci:{work}/layout:second", store=store, text=True).stdout.strip())


if __name__ == "__main__":
    main()
