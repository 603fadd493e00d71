"""An image's configuration for an ordinary user: whom the image wants to be, the user becomes."""

from __future__ import annotations

import json

import pytest

from tests.rootless.user import UID, User

pytestmark = [pytest.mark.root, pytest.mark.rootless]


def test_a_user_of_the_image_is_the_caller(user: User) -> None:
    """With volumes that he may write to, and no other groups, of which he has none."""
    (user.rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n")
    (user.rootfs / "etc/group").write_text("audio:x:29:alice\n")
    (user.rootfs / "data").mkdir()
    script = "id -u; id -g; id -G; pwd; touch /data/new /made/here/new && ls /data /made/here; echo $HOME"
    image = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {
            "User": "alice",
            "Cmd": ["sh", "-c", script],
            "Env": ["PATH=/bin"],
            "WorkingDir": "/made/here",
            "Volumes": {"/data": {}},
        },
    }
    printed = user.python(f"""
from ocirt.image.conversion import to_spec
from ocirt.image.documents import ImageConfig
rootfs = os.open(ROOTFS, os.O_PATH)
print(lived(to_spec(ImageConfig.loads({json.dumps(image)!r}.encode(), "image"), rootfs)))
""")
    code, output, errors = eval(printed)
    assert (code, errors) == (0, "")
    assert output.split() == [
        *("1000", "1001", "1001", "/made/here"),
        *("/data:", "new", "/made/here:", "new", "/home/alice"),
    ]
    assert (user.rootfs / "made/here/new").stat().st_uid == UID
    assert list((user.rootfs / "data").iterdir()) == []
