"""Pull requests and discussions."""

from typing import Any

from .answers import Answer, Refusal, Request, reply
from .repository import PullRequest, Repository, now
from .store import Store


def listed(request: Request, store: Store, kind: str, name: str) -> Answer:
    """List the discussions of a repository, newest first, one page of them."""
    found = store.find(kind, name, request.user)
    asked = {"pull_request": True, "discussion": False}.get(request.asked("type") or "")
    chosen = [
        each
        for each in reversed(found.discussions.values())
        if (asked is None or asked == (each.head is not None))
        and request.asked("author") in (None, each.author)
        and request.asked("status") in (None, each.status if each.status != "draft" else "open")
    ]
    start = int(request.asked("p") or 0) * store.page_size
    page = [_short(found, each) for each in chosen[start : start + store.page_size]]
    return reply({"discussions": page, "count": len(chosen), "start": start})


def create(request: Request, store: Store, kind: str, name: str) -> Answer:
    """Open a discussion, or an empty pull request for later commits."""
    found, asked = store.find(kind, name, request.user), request.json()
    user = store.check_write(request.user, None, "")
    head, status = (found.head.sha, "draft") if asked.get("pullRequest") else (None, "open")
    made = found.open_discussion(asked["title"], user.name, asked.get("description", ""), head, status)
    made.events.append(_comment(made.author, made.description))
    return reply({"num": made.num, "url": f"{request.endpoint}/{found.address}/discussions/{made.num}"})


def details(request: Request, store: Store, kind: str, name: str, num: str) -> Answer:
    """Describe one discussion."""
    found = store.find(kind, name, request.user)
    chosen = _one(found, num)
    told = {**_short(found, chosen), "events": chosen.events}
    if chosen.head is not None:
        told |= {
            "changes": {"base": chosen.base, "mergeCommitId": chosen.merged_as},
            "filesWithConflicts": _conflicts(found, chosen) or False,
            "diff": "",
        }
    return reply(told)


def comment(request: Request, store: Store, kind: str, name: str, num: str) -> Answer:
    """Add a comment."""
    chosen = _one(store.find(kind, name, request.user), num)
    user = store.check_write(request.user, None, "")
    event = _comment(user.name, request.json()["comment"])
    chosen.events.append(event)
    return reply({"newMessage": event})


def status(request: Request, store: Store, kind: str, name: str, num: str) -> Answer:
    """Close or open again."""
    found = store.find(kind, name, request.user)
    chosen, asked = _one(found, num), request.json()
    user = store.check_write(request.user, None, "")
    if user.name != chosen.author:
        store.writable(kind, name, request.user)
    if asked["status"] not in ("open", "closed") or chosen.status == "merged":
        raise Refusal(400, f"A discussion that is {chosen.status} cannot become {asked['status']!r}")
    chosen.status = asked["status"]
    event = _event("status-change", user.name, {"status": chosen.status})
    chosen.events.append(event)
    return reply({"newStatus": event})


def merge(request: Request, store: Store, kind: str, name: str, num: str) -> Answer:
    """Put the changes of a pull request on main."""
    found = store.writable(kind, name, request.user)
    chosen = _one(found, num)
    assert request.user is not None  # writable has checked
    if chosen.head is None or chosen.status not in ("open", "draft"):
        raise Refusal(400, f"#{num} cannot be merged: it is no open pull request")
    if conflicts := _conflicts(found, chosen):
        raise Refusal(409, f"#{num} cannot be merged: main has other changes of {', '.join(conflicts)}")
    files = dict(found.head.files)
    for path, (_, after) in _changes(found, chosen).items():
        if after is None:
            files.pop(path, None)
        else:
            files[path] = after
    made = found.add(files, f"{chosen.title} (#{num})", request.user.name, found.head.sha)
    found.move("main", made.sha)
    chosen.status, chosen.merged_as = "merged", made.sha
    chosen.events.append(_event("status-change", request.user.name, {"status": "merged"}))
    return reply({})


def _one(repository: Repository, num: str) -> PullRequest:
    found = repository.discussions.get(int(num)) if num.isdigit() else None
    if found is None:
        raise Refusal(404, f"Discussion {num} was not found")
    return found


def _short(repository: Repository, chosen: PullRequest) -> dict[str, Any]:
    return {
        "num": chosen.num,
        "title": chosen.title,
        "author": {"name": chosen.author, "type": "user"},
        "createdAt": chosen.date,
        "status": chosen.status,
        "repo": {"name": repository.name, "type": repository.kind},
        "isPullRequest": chosen.head is not None,
    }


def _event(kind: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
    date = now()
    return {"id": date, "type": kind, "createdAt": date, "author": {"name": author}, "data": data}


def _comment(author: str, text: str) -> dict[str, Any]:
    return _event("comment", author, {"edited": False, "hidden": False, "latest": {"raw": text}})


def _fork(repository: Repository, chosen: PullRequest) -> Any:
    """The last commit that main and the pull request share."""
    assert chosen.head is not None
    on_main = {commit.sha for commit in repository.history(repository.head)}
    return next(c for c in repository.history(repository.commits[chosen.head]) if c.sha in on_main).files


def _changes(repository: Repository, chosen: PullRequest) -> dict[str, tuple[Any, Any]]:
    """What a pull request changes: path -> before and after, None where there is no such file."""
    assert chosen.head is not None
    before, after = _fork(repository, chosen), repository.commits[chosen.head].files
    return {
        path: (before.get(path), after.get(path)) for path in {*before, *after} if before.get(path) != after.get(path)
    }


def _conflicts(repository: Repository, chosen: PullRequest) -> list[str]:
    """Files that main has changed otherwise since."""
    if chosen.status == "merged":
        return []
    there = repository.head.files
    return sorted(
        path
        for path, (before, after) in _changes(repository, chosen).items()
        if there.get(path) not in (before, after)
    )
