"""The types of the package agree, as `make lint` says in a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_types_disagree() -> None:
    command = [sys.executable, "-m", "mypy"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
