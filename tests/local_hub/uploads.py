"""Commits, and what comes before them: which files are large, and where those go."""

import base64
import json
from typing import Any

from . import xet
from .accounts import User
from .answers import Answer, Refusal, Request, reply
from .repository import Blob, Files, Repository
from .storage import upload_address
from .store import Store, is_large
from .yaml_rules import problems


def validate_yaml(request: Request, store: Store) -> Answer:
    """Say what is wrong with the front matter of a card."""
    asked = request.json()
    errors, warnings = problems(asked["content"], asked.get("repoType") or "model")
    told = {"errors": [{"message": each} for each in errors], "warnings": [{"message": each} for each in warnings]}
    return reply(told, 400 if errors else 200)


def preupload(request: Request, store: Store, kind: str, name: str, revision: str) -> Answer:
    """Say of each file how it is to be sent, and what is there now."""
    found = _target(request, store, kind, name, revision)
    files = found.resolve(revision).files
    answers = []
    for asked in request.json()["files"]:
        path, size, sample = asked["path"], asked["size"], base64.b64decode(asked["sample"])
        told = {
            "path": path,
            "uploadMode": "lfs" if is_large(path, sample, size) else "regular",
            "shouldIgnore": False,
        }
        if (there := files.get(path)) is not None:
            told["oid"] = there.sha256 if there.lfs else there.oid
        answers.append(told)
    return reply({"files": answers, "commitOid": found.resolve(revision).sha})


def lfs_batch(request: Request, store: Store, kind: str, name: str) -> Answer:
    """Say where to send large files; nowhere for those that this repository has."""
    found, asked = store.find(kind, name, request.user), request.json()
    # Without a revision it is for a pull request, which needs no right to the repository.
    owner = None if "ref" not in asked or asked["ref"]["name"].startswith("refs/pr/") else found.namespace
    store.check_write(request.user, owner, f'You don\'t have the rights to write to "{name}".')
    objects = []
    for each in asked["objects"]:
        told: dict[str, Any] = {"oid": each["oid"], "size": each["size"], "authenticated": True}
        if each["oid"] not in found.uploaded:
            told["actions"] = {
                "upload": {"href": upload_address(store, kind, name, each["oid"], each["size"]), "header": {}},
                "verify": {"href": f"{request.endpoint}/{found.address}.git/info/lfs/objects/verify", "header": {}},
            }
        objects.append(told)
    return reply({"transfer": "basic", "objects": objects})


def lfs_verify(request: Request, store: Store, kind: str, name: str) -> Answer:
    """Say whether a large file arrived."""
    found, asked = store.find(kind, name, request.user), request.json()
    if asked["oid"] not in found.uploaded or len(store.objects[asked["oid"]]) != asked["size"]:
        raise Refusal(422, f"{asked['oid']} of {asked['size']} bytes did not arrive")
    return reply({})


def commit(request: Request, store: Store, kind: str, name: str, revision: str) -> Answer:
    """Make one commit of all that the body lists, or none."""
    found = _target(request, store, kind, name, revision)
    user = request.user
    assert user is not None  # _target has checked
    header, operations = _lines(request.body)
    summary, description = header.get("summary", ""), header.get("description", "")
    parent, pull_request = header.get("parentCommit"), request.flag("create_pr")
    if not summary:
        raise Refusal(400, "A commit needs a summary.")
    base = found.resolve(revision)
    if parent is not None and not base.sha.startswith(parent):
        if not pull_request:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        base = found.resolve(parent)
    files = _applied(found, store, base.files, operations)
    if files.get("README.md") != base.files.get("README.md"):
        _check_card(files, kind)
    made = found.add(files, summary, user.name, base.sha, description)
    address = f"{request.endpoint}/{found.address}"
    told = {"success": True, "commitOid": made.sha, "commitUrl": f"{address}/commit/{made.sha}", "hookOutput": ""}
    if pull_request:
        opened = found.open_discussion(summary, user.name, description, made.sha)
        told["pullRequestUrl"] = f"{address}/discussions/{opened.num}"
    else:
        found.move(revision, made.sha)
    return reply(told)


def _target(request: Request, store: Store, kind: str, name: str, revision: str) -> Repository:
    """Find what is to be committed to: a branch needs the right to write, a pull request a token that writes."""
    found = store.find(kind, name, request.user)
    pull_request = request.flag("create_pr")
    if revision.startswith("refs/pr/"):
        num = int(revision.removeprefix("refs/pr/"))
        pull_request = num in found.discussions and _is_of(found, num, request.user)
    owner = None if pull_request else found.namespace
    store.check_write(request.user, owner, f'You don\'t have the rights to write to "{name}".')
    commit = found.resolve(revision)
    if not revision.startswith("refs/pr/") and revision.removeprefix("refs/heads/") not in found.branches:
        if request.flag("create_pr"):
            return found
        raise Refusal(404, f"Invalid rev id: {revision} is commit {commit.sha} and no branch", "RevisionNotFound")
    return found


def _is_of(repository: Repository, num: int, user: User | None) -> bool:
    return user is not None and repository.discussions[num].author == user.name


def _lines(body: bytes) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Read the header and the operations of a commit, one JSON object a line."""
    try:
        read = [json.loads(line) for line in body.splitlines() if line.strip()]
        lines = [(line["key"], line["value"]) for line in read]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(400, f"The commit is not newline-delimited JSON: {error!r}") from None
    if not lines or lines[0][0] != "header":
        raise Refusal(400, "A commit begins with its header.")
    return lines[0][1], lines[1:]


def _applied(
    repository: Repository, store: Store, files: Files, operations: list[tuple[str, dict[str, Any]]]
) -> dict[str, Blob]:
    """Give the files after all operations; nothing is changed where one of them cannot be done."""
    after = dict(files)
    for key, value in operations:
        path = value["path"]
        if any(part in ("", ".", "..", ".git") for part in path.rstrip("/").split("/")):
            raise Refusal(400, f"Invalid path: {path!r}")
        match key:
            case "file":
                after[path] = Blob(base64.b64decode(value["content"]))
            case "lfsFile":
                after[path] = _large(repository, store, path, value)
            case "deletedFile":
                if after.pop(path, None) is None:
                    raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            case "deletedFolder":
                inside = [each for each in after if each.startswith(path.rstrip("/") + "/")]
                if not inside:
                    raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                for each in inside:
                    del after[each]
            case _:
                raise Refusal(400, f"Unknown operation {key!r}")
    return after


def _large(repository: Repository, store: Store, path: str, value: dict[str, Any]) -> Blob:
    oid = value["oid"]
    if oid not in repository.uploaded and (came := xet.arrived(store, oid)) is not None:
        store.xet_hashes[oid], store.objects[oid] = came
        repository.uploaded.add(oid)
    if oid not in repository.uploaded:
        raise Refusal(
            400,
            "Your push was rejected because an LFS pointer pointed to a file that does not exist. Offending file: "
            f"{path}",
        )
    content = store.objects[oid]
    if value.get("size", len(content)) != len(content):
        raise Refusal(400, f"{path} is said to have {value['size']} bytes, and has {len(content)}")
    return Blob(content, lfs=True, xet=store.xet_hashes.get(oid))


def _check_card(files: Files, kind: str) -> None:
    """Refuse a card with bad front matter, as the Hub does though it was asked before."""
    card = files.get("README.md")
    if card is None:
        return
    errors, _ = problems(card.content.decode("utf-8", "replace"), kind)
    if errors:
        raise Refusal(400, "Invalid metadata in README.md. " + " ".join(errors))
