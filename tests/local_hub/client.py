"""Clients: Python in a process of its own, because huggingface_hub reads its environment once, when it is imported."""

import subprocess
import sys
from pathlib import Path

import fresh

from .serving import Hub


def run_client(
    code: str,
    hub: Hub,
    *,
    home: Path,
    token: str | None = None,
    xet: bool = False,
    arguments: tuple[str, ...] = (),
) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a fresh interpreter that knows this Hub.

    Args:
        code: The code.
        hub: The Hub.
        home: HF_HOME and working directory of the process.
        token: The token in its environment, if any.
        xet: Leave hf_xet in use.
        arguments: What sys.argv has after its first entry.

    Returns:
        What it printed, and its exit code.
    """
    command = [sys.executable, "-c", code, *arguments]
    return fresh.run(command, env=hub.environment(token, home=home, xet=xet), cwd=home)
