"""Which operation fails in which status (runtime.md, Operations)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ocirt.state import Status

TABLE: Final[Mapping[str, Mapping[Status, str]]] = {
    "start": {
        Status.CREATING: "cannot start a container in the creating state",
        Status.RUNNING: "cannot start an already running container",
        Status.PAUSED: "cannot start a container in the paused state",
        Status.STOPPED: "cannot start a container that has stopped",
    },
    "kill": {
        Status.CREATING: "container not running",
        Status.STOPPED: "container not running",
    },
    "pause": {
        Status.CREATING: "container not running",
        Status.PAUSED: "container not running",
        Status.STOPPED: "container not running",
    },
    "resume": {
        Status.CREATING: "container not paused",
        Status.CREATED: "container not paused",
        Status.RUNNING: "container not paused",
        Status.STOPPED: "container not paused",
    },
    "checkpoint": {
        status: f"Container cannot be checkpointed in {status} state"
        for status in (Status.CREATING, Status.CREATED, Status.STOPPED)
    },
    "update": {
        Status.CREATING: "container not running",
        Status.STOPPED: "container not running",
    },
    "exec": {
        Status.CREATING: "cannot exec in a container that is being created",
        Status.PAUSED: "cannot exec in a paused container (use --ignore-paused to override)",
        Status.STOPPED: "cannot exec in a stopped container",
    },
    "delete": {
        Status.RUNNING: "cannot delete container %s that is not stopped: running",
        Status.PAUSED: "cannot delete container %s that is not stopped: paused",
    },
}
"""With what words; what is not here is allowed."""
