"""Files: what there is, and their content."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from .answers import Answer, Refusal, Request, reply
from .listing import cut_page
from .repository import Commit, Files
from .storage import download_address, ranged
from .store import Store


def tree(request: Request, store: Store, kind: str, name: str, revision: str, folder: str = "") -> Answer:
    """List a folder, or all below it."""
    found = store.find(kind, name, request.user)
    commit = found.resolve(revision)
    recursive = request.flag("recursive")
    prefix, entries, folders = f"{folder}/" if folder else "", [], set()
    for path in sorted(commit.files):
        if not path.startswith(prefix):
            continue
        above = path.removeprefix(prefix).split("/")[:-1]
        folders |= {prefix + "/".join(above[: depth + 1]) for depth in range(len(above) if recursive else 1) if above}
        if recursive or not above:
            entries.append(_entry(path, commit, request.flag("expand")))
    if folder and not entries and not folders:
        raise Refusal(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
    listed = [_folder(path, commit) for path in sorted(folders)] + entries
    page, following = cut_page(listed, request, store.page_size)
    return reply(page, headers={**following, "X-Repo-Commit": commit.sha})


def paths_info(request: Request, store: Store, kind: str, name: str, revision: str) -> Answer:
    """Describe some files and folders; those that are not there are left out."""
    commit = store.find(kind, name, request.user).resolve(revision)
    form: Mapping[str, Any] = (
        request.json() if request.body.startswith(b"{") else parse_qs(request.body.decode(), keep_blank_values=True)
    )
    expand = str([*form.get("expand", ["false"])][-1] if isinstance(form.get("expand"), list) else form.get("expand"))
    entries = []
    for path in form.get("paths", []):
        if path in commit.files:
            entries.append(_entry(path, commit, expand.lower() == "true"))
        elif any(each.startswith(f"{path}/") for each in commit.files):
            entries.append(_folder(path, commit))
    return reply(entries)


def resolve(request: Request, store: Store, kind: str, name: str, revision: str, path: str) -> Answer:
    """Give a file; where it is a large one, the address of its content in the storage."""
    found = store.find(kind, name, request.user)
    store.check_read(found, request.user)
    commit = found.resolve(revision)
    commits = {"X-Repo-Commit": commit.sha}
    blob = commit.files.get(path)
    if blob is None:
        missing = Refusal(404, "Entry not found", "EntryNotFound")
        missing.headers = commits
        raise missing
    if blob.lfs:
        address = download_address(store, blob.sha256)
        linked = {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content)), "Location": address}
        if blob.xet is not None:
            refresh = f"{request.endpoint}/api/{kind}s/{name}/xet-read-token/{commit.sha}"
            linked |= {"X-Xet-Hash": blob.xet, "Link": f'<{refresh}>; rel="xet-auth"'}
        return Answer(302, b"", {**commits, **linked, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"})
    return ranged(blob.content, blob.oid, request.headers.get("Range"), commits)


def _entry(path: str, commit: Commit, expand: bool) -> dict[str, Any]:
    found = commit.files[path].entry(path)
    if expand:
        found["lastCommit"] = {"id": commit.sha, "title": commit.message, "date": commit.date}
    return found


def _folder(path: str, commit: Commit) -> dict[str, Any]:
    inside: Files = {each: blob for each, blob in commit.files.items() if each.startswith(f"{path}/")}
    oid = "".join(blob.oid[:2] for blob in inside.values())[:40].ljust(40, "0")
    return {"type": "directory", "path": path, "size": 0, "oid": oid}
