"""A client of the local Hub in a process of its own that runs one snippet after the other, so that it starts once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from local_hub import Hub

_LOOP = """
import contextlib, io, json, os, sys
answers = os.fdopen(os.dup(1), "w")
while line := sys.stdin.readline():
    asked = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if asked["token"] is not None:
        os.environ["HF_TOKEN"] = asked["token"]
    names, out, err, answer = dict(asked["values"]), io.StringIO(), io.StringIO(), {}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(asked["code"], names)
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
    answer |= {"result": names.get("result"), "stdout": out.getvalue(), "stderr": err.getvalue()}
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


class Worker:
    """The process. Every call gets its own token, names and standard streams; modules stay imported."""

    def __init__(self, hub: Hub, home: Path) -> None:
        """Start it, with `home` for its caches and as its working directory."""
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-W", "error::UserWarning", "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=hub.environment(None, home=home),
            cwd=home,
        )

    def run(self, code: str, *, token: str | None = None, **values: Any) -> dict[str, Any]:
        """Run code and return {result, stdout, stderr}, and {error, message} where it raised.

        Args:
            code: Leaves what is to be returned under the name `result`.
            token: HF_TOKEN while it runs.
            values: Names that the code finds.
        """
        self.begin(code, token=token, **values)
        return self.end()

    def begin(self, code: str, *, token: str | None = None, **values: Any) -> None:
        """Begin to run code, as `run` does, and do not wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"code": code, "token": token, "values": values}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for what `begin` began."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()
