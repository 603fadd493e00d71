"""The commands about images: rows of the table (``table``) whose names are two words."""

from __future__ import annotations

from typing import Final

from ocirt.cli.parse import Flag, Kind
from ocirt.cli.rows import Command

FORMAT: Final = Flag(
    "format", "table or json (default: a table for a terminal, otherwise JSON)", "f", values="table json"
)
STORE: Final = Flag(
    "store",
    'directory of images and their layers (default: "/var/lib/ocirt", without root "$XDG_DATA_HOME/ocirt")',
    values="DIRECTORY",
)
PLATFORM: Final = Flag("platform", "which image of an index: OS/ARCHITECTURE[/VARIANT] (default: this machine's)")
COMPRESSION: Final = Flag("compression", "of layers: gzip, zstd or none", "", values="gzip zstd none")
LAYOUT: Final = "FILE"
"""Names of images are not offered; that paths of layouts and archives are is the most that a shell can do."""


def access(side: str = "", of: str = "the registry") -> tuple[Flag, ...]:
    """How a place is reached."""
    return (
        Flag(f"{side}creds", f"user and password for {of}: USER:PASSWORD"),
        Flag(f"{side}authfile", f"file with passwords for {of}, instead of the usual ones", values="FILE"),
        Flag(f"{side}ca", f"file of certificate authorities for {of}, besides the system's", values="FILE"),
        Flag(f"{side}tls-verify", f"verify the certificate of {of}", "", Kind.SWITCH, "true"),
        Flag(f"{side}http", f"speak to {of} without TLS", kind=Kind.SWITCH),
    )


IMAGE_COMMANDS: Final = (
    Command(
        "image copy",
        "copy an image from one place to another",
        "<source> <destination>",
        "image.copy",
        (
            Flag("all", "all images of an index, instead of the one for a platform", "a", Kind.SWITCH),
            PLATFORM,
            COMPRESSION,
            Flag("preserve-digests", "fail instead of changing the manifest", kind=Kind.SWITCH),
            *access("src-", "the source"),
            *access("dest-", "the destination"),
            FORMAT,
        ),
        2,
        2,
        offers=(LAYOUT, LAYOUT),
        example="ocirt image copy docker://debian:12 oci:images:debian\n"
        "ocirt image copy oci:images:debian docker-archive:debian.tar:debian:12",
    ),
    Command(
        "image inspect",
        "show what an image is, as JSON",
        "<image>",
        "image.inspect",
        (
            PLATFORM,
            Flag("raw", "its manifest or index, as it is", kind=Kind.SWITCH),
            Flag("config", "its configuration, as it is", kind=Kind.SWITCH),
            Flag("stored", "the one that is in the store", kind=Kind.SWITCH),
            STORE,
            *access(),
        ),
        1,
        1,
        offers=(LAYOUT,),
    ),
    Command(
        "image list",
        "show the images of the store, or the names in a layout or repository",
        "[oci:<directory> | docker://<repository>]",
        "image.list_images",
        (STORE, *access(), FORMAT),
        0,
        1,
        offers=(LAYOUT,),
    ),
    Command(
        "image prune",
        "remove what no image and no bundle needs, of the store or of a layout",
        "[oci:<directory>]",
        "image.prune",
        (STORE, FORMAT),
        0,
        1,
        offers=(LAYOUT,),
    ),
    Command(
        "image pull",
        "have an image in the store, with its layers unpacked",
        "<image>",
        "image.pull",
        (
            PLATFORM,
            Flag("policy", "always, if it is missing, or never", default="always", values="always missing never"),
            STORE,
            *access(),
            FORMAT,
        ),
        1,
        1,
        offers=(LAYOUT,),
        example="ocirt image pull debian:12",
    ),
    Command(
        "image remove",
        "forget an image of the store; prune removes what it alone had",
        "<image>",
        "image.remove",
        (STORE,),
        1,
        1,
        offers=(),
    ),
    Command(
        "image repack",
        "write an image of what a bundle has become since it was unpacked",
        "<bundle> <destination>",
        "image.repack",
        (
            Flag("source", "where the image is that it was unpacked from (default: the destination)"),
            COMPRESSION,
            Flag("author", "who made it"),
            Flag("created-by", "how it was made, for its history"),
            Flag("comment", "for its history"),
            Flag("mask", "leave out this path", repeats=True),
            Flag("no-mask-volumes", "do not leave out what is in the image's volumes", kind=Kind.SWITCH),
            Flag("refresh", "the next repack is on top of this one", kind=Kind.SWITCH),
            *access("src-", "the source"),
            *access("dest-", "the destination"),
            FORMAT,
        ),
        2,
        2,
        offers=("DIRECTORY", LAYOUT),
        example="ocirt image repack bundle oci:images:changed",
    ),
    Command(
        "image unpack",
        "make a bundle of an image",
        "<image> <bundle>",
        "image.unpack",
        (
            PLATFORM,
            Flag("rootless", "all files are the caller's; whose they should be is noted", kind=Kind.SWITCH),
            Flag("uid-map", "user IDs: CONTAINER:HOST:COUNT", repeats=True),
            Flag("gid-map", "group IDs: CONTAINER:HOST:COUNT", repeats=True),
            Flag("keep-dirlinks", "keep a symlink to a directory where a layer has a directory", kind=Kind.SWITCH),
            Flag("volumes", "what volumes become", default="tmpfs", values="tmpfs seed ignore"),
            Flag("shared", "on layers of the store, which other bundles share", kind=Kind.SWITCH),
            STORE,
            *access(),
            FORMAT,
        ),
        2,
        2,
        offers=(LAYOUT, "DIRECTORY"),
        example="ocirt image unpack debian:12 bundle\nocirt run --bundle bundle demo",
    ),
)
