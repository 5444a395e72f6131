"""Branches, tags and history."""

from typing import Any

from .answers import Answer, Refusal, Request, reply
from .listing import cut_page
from .repository import Commit
from .store import Store


def refs(request: Request, store: Store, kind: str, name: str) -> Answer:
    """List every name of a commit."""
    found = store.find(kind, name, request.user)
    told: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": []}
    if request.flag("include_prs"):
        told["pullRequests"] = []
    places = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, sha in found.refs().items():
        for prefix, place in places.items():
            if ref.startswith(prefix) and place in told:
                told[place].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha})
    return reply(told)


def commits(request: Request, store: Store, kind: str, name: str, revision: str) -> Answer:
    """List the commits up to a revision, newest first."""
    found = store.find(kind, name, request.user)
    page, following = cut_page(found.history(found.resolve(revision)), request, store.page_size)
    return reply([_described(commit) for commit in page], headers=following)


def _described(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "title": commit.message,
        "message": commit.description,
        "authors": [{"user": commit.author}],
        "date": commit.date,
    }


def create_branch(request: Request, store: Store, kind: str, name: str, branch: str) -> Answer:
    """Make a branch of main, or of another revision."""
    found = store.writable(kind, name, request.user)
    if branch in found.branches:
        raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
    asked = request.json() if request.body else {}
    found.branches[branch] = found.resolve(asked.get("startingPoint") or "main").sha
    return reply({})


def delete_branch(request: Request, store: Store, kind: str, name: str, branch: str) -> Answer:
    """Remove a branch; main stays."""
    found = store.writable(kind, name, request.user)
    if branch == "main":
        raise Refusal(403, "Forbidden: main cannot be deleted")
    if found.branches.pop(branch, None) is None:
        raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return reply({})


def create_tag(request: Request, store: Store, kind: str, name: str, revision: str) -> Answer:
    """Give a commit a name that stays."""
    found, tag = store.writable(kind, name, request.user), request.json()["tag"]
    commit = found.resolve(revision)
    if tag in found.tags:
        raise Refusal(409, f"Tag reference exists already: refs/tags/{tag}")
    found.tags[tag] = commit.sha
    return reply({})


def delete_tag(request: Request, store: Store, kind: str, name: str, tag: str) -> Answer:
    """Remove a tag."""
    if store.writable(kind, name, request.user).tags.pop(tag, None) is None:
        raise Refusal(404, f"Invalid rev id: {tag}", "RevisionNotFound")
    return reply({})
