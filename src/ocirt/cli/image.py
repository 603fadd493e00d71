"""The commands about images: one call of ``ocirt.image`` each, and how what came of it is told.

Progress is shown where somebody looks (``image.progress``). Results are a line for people at a terminal, and JSON for
programs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from ocirt.cli.parse import UsageError, integer

if TYPE_CHECKING:
    from ocirt.bundle import Bundle
    from ocirt.cli import Call
    from ocirt.image.conversion import Volumes
    from ocirt.image.digest import Digest
    from ocirt.image.documents import ImageConfig, Manifest, Platform
    from ocirt.image.media import Compression
    from ocirt.image.store import Pull, Store, StoredImage
    from ocirt.image.transport import Access, Raw, Report
    from ocirt.spec import IDMapping
    from ocirt.spec.base import JSON

Row: TypeAlias = "Mapping[str, JSON]"


def copy(call: Call) -> int:
    from ocirt.image.copying import copy
    from ocirt.image.progress import bars

    source, destination = call.options.arguments
    with bars() as report:
        digest = copy(
            source,
            destination,
            platform=call.options.text("platform") or None,
            all_platforms=call.options.on("all"),
            access=_access(call, "src-"),
            dst_access=_access(call, "dest-"),
            report=report,
            preserve_digests=call.options.on("preserve-digests"),
            compression=_compression(call),
        )
    _tell(call, {"name": destination, "digest": str(digest)})
    return 0


def inspect(call: Call) -> int:
    from ocirt.image.image import Image

    name = call.options.arguments[0]
    if call.options.on("stored"):
        stored = _store(call).image(name)
        return _inspected(call, stored.name, stored.raw, stored.manifest, stored.config, stored.config.dumps())
    if call.options.on("raw"):
        return _raw(call, name)
    with Image.open(name, platform=_platform(call), access=_access(call)) as image:
        return _inspected(call, image.name, image.raw, image.manifest, image.config, image.config_data)


def _raw(call: Call, name: str) -> int:
    """Also of an index, as nobody has chosen anything of it."""
    from ocirt.image.reference import Location
    from ocirt.image.transport import open_source

    with open_source(Location.parse(name), _access(call)) as source:
        return _bytes(source.manifest().data)


def _inspected(call: Call, name: str, raw: Raw, manifest: Manifest, config: ImageConfig, data: bytes) -> int:
    if call.options.on("raw"):
        return _bytes(raw.data)
    if call.options.on("config"):
        return _bytes(data)
    print(json.dumps(described(name, raw, manifest, config), indent=2, ensure_ascii=False))
    return 0


def described(name: str, raw: Raw, manifest: Manifest, config: ImageConfig) -> dict[str, JSON]:
    """What people ask of an image, in one object."""
    layers: list[JSON] = [
        {"digest": str(layer.digest), "size": layer.size, "mediaType": layer.media_type, "diffID": str(diff_id)}
        for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=False)
    ]
    run = json.loads(config.dumps()).get("config", {})
    return {
        "name": name,
        "digest": str(raw.digest),
        "mediaType": raw.media_type,
        "platform": str(config.platform),
        "created": config.created,
        "size": sum(layer.size for layer in manifest.layers),
        "layers": layers,
        "config": run,
        "annotations": dict(manifest.annotations),
    }


def list_images(call: Call) -> int:
    """Of the store, unless a place is named."""
    rows: Iterable[Row]
    place = next(iter(call.options.arguments), "")
    transport, _, rest = place.partition(":")
    if not place:
        rows = map(_stored_row, _store(call).images())
    elif transport == "oci":
        from ocirt.image import layout

        rows = [{"name": name, "digest": str(entry.digest)} for name, entry in layout.images(rest)]
    elif transport == "docker":
        from ocirt.image.registry import list_tags

        rows = [{"name": name} for name in list_tags(rest.removeprefix("//"), _access(call))]
    else:
        raise UsageError(f"{place}: only what is in an oci: layout or a docker:// repository can be listed")
    _table(call, list(rows))
    return 0


def prune(call: Call) -> int:
    if call.options.arguments:
        from ocirt.image import pruning

        transport, _, path = call.options.arguments[0].partition(":")
        if transport != "oci":
            raise UsageError(f"{call.options.arguments[0]}: only an oci: layout can be pruned, or the store")
        gone = pruning.prune(path)
        _tell(call, {"blobs": gone.blobs, "size": gone.size})
        return 0
    pruned = _store(call).prune()
    _tell(call, {"layers": list(pruned.layers), "blobs": list(pruned.blobs), "bundles": list(pruned.bundles)})
    return 0


def pull(call: Call) -> int:
    from ocirt.image.progress import bars

    policy = call.options.text("policy")
    if policy not in ("always", "missing", "never"):
        raise UsageError(f"invalid policy: {policy} (one of always, missing, never)")
    with bars() as report:
        image = _store(call).pull(
            call.options.arguments[0],
            policy=cast("Pull", policy),
            platform=_platform(call),
            access=_access(call),
            report=report,
        )
    _tell(call, _stored_row(image))
    return 0


def remove(call: Call) -> int:
    _store(call).remove(call.options.arguments[0])
    return 0


def repack(call: Call) -> int:
    from ocirt.image.image import Image
    from ocirt.image.progress import bars

    bundle, destination = call.options.arguments
    options = call.options
    with bars() as report:
        packed = Image.repack(
            bundle,
            destination,
            source=options.text("source") or None,
            access=_access(call, "src-"),
            dst_access=_access(call, "dest-"),
            compression=_compression(call) or "gzip",
            author=options.text("author") or None,
            created_by=options.text("created-by") or None,
            comment=options.text("comment") or None,
            masked=options.all("mask"),
            mask_volumes=not options.on("no-mask-volumes"),
            refresh=options.on("refresh"),
            report=report,
        )
    layer = str(packed.layer.digest) if packed.layer is not None else None
    digest = str(packed.descriptor.digest)
    _tell(call, {"name": destination, "digest": digest, "layer": layer, "changes": packed.changes})
    return 0


def unpack(call: Call) -> int:
    from ocirt.image.progress import bars

    if call.options.text("volumes") not in ("tmpfs", "seed", "ignore"):
        raise UsageError(f"invalid volumes: {call.options.text('volumes')} (one of tmpfs, seed, ignore)")
    with bars() as report:
        bundle, digest = _shared(call, report) if call.options.on("shared") else _own(call, report)
    _tell(call, {"bundle": str(bundle.path), "digest": str(digest)})
    return 0


def _shared(call: Call, report: Report | None) -> tuple[Bundle, Digest]:
    name, path = call.options.arguments
    for flag in ("rootless", "uid-map", "gid-map", "keep-dirlinks"):
        if call.options.given(flag):
            raise UsageError(f"--{flag}: shared layers are the store's, and all have them alike")
    store = _store(call)
    image = store.pull(name, policy="missing", platform=_platform(call), access=_access(call), report=report)
    return store.bundle(image, path, volumes=cast("Volumes", call.options.text("volumes"))), image.digest


def _own(call: Call, report: Report | None) -> tuple[Bundle, Digest]:
    from ocirt.image.image import Image

    name, path = call.options.arguments
    uid_map, gid_map = _mappings(call, "uid-map"), _mappings(call, "gid-map")
    with Image.open(name, platform=_platform(call), access=_access(call)) as image:
        bundle = image.unpack(
            path,
            rootless=call.options.on("rootless") if call.options.given("rootless") else None,
            uid_map=uid_map,
            gid_map=gid_map,
            keep_dirlinks=call.options.on("keep-dirlinks"),
            volumes=cast("Volumes", call.options.text("volumes")),
            report=report,
        )
        return bundle, image.digest


# What flags mean.


def _store(call: Call) -> Store:
    from ocirt.image.store import Store

    return Store(call.options.text("store") or None)


def _platform(call: Call) -> Platform | None:
    from ocirt.image import platform

    text = call.options.text("platform")
    return platform.parse(text) if text else None


def _compression(call: Call) -> Compression | None:
    text = call.options.text("compression")
    if text not in ("", "gzip", "zstd", "none"):
        raise UsageError(f"invalid compression: {text} (one of gzip, zstd, none)")
    return cast("Compression", text) if text else None


def _access(call: Call, side: str = "") -> Access:
    from ocirt.image.transport import Access

    options = call.options
    username, colon, password = options.text(f"{side}creds").partition(":")
    if options.given(f"{side}creds") and not colon:
        raise UsageError(f"--{side}creds: expected USER:PASSWORD")
    return Access(
        username=username or None,
        password=password if colon else None,
        auth_file=options.text(f"{side}authfile") or None,
        ca=options.text(f"{side}ca") or None,
        verify=options.on(f"{side}tls-verify"),
        http=options.on(f"{side}http"),
    )


def _mappings(call: Call, flag: str) -> tuple[IDMapping, ...]:
    from ocirt.spec import IDMapping

    found = []
    for text in call.options.all(flag):
        try:
            container, host, size = map(integer, text.split(":"))
        except ValueError:
            raise UsageError(f"--{flag} {text}: expected CONTAINER:HOST:COUNT") from None
        found.append(IDMapping(container, host, size))
    return tuple(found)


# How it is told.


def _stored_row(image: StoredImage) -> Row:
    return {
        "name": image.name,
        "digest": str(image.digest),
        "platform": str(image.config.platform),
        "created": image.config.created,
        "size": sum(layer.size for layer in image.manifest.layers),
    }


def _for_people(call: Call) -> bool:
    chosen = call.options.text("format")
    if chosen not in ("", "table", "json"):
        raise UsageError("invalid format option")
    return chosen == "table" or (not chosen and sys.stdout.isatty())


def _tell(call: Call, result: Row) -> None:
    """One result."""
    if not _for_people(call):
        print(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in (None, ""):
            print(f"{name}: {shown}")


def _table(call: Call, rows: Sequence[Row]) -> None:
    if not _for_people(call):
        print(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        return
    texts = [[name.upper() for name in rows[0]], *([str(value or "") for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _bytes(data: bytes) -> int:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    return 0
