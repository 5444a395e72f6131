"""Accounts and repositories as a whole: who am I, create, delete, settings, what a repository is."""

from collections.abc import Mapping
from typing import Any

from .answers import Answer, Refusal, Request, reply
from .listing import described
from .store import GIT_ATTRIBUTES, KINDS, Store

_SDKS = ("gradio", "docker", "static")


def whoami(request: Request, store: Store) -> Answer:
    """Say who sent the token."""
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    return reply(request.user.described())


def create(request: Request, store: Store) -> Answer:
    """Make a repository, with what the Hub puts into a new one."""
    asked = request.json()
    kind, name = _named(asked, request, store)
    address = f"{request.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
    namespace = name.partition("/")[0]
    store.check_write(
        request.user,
        namespace,
        f'You don\'t have the rights to create a {kind} under the namespace "{namespace}".',
    )
    if (kind, name) in store.repositories:
        raise Refusal(409, f"You already created this {kind} repo: {name}", url=address)
    files = {".gitattributes": GIT_ATTRIBUTES}
    if kind == "space":
        if asked.get("sdk") not in _SDKS:
            raise Refusal(400, f'"sdk" must be one of {list(_SDKS)}')
        title = name.partition("/")[2]
        files["README.md"] = f"---\ntitle: {title}\nsdk: {asked['sdk']}\n---\n".encode()
    private = asked.get("visibility") == "private" or asked.get("private") is True
    made = store.create(kind, name, files, private=private)
    made.sdk = asked.get("sdk")
    return reply({"url": address, "name": name, "id": name})


def delete(request: Request, store: Store) -> Answer:
    """Remove a repository."""
    kind, name = _named(request.json(), request, store)
    store.writable(kind, name, request.user)
    del store.repositories[kind, name]
    return reply({})


def move(request: Request, store: Store) -> Answer:
    """Give a repository another name."""
    asked = request.json()
    kind, name, new = asked["type"], asked["fromRepo"], asked["toRepo"]
    found = store.writable(kind, name, request.user)
    namespace = new.partition("/")[0]
    store.check_write(request.user, namespace, f'You don\'t have the rights to move to the namespace "{namespace}".')
    if (kind, new) in store.repositories:
        raise Refusal(409, f"There is a {kind} repo {new} already.")
    del store.repositories[kind, name]
    found.name = new
    store.repositories[kind, new] = found
    return reply({})


def settings(request: Request, store: Store, kind: str, name: str) -> Answer:
    """Change who may see and who may read."""
    found, asked = store.writable(kind, name, request.user), request.json()
    if "visibility" in asked:
        found.private = asked["visibility"] == "private"
    if "private" in asked:
        found.private = asked["private"]
    found.gated = asked.get("gated", found.gated)
    return reply({})


def info(request: Request, store: Store, kind: str, name: str, revision: str = "main") -> Answer:
    """Describe a repository at a revision."""
    found = store.find(kind, name, request.user)
    commit = found.resolve(revision)
    return reply(described(found, request.query, commit, whole=True))


def auth_check(request: Request, store: Store, kind: str, name: str, right: str = "read") -> Answer:
    """Say whether the user may read the files, or write."""
    if right == "write":
        store.writable(kind, name, request.user)
    else:
        store.check_read(store.find(kind, name, request.user), request.user)
    return reply({})


def _named(asked: Mapping[str, Any], request: Request, store: Store) -> tuple[str, str]:
    """Give kind and full name of what is to be made or removed."""
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    kind = asked.get("type") or "model"
    if kind not in KINDS:
        raise Refusal(400, f'"type" must be one of {list(KINDS)}')
    return kind, f"{asked.get('organization') or request.user.name}/{asked['name']}"
