"""Which address is answered by which function."""

from collections.abc import Callable
from functools import partial

from . import discussions, files_api, listing, refs_api, repositories_api, uploads, xet
from .answers import Answer, Refusal, Request
from .store import KINDS, Store

_PLURAL = {f"{kind}s": kind for kind in KINDS}

# Method and what follows the name of a repository -> who answers; * stands for one part, ** for all that are left.
_OF_A_REPOSITORY: dict[str, Callable[..., Answer]] = {
    "GET": repositories_api.info,
    "GET revision *": repositories_api.info,
    "GET auth-check": repositories_api.auth_check,
    "GET auth-check *": repositories_api.auth_check,
    "PUT settings": repositories_api.settings,
    "GET tree *": files_api.tree,
    "GET tree * **": files_api.tree,
    "POST paths-info *": files_api.paths_info,
    "GET resolve * **": files_api.resolve,
    "POST preupload *": uploads.preupload,
    "POST commit *": uploads.commit,
    "GET xet-read-token *": partial(xet.token, right="read"),
    "GET xet-write-token *": partial(xet.token, right="write"),
    "GET refs": refs_api.refs,
    "GET commits *": refs_api.commits,
    "POST branch *": refs_api.create_branch,
    "DELETE branch *": refs_api.delete_branch,
    "POST tag *": refs_api.create_tag,
    "DELETE tag *": refs_api.delete_tag,
    "GET discussions": discussions.listed,
    "POST discussions": discussions.create,
    "GET discussions *": discussions.details,
    "POST discussions * comment": discussions.comment,
    "POST discussions * status": discussions.status,
    "POST discussions * merge": discussions.merge,
}


def answer(request: Request, store: Store) -> Answer:
    """Answer a request to the Hub."""
    parts, method = request.parts, "GET" if request.method == "HEAD" else request.method
    match [method, *parts]:
        case ["GET", "api", "whoami-v2"]:
            return repositories_api.whoami(request, store)
        case ["POST", "api", "validate-yaml"]:
            return uploads.validate_yaml(request, store)
        case ["POST", "api", "repos", "create"]:
            return repositories_api.create(request, store)
        case ["DELETE", "api", "repos", "delete"]:
            return repositories_api.delete(request, store)
        case ["POST", "api", "repos", "move"]:
            return repositories_api.move(request, store)
        case ["GET", "api", kinds] if kinds in _PLURAL:
            return listing.listed(request, store, _PLURAL[kinds])
        case [_, "api", kinds, *rest] if kinds in _PLURAL:
            return _of_a_repository(request, store, method, _PLURAL[kinds], rest)
        case [_, *rest]:
            kind = "model"
            if rest[0] in _PLURAL:
                kind, rest = _PLURAL[rest[0]], rest[1:]
            return _page(request, store, method, kind, rest)
    raise AssertionError("a method is always there")


def _page(request: Request, store: Store, method: str, kind: str, rest: list[str]) -> Answer:
    """Answer what is no part of the API: files, and what git asks for."""
    if method == "POST" and rest[-4:-1] == ["info", "lfs", "objects"]:
        name = "/".join(rest[:-4]).removesuffix(".git")
        if rest[-1] == "batch":
            return uploads.lfs_batch(request, store, kind, name)
        if rest[-1] == "verify":
            return uploads.lfs_verify(request, store, kind, name)
    if "resolve" in rest[1:3]:
        return _of_a_repository(request, store, method, kind, rest)
    raise _unknown(request)


def _of_a_repository(request: Request, store: Store, method: str, kind: str, rest: list[str]) -> Answer:
    """Answer what is asked of one repository, whose name has one part or two."""
    length = 1 if (kind, rest[0]) in store.repositories else 2
    name, asked = "/".join(rest[:length]), rest[length:]
    for pattern, route in _OF_A_REPOSITORY.items():
        wanted, *parts = pattern.split()
        if wanted != method or (len(parts) != len(asked) and (parts[-1:] != ["**"] or len(asked) < len(parts))):
            continue
        values = []
        for place, part in enumerate(parts):
            if part == "**":
                values.append("/".join(asked[place:]))
            elif part == "*":
                values.append(asked[place])
            elif part != asked[place]:
                break
        else:
            return route(request, store, kind, name, *values)
    raise _unknown(request)


def _unknown(request: Request) -> Refusal:
    return Refusal(404, f"{request.method} {request.path} is not served by the local Hub")
