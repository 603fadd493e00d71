#!python
"""Installed as ``ocirt-python``. ``ocirt`` beside it runs this isolated from its caller and without site (ocirt.c).

So the way to ocirt's own directory is found here, from ours, and site is asked only for what is not there: most
commands import nothing else, and reading every .pth file takes two milliseconds. This text is compiled at each start.
"""

import posix
import sys

TYPE_CHECKING = False  # typing's own would cost as much as all that is done here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


NEEDED = {"_cffi_backend", "attr", "attrs", "cattrs", "cffi", "jeepney", "ocirt", "typing_extensions"}
"""Ours and its dependencies. Others try to import much that may be absent, ``org.python.core`` in ``copy`` even."""


class Site:
    """The last to be asked where a module is: site knows of virtual environments, editable ones and the system's."""

    @classmethod
    def find_spec(
        cls, name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in NEEDED:
            return None
        sys.meta_path.remove(cls)
        import site

        site.main()
        found = (finder.find_spec(name, None, None) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)


def beside() -> list[str]:
    """Where installers put packages whose programs they put in our directory; the last is ``pip --target``."""
    prefix = __file__.rpartition("/")[0].rpartition("/")[0]
    version = "python{}.{}".format(*sys.version_info)
    places = (f"lib/{version}/site-packages", f"lib64/{version}/site-packages", f"lib/{version}/dist-packages", ".")
    paths = [f"{prefix}/{place}" for place in places]
    return [path for path in paths if posix.access(f"{path}/ocirt/__main__.py", posix.R_OK)][:1]


if called := sys._xoptions.get("called"):  # by a link named runc, perhaps
    sys.argv[0] = str(called)
if sys.flags.no_site:
    sys.path += beside()
    sys.meta_path.append(Site)

from ocirt.cli import command  # noqa: E402  # it is found only now

command()
