"""The GitHub Action, without GitHub: its own run scripts under bash, and a small server in place of the API."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from muscle_hf.version import __version__

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
GATE = next(step for step in STEPS if step.get("id") == "gate")


class Api(HTTPServer):
    """Comments of pull requests, as GitHub's API gives and takes them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.refuses: set[str] = set()
        self.foreign: set[int] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        page = int(re.findall(r"[?&]page=(\d+)", self.path)[0])
        self._answer(self.server.comments[100 * page - 100 : 100 * page])

    def do_POST(self) -> None:
        comment = {"id": len(self.server.comments) + 1, "body": self._body(), "html_url": "https://h/1"}
        if self._answer(comment):
            self.server.comments.append(comment)

    def do_PATCH(self) -> None:
        number = int(self.path.rpartition("/")[2])
        (comment,) = [one for one in self.server.comments if one["id"] == number]
        body = self._body()
        if number in self.server.foreign:
            self.send_error(403)
            return
        if self._answer(comment):
            comment["body"] = body

    def _body(self) -> str:
        return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

    def _answer(self, content: Any) -> bool:
        assert self.headers["Authorization"] == "Bearer a-token"
        if self.command in self.server.refuses:
            self.send_error(403)
            return False
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _answers(path: Path, right: int, of: int) -> Path:
    rows = [{"id": i, "prediction": "x" if i < right else "y", "reference": "x"} for i in range(of)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Job:
    """A job in which the action runs."""

    def __init__(self, folder: Path, api: Api) -> None:
        self.folder, self.api, self.place = folder, api, ROOT
        python = folder / "muscle_hf" / "bin"
        python.mkdir(parents=True)
        script = f'#!/bin/sh\nexport PYTHONPATH={ROOT}\nexec {sys.executable} "$@"\n'
        (python / "python").write_text(script)
        (python / "python").chmod(0o755)
        (folder / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
        self.old, self.new = _answers(folder / "old.jsonl", 500, 1000), _answers(folder / "new.jsonl", 520, 1000)

    def compares(self, code: int) -> None:
        """Let every comparison end with an exit code, where only what is made of that matters."""
        python = self.folder / "muscle_hf" / "bin" / "python"
        stub = f'case "$*" in *"-m muscle_hf"*) echo "| n |"; exit {code};; esac\n'
        python.write_text(f'#!/bin/sh\n{stub}exec {sys.executable} "$@"\n')
        text = (ROOT / "action" / "gate.py").read_text(encoding="utf-8")
        (self.folder / "action").mkdir(exist_ok=True)
        (self.folder / "action" / "gate.py").write_text(text.replace("[sys.executable, ", f'["{python}", '))
        self.place = self.folder

    def run(self, **inputs: str) -> "subprocess.CompletedProcess[str]":
        """Run the gate with the defaults of action.yml, as GitHub fills its environment."""
        given = {name: str(about.get("default", "")) for name, about in ACTION["inputs"].items()}
        given |= {"token": "a-token", "old": str(self.old), "new": str(self.new), **inputs}
        environment = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], value)
            for name, value in GATE["env"].items()
        }
        for name in ("output", "summary"):
            (self.folder / name).write_text("")
        environment |= {
            "PATH": os.environ["PATH"],
            "RUNNER_TEMP": str(self.folder),
            "GITHUB_ACTION_PATH": str(self.place),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_REPOSITORY": "team/models",
            "GITHUB_API_URL": f"http://127.0.0.1:{self.api.server_port}",
            "GITHUB_WORKFLOW": "gate --> check",
            "GITHUB_JOB": "gate",
            "GITHUB_ACTION": "__team_muscle_hf",
        }
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", GATE["run"]]
        return subprocess.run(  # noqa: S603
            command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False
        )

    @property
    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.folder / "output").read_text().splitlines())

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text(encoding="utf-8")


@pytest.fixture
def job(tmp_path: Path, api: Api) -> Job:
    return Job(tmp_path, api)


