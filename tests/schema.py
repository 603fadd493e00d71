"""The JSON Schema of the specification, where there is a copy: it is not ours to ship.

``OCIRT_RUNTIME_SPEC_SCHEMA`` names the folder ``schema`` of opencontainers/runtime-spec; without it, a copy beside the
repository is taken.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import jsonschema
import referencing
from jsonschema.exceptions import ValidationError
from referencing.jsonschema import DRAFT4, Schema

from ocirt.spec import JSON
from ocirt.spec.base import key

SCHEMA: Final = Path(
    os.environ.get("OCIRT_RUNTIME_SPEC_SCHEMA") or Path(__file__).parents[2] / "shared" / "data" / "runtime-spec-schema"
)

IS_HERE: Final = (SCHEMA / "config-schema.json").is_file()


def examples(kind: str) -> list[Path]:
    """Those for configurations: ``good`` or ``bad``."""
    return sorted((SCHEMA / "test" / "config" / kind).glob("*.json"))


@functools.cache
def validator(name: str) -> jsonschema.Draft4Validator:
    """Of config-schema.json, state-schema.json or features-schema.json."""
    files = {path.name: DRAFT4.create_resource(json.loads(path.read_text())) for path in SCHEMA.glob("*.json")}
    registry: referencing.Registry[Schema] = referencing.Registry().with_resources(files.items())
    return jsonschema.Draft4Validator(files[name].contents, registry=registry)


def breaches(document: JSON, name: str = "config-schema.json") -> dict[str, str]:
    """What the schema finds: paths as ocirt writes them, and words."""
    return {place(error): error.message for error in validator(name).iter_errors(document)}


def place(error: ValidationError) -> str:
    text = ""
    for step in error.absolute_path:
        text += f"[{step}]" if isinstance(step, int) else ("." if key(step).isidentifier() else "") + key(step)
    return text.removeprefix(".")


def properties() -> Iterator[str]:
    """Every property that the schema of a configuration has, as ``tests.documents`` writes paths."""
    root = json.loads((SCHEMA / "config-schema.json").read_text())
    yield from _properties(root, root, "")


def _properties(schema: object, file: object, path: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        name, _, pointer = schema["$ref"].partition("#")
        other = json.loads((SCHEMA / name).read_text()) if name else file
        yield from _properties(functools.reduce(lambda at, step: at[step], pointer.split("/")[1:], other), other, path)
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ())):
        yield from _properties(part, file, path)
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}".removeprefix(".")
        yield here
        yield from _properties(inner, file, here)
    if "items" in schema:
        yield from _properties(schema["items"], file, f"{path}[]")
    if "additionalProperties" in schema:
        yield from _properties(schema["additionalProperties"], file, f"{path}.*")
