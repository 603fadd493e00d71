"""``ocirt image``: an image comes, runs, changes and goes again."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from ocirt.image.progress import bars
from ocirt.image.transport import Progress
from tests.cli.commands import Commands
from tests.image.support import TAG, busybox_layout, need, skopeo
from tests.support import SECONDS

pytestmark = pytest.mark.root


@pytest.fixture
def image(tmp_path: Path) -> str:
    layout = busybox_layout(tmp_path / "layout", config={"Cmd": ["echo", "from the image"], "Env": ["A=b"]})
    return f"oci:{layout}:{TAG}"


def told(commands: Commands, *words: str) -> dict[str, object]:
    """What a command said in JSON, since nobody looks."""
    said = json.loads(commands.run("image", *words))
    assert isinstance(said, dict)
    return said


def test_an_image_becomes_a_bundle_that_runs(commands: Commands, image: str, tmp_path: Path) -> None:
    bundle = tmp_path / "unpacked"
    said = told(commands, "unpack", image, str(bundle))
    assert said == {"bundle": str(bundle), "digest": told(commands, "inspect", image)["digest"]}
    assert commands.run("run", "--bundle", str(bundle), commands.id) == "from the image\n"


def test_bundles_share_the_layers_of_the_store(commands: Commands, image: str, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    pulled = told(commands, "pull", *store, image)
    assert json.loads(commands.run("image", "list", *store)) == [pulled]
    for name in ("one", "two"):
        told(commands, "unpack", "--shared", *store, image, str(tmp_path / name))
    assert commands.run("run", "--bundle", str(tmp_path / "two"), commands.id) == "from the image\n"
    commands.run("image", "remove", *store, image)
    assert told(commands, "prune", *store)["layers"] == []  # the bundles need them
    for name in ("one", "two"):
        subprocess.run(["rm", "-r", str(tmp_path / name)], check=True)
    assert told(commands, "prune", *store)["layers"] != []
    assert json.loads(commands.run("image", "list", *store)) == []


def test_what_a_container_changed_is_an_image_again(commands: Commands, image: str, tmp_path: Path) -> None:
    bundle, layout = tmp_path / "unpacked", image.rpartition(":")[0]
    told(commands, "unpack", image, str(bundle))
    (bundle / "rootfs/news").write_text("new\n")
    said = told(commands, "repack", "--author", "somebody", str(bundle), f"{layout}:changed")
    assert said["changes"] == 2  # the file, and its directory's time
    assert {row["name"] for row in json.loads(commands.run("image", "list", layout))} == {TAG, "changed"}
    again = tmp_path / "again"
    told(commands, "unpack", f"{layout}:changed", str(again))
    assert (again / "rootfs/news").read_text() == "new\n"
    config = json.loads(commands.run("image", "inspect", "--config", f"{layout}:changed"))
    assert config["history"][-1]["author"] == "somebody"


def test_a_copy_is_what_others_read(commands: Commands, image: str, tmp_path: Path) -> None:
    need("skopeo")
    archive = f"docker-archive:{tmp_path / 'image.tar'}"
    told(commands, "copy", image, f"{archive}:example/app:1")
    assert json.loads(skopeo("inspect", archive))["Env"] == ["A=b"]


def test_an_image_is_shown_as_it_is(commands: Commands, image: str) -> None:
    shown = told(commands, "inspect", image)
    raw = json.loads(commands.run("image", "inspect", "--raw", image))
    assert [layer["digest"] for layer in raw["layers"]] == [
        layer["digest"]
        for layer in shown["layers"]  # type: ignore[attr-defined]  # it is a list
    ]
    assert shown["config"]["Cmd"] == ["echo", "from the image"]  # type: ignore[index]  # an object


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pull", "oci:/nowhere:x"), "nowhere"),
        (("pull", "--policy", "perhaps", "debian"), "invalid policy: perhaps"),
        (("copy", "--src-creds", "me", "debian", "oci:x:y"), "--src-creds: expected USER:PASSWORD"),
        (("unpack", "--uid-map", "0:1", "oci:x:y", "b"), "--uid-map 0:1: expected CONTAINER:HOST:COUNT"),
        (("unpack", "--shared", "--rootless", "oci:x:y", "b"), "--rootless: shared layers are the store's"),
        (("list", "sif:x"), "can be listed"),
        (("prune", "docker://x"), "can be pruned"),
        (("unpack", "oci:x:y"), "requires exactly 2 argument(s)"),
    ],
)
def test_what_is_wrong_is_told(commands: Commands, words: tuple[str, ...], message: str) -> None:
    done = commands.tried("image", *words, *(("--store", str(commands.root)) if words[0] == "pull" else ()))
    assert done.returncode == 1
    assert message in done.stderr


def test_what_there_is_says_help(commands: Commands) -> None:
    for words in (("image",), ("image", "--help"), ("help", "image")):
        assert "image unpack" in commands.run(*words)
    assert "ocirt image pull [command options] <image>" in commands.run("image", "pull", "--help")
    assert "ocirt image pull [command options] <image>" in commands.run("help", "image", "pull")
    assert commands.tried("image", "fetch").returncode == 3


def test_people_at_a_terminal_get_words_and_bars(commands: Commands, image: str, tmp_path: Path) -> None:
    main, side = pty.openpty()
    line = commands.line("image", "unpack", image, str(tmp_path / "unpacked"))
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(line, stdin=side, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                shown += os.read(main, 4096)
            except OSError:  # nobody has the other side any more
                break
        assert process.wait(SECONDS) == 0, shown
    os.close(main)
    assert b"bundle: " in shown
    assert b"unpack" in shown


def test_a_bar_shows_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(always=True) as report:
        assert report is not None
        report(Progress("download", "sha256:abc", 0, 2048))
        report(Progress("download", "sha256:abc", 1024, 2048))
        report(Progress("download", "sha256:abc", 2048, 2048))
    assert "sha256:abc" in capsys.readouterr().err


def test_nobody_looks_so_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as report:
        assert report is None
    assert capsys.readouterr().err == ""
