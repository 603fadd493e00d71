"""Who we are to a registry is found where podman and docker keep it, and told to nobody else."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocirt.errors import ImageError
from ocirt.image.auth import DOCKER, Credentials, find
from ocirt.image.challenges import Challenge, parse
from ocirt.image.reference import Reference
from ocirt.image.transport import Access

pytestmark = pytest.mark.usefixtures("home")

SECRET = "s3cret"
APP = Reference.parse("registry.example/team/app")
DEBIAN = Reference.parse("debian")


def auth(username: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def username(reference: Reference, access: Access | None = None) -> str | None:
    found = find(reference, access or Access())
    return found.username if found else None


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "test") -> None:
    """A credential helper, as a script of the shell, alone in PATH but for the shell's programs."""
    path = write(directory / "bin" / f"docker-credential-{name}", f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_nobody_is_nobody() -> None:
    assert find(APP, Access()) is None


def test_files_are_read_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = [
        home / ".docker/config.json",
        home / ".config/containers/auth.json",
        home / "run/containers/auth.json",
    ]
    write(home / ".dockercfg", {"https://registry.example/v1/": auth("dockercfg")})
    assert username(APP) == "dockercfg"
    for path in places:  # each before the one before it
        write(path, {"auths": {"registry.example": auth(path.parent.name + path.name)}})
        assert username(APP) == path.parent.name + path.name
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write(tmp_path / "a", {"auths": {"registry.example": auth("a")}})))
    assert username(APP) == "a"
    chosen = Access(auth_file=write(tmp_path / "b", {"auths": {"registry.example": auth("b")}}))
    assert username(APP, chosen) == "b"
    assert username(DEBIAN, chosen) is None
    assert find(APP, Access("c", SECRET, auth_file=tmp_path / "none")) == Credentials("c", SECRET)


def test_a_file_without_the_registry_is_no_end(home: Path) -> None:
    write(home / "run/containers/auth.json", {"auths": {"other.example": auth("other")}})
    write(home / ".config/containers/auth.json", "")
    write(home / ".docker/config.json", {"auths": {"registry.example": auth("docker")}, "psFormat": "x"})
    assert username(APP) == "docker"


def test_docker_may_have_another_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "d/config.json", {"auths": {"registry.example": auth("moved")}})
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "d"))
    assert username(APP) == "moved"


def test_the_most_specific_key_counts(tmp_path: Path) -> None:
    keys = ["registry.example/team/app", "registry.example/team", "registry.example", "https://registry.example/v2/"]
    for first in range(len(keys)):
        auths = {key: auth(key) for key in reversed(keys[first:])}
        assert username(APP, Access(auth_file=write(tmp_path / "f", {"auths": auths}))) == _up_to_colon(keys[first])
    other = {"registry.example/team/ap": auth("x"), "registry.example/te": auth("x"), "registry.example:443": auth("x")}
    assert username(APP, Access(auth_file=write(tmp_path / "f", {"auths": other}))) is None


def _up_to_colon(text: str) -> str:
    return text.partition(":")[0]


@pytest.mark.parametrize(
    "key", [DOCKER, "docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/library", "https://docker.io"]
)
def test_docker_io_has_many_names(tmp_path: Path, key: str) -> None:
    assert username(DEBIAN, Access(auth_file=write(tmp_path / "f", {"auths": {key: auth("it")}}))) == "it"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("name", "with:colon\0\0"), Credentials("name", "with:colon")),
        ({"username": "name", "password": "p"}, Credentials("name", "p")),
        ({**auth("name", ""), "identitytoken": "t"}, Credentials("name", "t", "identity")),
        ({"identitytoken": "t"}, Credentials("<token>", "t", "identity")),
        ({"registrytoken": "t"}, Credentials("<token>", "t", "bearer")),
        ({"email": "me@registry.example"}, None),
        ({}, None),
    ],
)
def test_kinds_of_entries(tmp_path: Path, entry: object, expected: Credentials | None) -> None:
    path = write(tmp_path / "f", {"auths": {"registry.example": entry}})
    assert find(APP, Access(auth_file=path)) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f'{{"auths": {{"registry.example": {{"auth": "{SECRET}"', "is not JSON"),
        ([SECRET], "is no JSON object"),
        ({"auths": [SECRET]}, "auths must be an object"),
        ({"auths": {"registry.example": SECRET}}, "must be an object"),
        ({"auths": {"registry.example": {"auth": f"{SECRET}!"}}}, "is not the base64 of name:password"),
        ({"auths": {"registry.example": {"auth": base64.b64encode(SECRET.encode()).decode()}}}, "is not the base64"),
        ({"auths": {"registry.example": {"password": [SECRET]}}}, "password must be a string"),
        ({"auths": {"registry.example": {"registrytoken": f"{SECRET}\r\nX: y"}}}, "registrytoken is no token"),
        ({"credHelpers": {"registry.example": [SECRET]}}, "must be a string"),
        ({"credsStore": {"x": SECRET}}, "credsStore must be a string"),
    ],
)
def test_a_broken_file_is_told_without_what_it_holds(tmp_path: Path, value: object, reason: str) -> None:
    path = write(tmp_path / "f", value)
    with pytest.raises(ImageError, match=reason) as caught:
        find(APP, Access(auth_file=path))
    assert str(path) in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).partition("ImageError")[2]
    assert caught.value.__cause__ is None


