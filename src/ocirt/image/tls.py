"""Whom we believe to be a registry: by the system's authorities, a caller's, and certs.d (containers-certs.d(5))."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from ocirt.errors import ImageError
from ocirt.image.transport import Access

DIRECTORIES: Final = ("/etc/containers/certs.d", "/etc/docker/certs.d")
"""After the user's own, in ``~/.config``."""


def context(access: Access, host: str, registry: str) -> ssl.SSLContext:
    """For ``host`` (with its port, if that is not HTTPS's), which is the registry or what that has sent us to.

    A registry's authorities are believed for both (containers/image); its client certificate is for itself alone.
    """
    made = ssl.create_default_context() if access.verify else _unverified()
    # As every other client of registries has it: a certificate may be trusted itself, whoever signed it, and a private
    # authority need not have all extensions of RFC 5280, which Python asks for from 3.13 on.
    made.verify_flags = (made.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    if access.ca is not None:
        _trust(made, os.fspath(access.ca))
    for name in dict.fromkeys((registry, host)):
        for path in sorted(_directory(name).glob("*.crt")):
            _trust(made, str(path))
    for certificate, key in _client_certificates(_directory(host)):
        _load(certificate, partial(made.load_cert_chain, certificate, key, password=_no_password))
    return made


def _unverified() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _trust(made: ssl.SSLContext, path: str) -> None:
    _load(path, partial(made.load_verify_locations, path))


def _load(path: object, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "is no certificate"
        raise ImageError(str(path), f"cannot be used as a certificate: {reason}") from error


def _no_password() -> str:
    """Without this, OpenSSL asks on the terminal."""
    return ""


def _directory(host: str) -> Path:
    """The first that is there; or one that is not."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    places = [Path(place, host) for place in (f"{config}/containers/certs.d", *DIRECTORIES)]
    return next((place for place in places if place.is_dir()), places[-1])


def _client_certificates(directory: Path) -> Iterator[tuple[Path, Path]]:
    """``NAME.cert`` and ``NAME.key``, of which neither is of use alone."""
    stems = {path.with_suffix("") for suffix in (".cert", ".key") for path in directory.glob(f"*{suffix}")}
    for stem in sorted(stems):
        certificate, key = stem.with_name(f"{stem.name}.cert"), stem.with_name(f"{stem.name}.key")
        for path, other in ((certificate, key), (key, certificate)):
            if not path.exists():
                raise ImageError(str(other), f"is of no use without {path.name} beside it")
        yield certificate, key
