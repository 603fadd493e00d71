"""Who we are to a registry: auth files and credential helpers, podman's and docker's (containers-auth.json(5)).

Secrets are in no ``repr`` and in no error: what a helper or a file has wrong is told without what it holds.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, Literal

from attrs import field, frozen

from ocirt.errors import ImageError
from ocirt.image.reference import DEFAULT_REGISTRY, Reference
from ocirt.image.transport import Access
from ocirt.spec.base import JSON
from ocirt.spec.text import NotJSON, parse

DOCKER: Final = "https://index.docker.io/v1/"
"""What docker calls docker.io where passwords are kept."""

DOCKER_NAMES: Final = frozenset(("docker.io", "index.docker.io", "registry-1.docker.io"))

TOKEN: Final = "<token>"
"""The user's name where the secret is an identity token (docker-credential-helpers)."""

MAX_FILE: Final = 4 * 1024 * 1024

_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_HEADER: Final = re.compile(r"[\x21-\x7e]+")
_NOT_FOUND: Final = "credentials not found"


@frozen
class Credentials:
    """A password, or something that an earlier login gave: an identity token to get others with, or a bearer token."""

    username: str
    secret: str = field(repr=False)
    kind: Literal["password", "identity", "bearer"] = "password"

    def basic(self) -> str:
        """As a value of Authorization (RFC 7617)."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.secret}'.encode()).decode()}"


def find(reference: Reference, access: Access) -> Credentials | None:
    """Who we are to the registry of ``reference``; nobody, unless something tells.

    :raises ImageError: something that would tell is broken.
    """
    if access.username is not None:
        return Credentials(access.username, access.password or "")
    for path, is_asked_for in _files(access):
        entries = _read(path, is_asked_for)
        found = _in_file(path, entries, reference, access.timeout)
        if found is not None:
            return found
    return None


def _files(access: Access) -> Iterator[tuple[str, bool]]:
    """Where to look, the first first, and whether a file has to be there."""
    named = access.auth_file or os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        yield os.fspath(named), True
        return
    home = os.path.expanduser("~")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    yield f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json", False
    yield f"{os.environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json", False
    yield f"{os.environ.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json", False
    yield f"{home}/.dockercfg", False


def _read(path: str, is_asked_for: bool) -> Mapping[str, JSON]:
    """What a file holds: nothing, if it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if is_asked_for:
            raise ImageError(path, "no such auth file") from error
        return {}
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error
    if not data.strip():  # made by somebody, to be filled by a login
        return {}
    value = _json(path, data)
    # ~/.dockercfg, of docker before 1.7, is what others have in "auths".
    return {"auths": value} if path.endswith("/.dockercfg") else value


def _json(where: str, data: bytes) -> dict[str, JSON]:
    """A JSON object; the error holds none of the text (json.JSONDecodeError does)."""
    reason = "is no JSON object"
    try:
        value, _ = parse(data)
    except NotJSON as error:
        value, reason = None, f"is not JSON: {error}"
    if len(data) > MAX_FILE or not isinstance(value, dict):
        raise ImageError(where, reason)
    return value


def _in_file(path: str, entries: Mapping[str, JSON], reference: Reference, timeout: float) -> Credentials | None:
    """A helper for this registry, an entry, or the helper that keeps what has no secret in its entry."""
    helpers = _object(path, "credHelpers", entries)
    for name in _hosts(reference.registry):
        helper = helpers.get(name)
        if helper is not None:
            return _ask(_text(path, f"credHelpers.{name}", helper), _server(reference.registry), timeout)
    found = _entry(path, _object(path, "auths", entries), reference)
    store = entries.get("credsStore")
    if found is None and store:
        return _ask(_text(path, "credsStore", store), _server(reference.registry), timeout)
    return found


