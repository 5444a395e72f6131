"""What a repository is, in JSON; and lists of repositories, filtered, sorted, in pages."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from .answers import Answer, Refusal, Request, reply
from .front_matter import library, metadata, relation, tags, texts
from .repository import Commit, Repository
from .store import Store

Query = Mapping[str, Sequence[str]]

# What `expand` may ask for; the rest is an error, as on the real Hub.
_NAMES = (
    "author baseModels cardData childrenModelCount citation config createdAt datasets description disabled downloads "
    "downloadsAllTime evalResults gated gguf inference inferenceProviderMapping lastModified library_name likes "
    "mask_token model-index models paperswithcode_id pipeline_tag private resourceGroup runtime safetensors sdk sha "
    "siblings spaces subdomain tags transformersInfo trendingScore usedStorage widgetData xetEnabled"
)
_EXPANDABLE = frozenset(_NAMES.split())
_SHORT = ("id", "modelId", "likes", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt", "sdk")
_SORTED_BY = ("createdAt", "lastModified", "downloads", "likes", "trendingScore")


def listed(request: Request, store: Store, kind: str) -> Answer:
    """List the repositories that match, one page of them."""
    query = request.query
    found = [repository for (of, _), repository in store.repositories.items() if of == kind]
    found = [repository for repository in found if repository.sees(request.user) and _matches(repository, query)]
    order = request.asked("sort") or "trendingScore"
    if order not in _SORTED_BY:
        raise Refusal(400, f'"sort" must be one of {list(_SORTED_BY)}')
    facts = [_facts(repository, repository.head) for repository in found]
    places = sorted(range(len(found)), key=lambda place: facts[place][order], reverse=True)
    page, following = cut_page(places, request, store.page_size)
    return reply([described(found[place], query, found[place].head) for place in page], headers=following)


def described(repository: Repository, query: Query, commit: Commit, whole: bool = False) -> dict[str, Any]:
    """Describe a repository: in short, as a `whole`, or with just what `expand` asks for."""
    facts = _facts(repository, commit)
    asked = [name for each in (*query.get("expand", ()), *query.get("expand[]", ())) for name in each.split(",")]
    if unknown := [name for name in asked if name not in _EXPANDABLE]:
        raise Refusal(400, f'"expand" must not be {unknown}')
    if asked:
        wanted: Sequence[str] = ("id", *asked)
    elif whole or _true(query, "full"):
        wanted = [name for name in facts if name not in ("baseModels", "trendingScore")]
        if not whole:
            wanted = [name for name in wanted if name not in ("cardData", "config", "model-index", "usedStorage")]
    else:
        wanted = [name for name in _SHORT if name in facts]
    if not asked:
        wanted = [*wanted, *(name for name in ("cardData", "config") if _true(query, name))]
    found: dict[str, Any] = {"_id": hashlib.md5(repository.address.encode(), usedforsecurity=False).hexdigest()[:24]}
    found |= {name: facts[name] for name in wanted if facts.get(name) is not None}
    if "siblings" in found and _true(query, "blobs"):
        found["siblings"] = [_sibling(path, commit) for path in sorted(commit.files)]
    return found


def cut_page(
    items: Sequence[Any], request: Request, size: int, limit: str = "limit"
) -> tuple[Sequence[Any], dict[str, str]]:
    """Give the page of a list that a request asks for, and the header that leads to the next one."""
    if request.asked(limit):
        size = min(size, int(request.asked(limit) or 0)) or size
    cursor = request.asked("cursor")
    start = int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    if start + size >= len(items):
        return items[start:], {}
    query = {**request.query, "cursor": [base64.urlsafe_b64encode(str(start + size).encode()).decode()]}
    address = f"{request.endpoint}{urlsplit(request.path).path}?{urlencode(query, doseq=True)}"
    return items[start : start + size], {"Link": f'<{address}>; rel="next"'}


def _true(query: Query, name: str) -> bool:
    return query.get(name, ["false"])[-1].lower() in ("true", "1")


def _matches(repository: Repository, query: Query) -> bool:
    """Say whether a repository has all the tags that are asked for, and is what else is asked for."""
    known = {tag.lower() for tag in tags(repository)}
    for each in query.get("filter", ()):
        if not all(tag.lower() in known for tag in each.split(",")):
            return False
    data = metadata(repository.head.files)
    for name, value in {
        "author": repository.namespace,
        "pipeline_tag": data.get("pipeline_tag"),
        "gated": str(bool(repository.gated)).lower(),
    }.items():
        if name in query and value != (query[name][-1].lower() if name == "gated" else query[name][-1]):
            return False
    return all(word.lower() in repository.name.lower() for word in query.get("search", ()))


def _facts(repository: Repository, commit: Commit) -> dict[str, Any]:
    """Say everything there is to say."""
    files, data = commit.files, metadata(commit.files)
    facts: dict[str, Any] = {
        "id": repository.name,
        "author": repository.namespace or None,
        "sha": commit.sha,
        "lastModified": commit.date,
        "createdAt": repository.created,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": tags(repository),
        # The Hub takes the results out of the card's data and gives them a place of their own.
        "cardData": {name: value for name, value in data.items() if name != "model-index"} or None,
        "siblings": [{"rfilename": path} for path in sorted(files)],
        "usedStorage": sum(len(blob.content) for blob in files.values()),
    }
    if repository.kind == "model":
        facts |= {
            "modelId": repository.name,
            "pipeline_tag": data.get("pipeline_tag"),
            "library_name": library(files, data),
            "model-index": data.get("model-index"),
            "config": _config(commit),
        }
        if bases := texts(data.get("base_model")):
            facts["baseModels"] = {"relation": relation(files, data), "models": [{"id": base} for base in bases]}
    if repository.kind == "space":
        facts["sdk"] = data.get("sdk", repository.sdk)
    return {name: _plain(value) for name, value in facts.items()}


def _plain(value: Any) -> Any:
    """Give what JSON can carry of a card's data, which may have dates, odd keys and figures that are none."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _config(commit: Commit) -> dict[str, Any] | None:
    """Give what the Hub shows of the configuration of a model or of an adapter."""
    found: dict[str, Any] = {}
    for path, wanted in (
        ("config.json", ("architectures", "model_type")),
        ("adapter_config.json", ("base_model_name_or_path", "task_type")),
    ):
        try:
            read = json.loads(commit.files[path].content)
        except (KeyError, ValueError):
            continue
        kept = {name: read[name] for name in wanted if name in read}
        found |= {"peft": kept} if path == "adapter_config.json" else kept
    return found or None


def _sibling(path: str, commit: Commit) -> dict[str, Any]:
    blob = commit.files[path]
    found: dict[str, Any] = {"rfilename": path, "size": len(blob.content), "blobId": blob.oid}
    if blob.lfs:
        found["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return found
