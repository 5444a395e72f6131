"""Clients: Python in a process of its own, because huggingface_hub reads its environment once, when it is imported."""

import subprocess
import sys
from pathlib import Path

from .serving import Hub


def run_client(
    code: str,
    hub: Hub,
    *,
    home: Path,
    token: str | None = None,
    xet: bool = False,
    arguments: tuple[str, ...] = (),
    timeout: float = 900,
) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a fresh interpreter that knows this Hub.

    Args:
        code: The code.
        hub: The Hub.
        home: HF_HOME and working directory of the process.
        token: The token in its environment, if any.
        xet: Leave hf_xet in use.
        arguments: What sys.argv has after its first entry.
        timeout: Seconds before it is stopped.

    Returns:
        What it printed, and its exit code.
    """
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=hub.environment(token, home=home, xet=xet),
        cwd=home,
    )