def _entry(path: str, auths: Mapping[str, JSON], reference: Reference) -> Credentials | None:
    """The most specific one: of the repository, a namespace, the registry, the registry as docker calls it."""
    parts = reference.name.split("/")
    for count in range(len(parts), 0, -1):
        name = "/".join(parts[:count])
        if name in auths:
            return _credentials(path, name, auths[name])
    hosts = _hosts(reference.registry)
    for key, value in auths.items():
        if _host_of(key) in hosts:
            return _credentials(path, key, value)
    return None


def _host_of(key: str) -> str:
    """Of a key that may be a URL: ``https://registry.example/v1/``; a namespace is not a host."""
    scheme, colon, rest = key.partition("://")
    if not colon:
        return key
    return rest.partition("/")[0] if scheme in ("https", "http") else ""


def _hosts(registry: str) -> tuple[str, ...]:
    """All names of a registry in such files."""
    return (registry, DOCKER, *sorted(DOCKER_NAMES)) if registry == DEFAULT_REGISTRY else (registry,)


def _server(registry: str) -> str:
    """What helpers know it by."""
    return DOCKER if registry == DEFAULT_REGISTRY else registry


def _credentials(path: str, key: str, value: JSON) -> Credentials | None:
    """What an entry says; ``None`` if there is no secret in it."""
    where = f"auths[{key!r}]"
    if not isinstance(value, dict):
        raise ImageError(path, f"{where} must be an object")
    members = {
        name: _text(path, f"{where}.{name}", value.get(name) or "")
        for name in ("auth", "username", "password", "identitytoken", "registrytoken")
    }
    username, password = members["username"], members["password"]
    if members["auth"]:
        username, password = _decoded(path, where, members["auth"])
    if members["identitytoken"]:
        return Credentials(username or TOKEN, members["identitytoken"], "identity")
    if members["registrytoken"]:
        if _HEADER.fullmatch(members["registrytoken"]) is None:
            raise ImageError(path, f"{where}.registrytoken is no token")
        return Credentials(username or TOKEN, members["registrytoken"], "bearer")
    return Credentials(username, password) if username or password else None


def _decoded(path: str, where: str, text: str) -> tuple[str, str]:
    """``auth``: base64 of ``name:password``; docker fills it with NULs."""
    decoded = None
    with suppress(binascii.Error, UnicodeDecodeError):  # told below, outside of an error that holds the text
        decoded = base64.b64decode(text, validate=True).decode()
    if decoded is None or ":" not in decoded:
        raise ImageError(path, f"{where}.auth is not the base64 of name:password")
    username, _, password = decoded.partition(":")
    return username, password.rstrip("\0")


def _ask(name: str, server: str, timeout: float) -> Credentials | None:
    """What a credential helper knows of a registry (docker-credential-helpers, its ``get``)."""
    program = f"docker-credential-{name}"
    if _HELPER.fullmatch(name) is None:
        raise ImageError(repr(name), "is no name of a credential helper")
    path = shutil.which(program)
    if path is None:
        raise ImageError(program, "the auth file asks for this credential helper, and it is not in PATH")
    done = None
    try:
        done = subprocess.run([path, "get"], input=server.encode(), capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        pass  # told below, outside of an error that holds what it has said so far
    except OSError as error:
        raise ImageError(program, f"cannot be run: {error.strerror}") from error
    if done is None:
        raise ImageError(program, f"has not answered within {timeout:g} seconds")
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip()).decode("utf-8", "replace")
        if _NOT_FOUND in said.lower():
            return None
        raise ImageError(program, f"failed ({done.returncode}): {said[:200]!r}")
    answer = _json(program, done.stdout)
    username = _text(program, "Username", answer.get("Username") or "")
    secret = _text(program, "Secret", answer.get("Secret") or "")
    if not secret:
        return None
    return Credentials(username, secret, "identity" if username == TOKEN else "password")


def _object(path: str, name: str, entries: Mapping[str, JSON]) -> Mapping[str, JSON]:
    value = entries.get(name) or {}
    if not isinstance(value, dict):
        raise ImageError(path, f"{name} must be an object")
    return value


def _text(path: str, where: str, value: JSON) -> str:
    if not isinstance(value, str):
        raise ImageError(path, f"{where} must be a string")
    return value
