"""Run the gate of a GitHub workflow: what action.yml passes as environment variables, compared, told and judged.

The job summary and one comment on the pull request get the Markdown of `muscle-hf compare`; later runs replace that
comment. The exit code is the gate's, whether or not the comment can be written.
"""

# ruff: noqa: T201 - what is printed is the log of the workflow

import json
import os
import secrets
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERDICTS = {0: "kept", 1: "broken", 2: "refused", 3: "cannot tell"}
UNDECIDED = {"": 3, "fail": 1, "pass": 0}
# GitHub takes 65,536 characters in a comment, and a million bytes in a summary.
_LONGEST_COMMENT, _LONGEST_SUMMARY = 65_000, 300_000
_SECONDS = 30


def main() -> int:
    """Compare, write what is told, and return the exit code."""
    given = os.environ
    if given["UNDECIDED"] not in UNDECIDED or given["COMMENT"] not in ("true", "false"):
        print("::error::undecided must be fail, pass or nothing, and comment true or false")
        return 2
    try:
        options = shlex.split(given["ARGUMENTS"])
    except ValueError as error:
        print(f"::error::the input `arguments` cannot be read: {error}")
        return 2
    words = ["compare", given["OLD"], given["NEW"], *options, "--markdown"]
    command = [sys.executable, "-P", "-m", "muscle_hf", *words]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    # Names in the files that are compared must not become commands of the workflow.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}")
    sys.stdout.write(f"muscle-hf {shlex.join(words)}\n{done.stdout}{done.stderr}\n")
    print(f"::{token}::")
    code = UNDECIDED[given["UNDECIDED"]] if done.returncode == 3 else done.returncode
    verdict = VERDICTS.get(done.returncode, "refused")
    _append("GITHUB_OUTPUT", f"verdict={verdict}\nexit-code={code}\n")
    text = f"**{verdict}**\n\n{done.stdout}"
    if done.returncode not in (0, 3) or not done.stdout:
        # In a block, so that nothing in a name becomes a mention or a link.
        text += "\n" + "".join(f"    {line}\n" for line in done.stderr.splitlines())
    _append("GITHUB_STEP_SUMMARY", _cut(text, _LONGEST_SUMMARY))
    if given["COMMENT"] == "true":
        _comment(_cut(text, _LONGEST_COMMENT))
    return code


def _append(variable: str, text: str) -> None:
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(text)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    lines = text[:longest].splitlines(keepends=True)[:-1]
    return "".join(lines) + "\nThe rest is in the log of the workflow.\n"


def _comment(text: str) -> None:
    """Write the comment in place of an earlier one of this step; where that cannot be, say so and go on."""
    number = _pull_request()
    if number is None:
        print("no comment: this is no pull request")
        return
    place = f"/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    names = (os.environ.get(name, "") for name in ("GITHUB_WORKFLOW", "GITHUB_JOB", "GITHUB_ACTION"))
    marker = f"<!-- muscle_hf gate: {json.dumps(list(names)).replace('-', '_').replace('>', '_')} -->"
    body = {"body": f"{marker}\n{text}"}
    try:
        for comment in _comments(f"{place}/{number}/comments"):
            if (comment.get("body") or "").startswith(marker):
                try:
                    replaced = _ask(f"{place}/comments/{comment['id']}", body, "PATCH")
                except urllib.error.HTTPError as error:
                    if error.code not in (403, 404):  # somebody else's, or gone
                        raise
                else:
                    print(f"comment replaced: {replaced['html_url']}")
                    return
        print(f"comment written: {_ask(f'{place}/{number}/comments', body, 'POST')['html_url']}")
    except (OSError, ValueError, KeyError) as error:  # HTTPError and URLError are OSErrors
        print(
            f"::warning::the pull request gets no comment ({error}); the token of a fork may not write one, and "
            "elsewhere the job needs the permission `pull-requests: write`. The job summary has the comparison."
        )


def _pull_request() -> int | None:
    try:
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (KeyError, OSError, TypeError, ValueError):
        return None


def _comments(place: str) -> Iterator[dict[str, Any]]:
    page = 1
    while found := _ask(f"{place}?per_page=100&page={page}"):
        yield from found
        if len(found) < 100:
            return
        page += 1


def _ask(path: str, content: dict[str, str] | None = None, method: str = "GET") -> Any:
    address = os.environ.get("GITHUB_API_URL", "https://api.github.com") + path
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    headers["Authorization"] = f"Bearer {os.environ['TOKEN']}"
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, headers, method=method)  # noqa: S310 - GitHub's own address
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
        return json.loads(answer.read())


if __name__ == "__main__":
    sys.exit(main())