@pytest.mark.slow
def test_each_verdict_reaches_outputs_summary_comment_and_exit_code(job: Job) -> None:
    nothing = _answers(job.folder / "nothing.jsonl", 0, 0)
    worse = _answers(job.folder / "worse.jsonl", 300, 1000)
    for inputs, code, verdict in (
        ({"arguments": "--max-nfr 0.05"}, 0, "kept"),
        ({"arguments": "--max-nfr 0.05\n--by 'no such' --max-nfr 0.1"}, 2, "refused"),
        ({"arguments": "--max-nfr 0.05", "new": str(worse)}, 1, "broken"),
        ({"arguments": "--max-nfr 0.05", "new": str(nothing)}, 2, "refused"),
        ({"arguments": "--max-nfr 0.003"}, 3, "cannot tell"),
        ({"arguments": "--max-nfr '0.05"}, 2, None),
        ({"undecided": "maybe"}, 2, None),
    ):
        done = job.run(**inputs)
        assert done.returncode == code, done.stdout + done.stderr
        if verdict is None:
            assert done.stdout.startswith("::error::")
            continue
        assert job.outputs == {"verdict": verdict, "exit-code": str(code)}
        assert job.summary.startswith(f"**{verdict}**\n")
        (comment,) = job.api.comments
        assert comment["body"].partition("\n")[2] == job.summary
        assert re.match(r"<!-- muscle_hf gate: [^>]*[^>-] -->\n", comment["body"])
        assert re.match(r"::stop-commands::(\w{32})\nmuscle-hf (?s:.*)\n::\1::\n", done.stdout)
        assert "1,000" in job.summary if verdict == "broken" else True
        assert ("no such" in job.summary) is ("no such" in str(inputs))


@pytest.mark.parametrize(("undecided", "code"), [("", 3), ("fail", 1), ("pass", 0)])
def test_cannot_tell_is_what_the_workflow_says(job: Job, undecided: str, code: int) -> None:
    job.compares(3)
    assert job.run(undecided=undecided).returncode == code
    assert job.outputs == {"verdict": "cannot tell", "exit-code": str(code)}
    assert job.summary == "**cannot tell**\n\n| n |\n"


def test_a_comment_that_cannot_be_written_does_not_fail_the_gate(job: Job) -> None:
    job.compares(0)
    job.api.refuses = {"POST"}  # as with the token of a fork
    done = job.run()
    assert done.returncode == 0
    assert "::warning::the pull request gets no comment (HTTP Error 403" in done.stdout
    assert job.summary.startswith("**kept**")


def test_nothing_is_commented_where_nobody_asks_or_there_is_no_pull_request(job: Job) -> None:
    job.compares(1)
    assert job.run(comment="false").returncode == 1
    (job.folder / "event.json").write_text(json.dumps({"push": {}}))
    assert "no pull request" in job.run().stdout
    assert not job.api.comments


@pytest.mark.slow
def test_the_comment_is_found_among_many_and_nobody_elses_is_changed(job: Job) -> None:
    job.compares(0)
    job.api.comments = [{"id": number, "body": "words"} for number in range(1, 121)]
    job.run()
    own = job.api.comments[-1]
    assert len(job.api.comments) == 121
    whole = own["body"]
    own["body"] = whole.partition("\n")[0] + "\nold"
    job.run()
    assert (own["body"], len(job.api.comments)) == (whole, 121)
    # Somebody has put the marker into a comment of their own, which our token may not change.
    job.api.foreign = {120}
    job.api.comments[119]["body"] = whole
    own["body"] = whole.partition("\n")[0] + "\nold"
    job.run()
    assert own["body"] == whole


@pytest.mark.slow
def test_no_input_becomes_a_command(job: Job) -> None:
    job.compares(0)
    there = job.folder / "harm"
    for name in ("old", "arguments", "undecided", "comment"):
        job.run(**{name: f"$(touch {there}) `touch {there}`; touch {there} # '"})
    assert not there.exists()


def test_inputs_reach_scripts_through_the_environment_alone() -> None:
    scripts = [step["run"] for step in STEPS if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in STEPS if "uses" in step)
    assert all(about["description"] for about in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    assert ACTION["runs"]["using"] == "composite"


def test_the_example_workflow_keeps_its_promises() -> None:
    text = (ROOT / "examples" / "github_actions_gate.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request"}  # YAML reads `on` as true; GitHub does not
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    # What runs code of the pull request must not be able to write, and what can write runs none.
    assert jobs["evaluate"]["permissions"] == {"contents": "read"}
    assert jobs["gate"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert not [step for step in jobs["gate"]["steps"] if "run" in step]
    *others, ours = re.findall(r"uses: *(\S+)", text)
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in others)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert ours == f"{settings['tool']['muscle_hf']['repository']}@v{__version__}"
    given = jobs["gate"]["steps"][-1]["with"]
    assert given["old"] == "baseline/"
    assert "--policy policy.yaml" in given["arguments"]
    assert {*given} <= {*ACTION["inputs"]}
    # What a pull request can choose stays out of shell commands.
    assert "${{" not in " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
