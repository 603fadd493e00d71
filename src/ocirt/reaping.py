"""Taking the status of a child of ours by its pidfd: what waiting for any process ends with."""

from __future__ import annotations

import os


def reap(pidfd: int, flags: int = 0) -> int | None:
    """Wait for a child and give its return code, negative for a signal; ``None`` if somebody else got it first."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | flags)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