def test_a_file_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such auth file"):
        find(APP, Access(auth_file=tmp_path / "none"))


def test_secrets_are_not_shown() -> None:
    shown = f"{Credentials('me', SECRET)!r} {Access('me', SECRET)!r}"
    assert "me" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("reference", "config", "server"),
    [
        (APP, {"credHelpers": {"registry.example": "test"}}, "registry.example"),
        (APP, {"credsStore": "test", "auths": {"registry.example": {}}}, "registry.example"),
        (DEBIAN, {"credHelpers": {"docker.io": "test"}}, DOCKER),
        (DEBIAN, {"credHelpers": {DOCKER: "test"}}, DOCKER),
        (DEBIAN, {"credsStore": "test"}, DOCKER),
    ],
)
def test_a_helper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Reference, config: Mapping[str, object], server: str
) -> None:
    answer = '{"ServerURL": "x", "Username": "%s", "Secret": "%s"}'
    helper(tmp_path, monkeypatch, f"""test "$*" = get && printf '{answer}' "$(cat)" {SECRET}""")
    assert find(reference, Access(auth_file=write(tmp_path / "f", config))) == Credentials(server, SECRET)


def test_a_helper_may_have_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """cat >&2; echo '{"Username": "<token>", "Secret": "t"}'""")
    access = Access(auth_file=write(tmp_path / "f", {"credsStore": "test"}))
    assert find(APP, access) == Credentials("<token>", "t", "identity")


def test_an_entry_with_a_secret_is_before_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "exit 1")
    path = write(tmp_path / "f", {"credsStore": "test", "auths": {"registry.example": auth("entry")}})
    assert username(APP, Access(auth_file=path)) == "entry"


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_a_helper_that_knows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    helper(tmp_path, monkeypatch, f"echo credentials not found in native keychain {stream}; exit 1")
    assert find(APP, Access(auth_file=write(tmp_path / "f", {"credsStore": "test"}))) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo locked; exit 3", r"docker-credential-test: failed \(3\): 'locked'"),
        (f"echo {SECRET}", "docker-credential-test: is not JSON"),
        (f"""echo '["{SECRET}"]'""", "is no JSON object"),
        (f"""echo '{{"Username": 1, "Secret": "{SECRET}"}}'""", "Username must be a string"),
        (f"echo {SECRET}; exec sleep 1000", "has not answered within 0.5 seconds"),
    ],
)
def test_a_broken_helper_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str) -> None:
    helper(tmp_path, monkeypatch, script)
    timeout = 0.5 if "sleep" in script else 60
    with pytest.raises(ImageError, match=reason) as caught:
        find(APP, Access(auth_file=write(tmp_path / "f", {"credsStore": "test"}), timeout=timeout))
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "-x", "a b", "a\0b"])
def test_helpers_have_plain_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    helper(tmp_path, monkeypatch, f"touch {tmp_path}/ran")
    access = Access(auth_file=write(tmp_path / "f", {"credHelpers": {"registry.example": name}}))
    with pytest.raises(ImageError, match="is no name of a credential helper"):
        find(APP, access)
    assert not (tmp_path / "ran").exists()


def test_a_helper_that_is_not_there(tmp_path: Path) -> None:
    access = Access(auth_file=write(tmp_path / "f", {"credsStore": "no-such"}))
    with pytest.raises(ImageError, match=r"docker-credential-no-such: .* not in PATH"):
        find(APP, access)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("basic", [Challenge("basic", {})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push repository:b:pull"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push repository:b:pull"},
                )
            ],
        ),
        (
            r'Negotiate, NTLM abc==, Basic realm="a, \"b\" \\", Bearer realm = x , error=insufficient_scope',
            [
                Challenge("negotiate", {}),
                Challenge("ntlm", {}),
                Challenge("basic", {"realm": 'a, "b" \\'}),
                Challenge("bearer", {"realm": "x", "error": "insufficient_scope"}),
            ],
        ),
        (", ,Basic realm=x,,", [Challenge("basic", {"realm": "x"})]),
        ("", []),
    ],
)
def test_challenges(text: str, expected: list[Challenge]) -> None:
    assert list(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        'Bearer realm="x',
        'Bearer realm="x"y',
        'Bearer realm="x" service="y"',
        'Bearer realm="x",realm="y"',
        "Bearer realm=https://a/t",
        'Bearer realm="x\x01"',
        'Bearer "x"',
        "=x",
        f'Bearer realm="{"x" * 20000}"',
    ],
)
def test_broken_challenges_are_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match=r"is broken|twice|too long"):
        parse(text)
