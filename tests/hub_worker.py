"""A client of the local Hub in a process of its own that runs one snippet after the other, so that it starts once."""

import json
import sys
from pathlib import Path
from typing import Any

import fresh
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
    answers.write(json.dumps(answer | {"number": asked["number"]}) + "\\n")
    answers.flush()
"""


class Worker:
    """The process. Every call gets its own token, names and standard streams; modules stay imported.

    Requests are numbered, and whoever begins one whose predecessor was never waited for, because its test failed, gets
    a fresh process: no test is given the answer that belongs to another.
    """

    def __init__(self, hub: Hub, home: Path) -> None:
        """Start it, with `home` for its caches and as its working directory."""
        self._hub, self._home = hub, home
        self._number = 0
        self._is_asked = False
        self._process = self._start()

    def _start(self) -> fresh.Process:
        command = [sys.executable, "-W", "error::UserWarning", "-c", _LOOP]
        return fresh.Process(command, env=self._hub.environment(None, home=self._home), cwd=self._home)

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
        if self._is_asked or self._process.poll() is not None:
            self._kill()
            self._process = self._start()
        self._number += 1
        self._is_asked = True
        request = {"number": self._number, "code": code, "token": token, "values": values}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for what `begin` began."""
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read()
            raise AssertionError(
                f"the process ended with {self._process.wait()} before it answered request {self._number}: {said}"
            )
        answer: dict[str, Any] = json.loads(line)
        assert answer.pop("number") == self._number, "an answer to another request"
        self._is_asked = False
        return answer

    def stop(self) -> None:
        """End the process, at once where nobody waited for its answer."""
        if self._is_asked:
            self._kill()
        else:
            self._process.communicate()

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()
