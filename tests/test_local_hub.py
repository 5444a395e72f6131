"""The Hub for tests, asked by the real client: a test that relies on it must not pass because it is too kind."""

import hashlib
import http.client
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_hub import Fault, Hold, Hub, User, hub, run_client

pytestmark = pytest.mark.slow

ANN, BOB = "token-of-ann", "token-of-bob"
TOKENS = {
    ANN: User("ann", orgs=("acme",)),
    BOB: User("bob"),
    "token-that-reads": User("ann", orgs=("acme",), can_write=False),
}

# Every client prints one JSON value. `told` gives the kind of an exception, its status and its words.
_PRELUDE = """
import json, random, sys
from pathlib import Path
from huggingface_hub import (
    CommitOperationAdd as Add, CommitOperationDelete as Delete, HfApi, hf_hub_download, snapshot_download
)
from huggingface_hub.errors import HfHubHTTPError

api = HfApi()

def told(function, *args, **kwargs):
    try:
        return ["done", str(function(*args, **kwargs))]
    except Exception as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
        return [type(error).__name__, status, str(error)]

def commit(files, name="acme/x", message="more", **options):
    operations = [Add(path, text) for path, text in files.items()]
    return api.create_commit(name, operations, commit_message=message, **options)

def say(value):
    print(json.dumps(value))
"""


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub(TOKENS) as running:
        yield running


def ask(server: Hub, home: Path, code: str, *, token: str | None = ANN, **options: Any) -> Any:
    """Run a client, and give the last line that it printed as JSON."""
    done = run_client(_PRELUDE + code, server, home=home, token=token, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def send(address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    """Send what no client of the Hub would send, and give status, headers and body."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=900)
    try:
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(server: Hub, path: str, value: Any, token: str | None = ANN) -> tuple[int, Any]:
    """Post JSON, or the lines of a commit."""
    body = "\n".join(map(json.dumps, value)) if isinstance(value, list) else json.dumps(value)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    status, _, answer = send(server.endpoint, "POST", path, body.encode(), headers)
    return status, json.loads(answer)


CARD = b"""---
base_model: acme/base-v2
base_model_relation: adapter
datasets:
- acme/answers
language:
- en
library_name: peft
license: mit
model-index:
- name: x
  results:
  - task: {type: text-generation}
    dataset: {type: acme/answers, name: answers}
    metrics:
    - {type: negative_flip_rate, value: 0.02}
pipeline_tag: text-generation
tags:
- muscle
- compatible-with:acme/base-v1
---
See https://arxiv.org/abs/2407.09435.
"""


def test_what_is_uploaded_comes_back_byte_for_byte(server: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    files = {
        "README.md": CARD,
        "adapter_model.safetensors": bytes(range(256)) * 400,
        "quadrants.png": b"\x89PNG\r\n\x1a\n\0" * 30,
        "sub folder/naïve #1.json": b"{}\n",
        "empty.txt": b"",
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    found = ask(
        server,
        tmp_path,
        """
api.create_repo("acme/x")
made = api.upload_folder(repo_id="acme/x", folder_path="folder", commit_message="first")
again = api.upload_folder(repo_id="acme/x", folder_path="folder", commit_message="second")
folder = Path(snapshot_download("acme/x"))
found = [path for path in folder.rglob("*") if path.is_file()]
say([made.oid, again.oid, {path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in found}])
""",
    )
    oid, again, read = found
    assert {path: bytes.fromhex(content) for path, content in read.items() if path != ".gitattributes"} == files
    assert server.files("acme/x").keys() == {*files, ".gitattributes"}
    assert [message for _, message in server.commits("acme/x")] == ["first", "initial commit"]
    # What is there already is not committed again.
    assert oid == again == server.refs("acme/x")["refs/heads/main"]
    large = {hashlib.sha256(files[path]).hexdigest() for path in ("adapter_model.safetensors", "quadrants.png")}
    assert server.uploaded("acme/x") == large


def test_tags_are_those_that_the_hub_makes_of_a_card(server: Hub) -> None:
    server.create(
        "acme/x", files={"README.md": CARD, "adapter_model.safetensors": b"\0", "adapter_config.json": b"{}"}
    )
    info = server.info("acme/x")
    assert info["tags"] == [
        "peft",
        "safetensors",
        "text-generation",
        "muscle",
        "compatible-with:acme/base-v1",
        "en",
        "dataset:acme/answers",
        "arxiv:2407.09435",
        "base_model:acme/base-v2",
        "base_model:adapter:acme/base-v2",
        "license:mit",
        "model-index",
        "region:us",
    ]
    assert info["model-index"][0]["results"][0]["metrics"] == [{"type": "negative_flip_rate", "value": 0.02}]
    assert "model-index" not in info["cardData"]


def test_the_list_of_models_is_cut_sorted_and_paged_as_asked(server: Hub, tmp_path: Path) -> None:
    for number in range(5):
        tags = ["muscle", "even" if number % 2 == 0 else "odd"]
        server.create(f"acme/Model-{number}", files={"README.md": f"---\ntags: {tags}\n---\n".encode()})
    server.create("bob/model-5", files={"README.md": b"---\ntags: [muscle]\npipeline_tag: other\n---\n"})
    server.create("acme/secret", files={"README.md": b"---\ntags: [muscle]\n---\n"}, private=True)
    server.create("acme/broken", files={"README.md": b"---\ntags: [muscle\n---\n"})
    server.create("acme/odd", files={"README.md": b"---\ntags: odd-one\n2026-01-01: .nan\n---\n\xff"})
    server.create("acme/data", kind="dataset", files={"README.md": b"---\ntags: [muscle]\n---\n"})
    server.page_size = 2
    code = """
def names(**asked):
    return [model.id for model in api.list_models(**asked)]
say([
    names(filter="muscle", sort="created_at"), names(filter=["muscle", "even"], sort="created_at"),
    names(filter="none"), names(filter="muscle", author="bob"), names(search="MODEL-3"), names(pipeline_tag="other"),
    names(filter="odd-one", expand=["cardData"]), names(filter="muscle", limit=3, sort="created_at"),
    [found.id for found in api.list_datasets(filter="muscle")],
    [sorted(name for name, value in vars(model).items() if value is not None)
     for model in api.list_models(search="model-5", expand=["tags", "cardData"])],
    told(lambda: names(expand=["nothing"])),
])
"""
    muscle, even, none, of_bob, searched, task, odd, first, data, expanded, refused = ask(
        server, tmp_path, code, token=None
    )
    assert muscle == ["bob/model-5", "acme/Model-4", "acme/Model-3", "acme/Model-2", "acme/Model-1", "acme/Model-0"]
    assert even == ["acme/Model-4", "acme/Model-2", "acme/Model-0"]
    assert (none, of_bob, searched, task) == ([], ["bob/model-5"], ["acme/Model-3"], ["bob/model-5"])
    assert odd == ["acme/odd"], "a date for a name, no number, and no text: JSON all the same"
    assert (first, data) == (muscle[:3], ["acme/data"])
    assert expanded == [["_id", "cardData", "card_data", "id", "tags"]]
    assert refused[1] == 400
    pages = [path for _, path, _ in server.requests if path.startswith("/api/models?filter=muscle&sort")]
    assert len(pages) == 3 + 2, "six models in pages of two, and three in pages of two"
    assert "acme/secret" in ask(server, tmp_path, 'say([m.id for m in api.list_models(author="acme")])')


BAD_CARDS = {
    "license: free": '"license" must be one of',
    "language: English": '"language" must only contain lowercase characters',
    "language: english": "It must be an ISO 639-1",
    "tags: muscle": '"tags" must be an array',
    "tags: [muscle, 1]": '"tags[1]" must be a string',
    "base_model: ../checkpoint": '"base_model" with value "../checkpoint" is not valid. Use a model id',
    "base_model: /home/ann/base": '"base_model" with value "/home/ann/base" is not valid',
    "base_model_relation: child": '"base_model_relation" must be one of',
    "new_version: my model": '"new_version" with value "my model" is not valid',
    "datasets: [my data]": '"datasets[0]" with value "my data" is not valid',
    "license: mit\nlicense: mit": "duplicated mapping key",
    "tags: [": "YAML parse error",
    "just words": "must be an object",
    "model-index: {}": '"model-index" must be an array',
    "model-index: [{name: x}]": '"model-index[0].results" is required',
    "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b, name: b}}]}]": '.metrics" is required',
    "model-index: [{name: x, results: [{task: {type: a}, metrics: []}]}]": '.dataset" is required',
    "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b, name: b}, metrics: [{type: c}]}]}]": (
        '.metrics[0].value" is required'
    ),
    "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b, name: b}, "
    "metrics: [{type: c, value: .nan}]}]}]": '.metrics[0].value" must be a number',
}


def test_a_card_that_the_hub_refuses_is_refused(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x")
    cards = ["---\n" + front + "\n---\n" for front in BAD_CARDS]
    code = """
say([[told(commit, {"README.md": card.encode()}) for card in json.loads(sys.argv[1])],
     told(commit, {"README.md": b"---\\nlanguage: no\\nlicense: mit\\n---\\n"})])
"""
    found, good = ask(server, tmp_path, code, arguments=(json.dumps(cards),))
    for (kind, _, words), expected in zip(found, BAD_CARDS.values(), strict=True):
        assert kind == "ValueError" and expected in words, (expected, words)
    assert good[0] == "done", "Norwegian is no boolean"
    # Whoever does not ask first is refused as well, and by the rules of its kind.
    header = {"key": "header", "value": {"summary": "bad"}}
    content = {"content": "LS0tCmxpY2Vuc2U6IGZyZWUKLS0tCg==", "path": "README.md", "encoding": "base64"}
    status, answer = post(server, "/api/models/acme/x/commit/main", [header, {"key": "file", "value": content}])
    assert status == 400 and '"license" must be one of' in answer["error"]
    status, answer = post(server, "/api/validate-yaml", {"content": "---\nsdk: flask\n---\n", "repoType": "space"})
    assert status == 400 and '"sdk" must be one of' in answer["errors"][0]["message"]
    status, answer = post(server, "/api/validate-yaml", {"content": "# Nothing", "repoType": "model"})
    assert status == 200 and "empty or missing yaml metadata" in answer["warnings"][0]["message"]


def test_who_may_do_what(server: Hub, tmp_path: Path) -> None:
    server.create("acme/open", files={"a.txt": b"a"})
    server.create("acme/secret", files={"a.txt": b"a"}, private=True)
    server.create("acme/gated", files={"a.txt": b"a"}, gated=True)
    code = """
say({
    "whoami": told(lambda: api.whoami()["name"]), "missing": told(api.model_info, "acme/none"),
    "secret": told(api.model_info, "acme/secret"), "gated": told(hf_hub_download, "acme/gated", "a.txt"),
    "gated info": told(api.model_info, "acme/gated"),
    "revision": told(hf_hub_download, "acme/open", "a.txt", revision="v9"),
    "file": told(hf_hub_download, "acme/open", "none.txt"), "open": told(hf_hub_download, "acme/open", "a.txt"),
    "create": told(api.create_repo, "acme/new"), "commit": told(commit, {"b.txt": b"b"}, "acme/open"),
    "request": told(commit, {"b.txt": b"b", "b.safetensors": b"b"}, "acme/open", create_pr=True),
    "tag": told(api.create_tag, "acme/open", tag="v1"), "check": told(api.auth_check, "acme/gated"),
})
"""
    tokens = {
        "nobody": None,
        "ann": ANN,
        "bob": BOB,
        "read": "token-that-reads",
        "wrong": "none",
    }
    found = {}
    for who, token in tokens.items():
        (tmp_path / who).mkdir()
        answers = ask(server, tmp_path / who, code, token=token)
        found[who] = {what: (kind, told[0] if kind != "done" else None) for what, (kind, *told) in answers.items()}
    gone, gated = "RepositoryNotFoundError", "GatedRepoError"
    of_all = {"revision": ("RevisionNotFoundError", 404), "file": ("RemoteEntryNotFoundError", 404)}
    done, refused = ("done", None), ("HfHubHTTPError", 403)
    assert found["nobody"] | of_all == found["nobody"]
    assert {what: found["nobody"][what] for what in ("missing", "secret", "gated", "gated info", "open", "check")} == {
        "missing": (gone, 401),
        "secret": (gone, 401),
        "gated": (gated, 401),
        "gated info": done,
        "open": done,
        "check": (gated, 401),
    }
    assert {found["nobody"][what][1] for what in ("create", "commit", "request", "tag")} == {401}
    writes = ("create", "commit", "request", "tag")
    assert found["ann"] == dict.fromkeys(found["ann"], done) | of_all | {"missing": (gone, 404)}
    assert found["bob"] == dict.fromkeys(found["bob"], done) | of_all | {
        "missing": (gone, 404),
        "secret": (gone, 404),
        "gated": (gated, 403),
        "check": (gated, 403),
        "create": refused,
        "commit": refused,
        "tag": refused,
    }
    assert found["read"] == found["ann"] | dict.fromkeys(writes, refused)
    assert set(found["wrong"].values()) == {("HfHubHTTPError", 401)}
    server.accept("acme/gated", "bob")
    assert ask(server, tmp_path, 'say(told(hf_hub_download, "acme/gated", "a.txt"))', token=BOB)[0] == "done"


def test_repositories_are_made_changed_and_removed(server: Hub, tmp_path: Path) -> None:
    code = """
say([
    api.create_repo("mine"), told(api.create_repo, "mine"), api.create_repo("ann/mine", exist_ok=True),
    api.create_repo("acme/data", repo_type="dataset", private=True),
    api.create_repo("acme/app", repo_type="space", space_sdk="gradio"),
    told(api.update_repo_settings, "ann/mine", private=True, gated="manual"),
    told(api.move_repo, "ann/mine", "acme/ours"),
    told(api.delete_repo, "acme/data", repo_type="dataset"), told(api.delete_repo, "acme/data", repo_type="dataset"),
    api.repo_exists("acme/app", repo_type="space"), api.repo_exists("acme/app"),
])
"""
    found = ask(server, tmp_path, code)
    address = server.endpoint
    assert [found[0], found[2]] == [f"{address}/ann/mine"] * 2
    assert found[1][:2] == ["HfHubHTTPError", 409]
    assert found[3:5] == [f"{address}/datasets/acme/data", f"{address}/spaces/acme/app"]
    assert [each[0] for each in found[5:9]] == ["done", "done", "done", "RepositoryNotFoundError"]
    assert found[9:] == [True, False]
    assert b"sdk: gradio" in server.files("acme/app", kind="space")["README.md"]
    info = server.info("acme/ours")
    assert (info["private"], info["gated"]) == (True, "manual")
    assert not server.exists("ann/mine") and not server.exists("acme/data", kind="dataset")


def test_branches_tags_and_pull_requests(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"1", "b.txt": b"1"})
    code = """
first = api.model_info("acme/x").sha
api.create_tag("acme/x", tag="v1")
api.create_branch("acme/x", branch="feature/one")
one = commit({"a.txt": b"2"}, create_pr=True, message="one")
two = commit({"a.txt": b"3"}, create_pr=True, message="two")
more = commit({"c.txt": b"c"}, revision=one.pr_revision)
on_branch = commit({"d.txt": b"d"}, revision="feature/one")
say([
    first, one.pr_revision, two.pr_num, told(api.create_tag, "acme/x", tag="v1"),
    told(commit, {"e": b"e"}, revision="v1"), told(commit, {"e": b"e"}, revision="new"),
    told(api.create_branch, "acme/x", branch="feature/one"),
    told(api.merge_pull_request, "acme/x", 1), told(api.merge_pull_request, "acme/x", 2),
    api.get_discussion_details("acme/x", 2).conflicting_files, api.get_discussion_details("acme/x", 1).status,
    told(api.change_discussion_status, "acme/x", 2, "closed"),
    [(each.num, each.title, each.status) for each in api.get_repo_discussions("acme/x")],
    [each.name for each in api.list_repo_refs("acme/x", include_pull_requests=True).pull_requests],
    [each.title for each in api.list_repo_commits("acme/x")],
    hf_hub_download("acme/x", "d.txt", revision="feature/one"),
    told(api.delete_branch, "acme/x", branch="feature/one"), told(api.delete_branch, "acme/x", branch="main"),
    told(api.delete_tag, "acme/x", tag="v1"), told(api.delete_tag, "acme/x", tag="v1"),
])
"""
    found = ask(server, tmp_path, code)
    assert found[1:3] == ["refs/pr/1", 2]
    assert [each[:2] for each in found[3:7]] == [
        ["HfHubHTTPError", 409],
        ["RevisionNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        ["HfHubHTTPError", 409],
    ]
    assert found[7][0] == "done" and found[8][:2] == ["HfHubHTTPError", 409], "both change a.txt"
    assert found[9:11] == [["a.txt"], "merged"]
    assert found[12:14] == [[[2, "two", "closed"], [1, "one", "merged"]], ["1", "2"]]
    assert found[14] == ["one (#1)", "initial commit"]
    assert Path(found[15]).read_bytes() == b"d"
    assert [each[0] for each in found[16:]] == ["done", "HfHubHTTPError", "done", "RevisionNotFoundError"]
    assert server.files("acme/x") == {"a.txt": b"2", "b.txt": b"1", "c.txt": b"c"}
    assert server.files("acme/x", revision="refs/pr/2")["a.txt"] == b"3"
    assert [(each.num, each.author, each.status) for each in server.pull_requests("acme/x")] == [
        (1, "ann", "merged"),
        (2, "ann", "closed"),
    ]


def test_who_pushes_after_somebody_else_is_told(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"1"})
    code = """
seen = api.model_info("acme/x").sha
commit({"a.txt": b"theirs"})
say([told(commit, {"a.txt": b"ours"}, parent_commit=seen),
     commit({"a.txt": b"ours"}, parent_commit=seen, create_pr=True).pr_revision])
"""
    conflict, request = ask(server, tmp_path, code)
    assert conflict[1] == 412 and "A commit has happened since" in conflict[2]
    assert server.files("acme/x") == {"a.txt": b"theirs"}
    assert server.files("acme/x", revision=request) == {"a.txt": b"ours"}


def test_a_commit_is_made_as_a_whole_or_not_at_all(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"1", "sub/b.txt": b"1", "sub/c.txt": b"1"})
    header = {"key": "header", "value": {"summary": "bad"}}
    good = {"key": "file", "value": {"content": "Mg==", "path": "a.txt", "encoding": "base64"}}
    never = {"path": "w.safetensors", "algo": "sha256", "oid": "0" * 64, "size": 3}
    for bad, status in (
        ({"key": "lfsFile", "value": never}, 400),
        ({"key": "deletedFile", "value": {"path": "none.txt"}}, 404),
        ({"key": "deletedFolder", "value": {"path": "none"}}, 404),
        ({"key": "file", "value": {**good["value"], "path": "../a.txt"}}, 400),  # type: ignore[dict-item]
        ({"key": "surprise", "value": {"path": "a.txt"}}, 400),
    ):
        assert post(server, "/api/models/acme/x/commit/main", [header, good, bad])[0] == status
    assert post(server, "/api/models/acme/x/commit/main", [good])[0] == 400, "no header"
    status, _, _ = send(server.endpoint, "POST", "/api/models/acme/x/commit/main", b"{", {"Authorization": ANN})
    assert status == 400
    assert server.files("acme/x") == {"a.txt": b"1", "sub/b.txt": b"1", "sub/c.txt": b"1"}
    ask(
        server, tmp_path, 'say(str(api.create_commit("acme/x", [Delete("sub/"), Add("n", b"n")], commit_message="m")))'
    )
    assert server.files("acme/x") == {"a.txt": b"1", "n": b"n"}


def test_the_storage_takes_only_what_was_announced_and_no_tokens(server: Hub) -> None:
    server.create("acme/x")
    content = b"weights"
    oid = hashlib.sha256(content).hexdigest()
    asked = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}], "ref": {"name": "main"}}
    assert post(server, "/acme/x.git/info/lfs/objects/batch", asked, token=BOB)[0] == 403
    _, answer = post(server, "/acme/x.git/info/lfs/objects/batch", asked)
    storage, _, path = answer["objects"][0]["actions"]["upload"]["href"].partition("/upload/")
    path = f"/upload/{path}"
    assert storage != server.endpoint
    assert send(storage, "PUT", path, b"weighty")[0] == 400, "another content"
    assert send(storage, "PUT", path, content + b"!")[0] == 400
    assert send(storage, "PUT", path.partition("?")[0], content)[0] == 403, "not signed"
    assert send(storage, "PUT", path, content, {"Authorization": "Bearer token-of-ann"})[0] == 400
    verify = {"oid": oid, "size": len(content)}
    assert post(server, "/acme/x.git/info/lfs/objects/verify", verify)[0] == 422
    assert server.uploaded("acme/x") == set()
    assert send(storage, "PUT", path, content)[0] == 200
    assert post(server, "/acme/x.git/info/lfs/objects/verify", verify)[0] == 200
    assert server.uploaded("acme/x") == {oid}
    _, answer = post(server, "/acme/x.git/info/lfs/objects/batch", asked)
    assert "actions" not in answer["objects"][0], "it is there already"


# What goes wrong with the commit itself, what the client makes of it, and whether the Hub has the new state then.
COMMIT_FAULTS = {
    "no right": (Fault(status=401), ("HfHubHTTPError", 401), False),
    "no right to write": (Fault(status=403), ("HfHubHTTPError", 403), False),
    "conflict": (Fault(status=409), ("HfHubHTTPError", 409), False),
    "too many requests": (Fault(status=429, retry_after=7), ("HfHubHTTPError", 429), False),
    "broken": (Fault(status=500), ("HfHubHTTPError", 500), False),
    # Which of the exceptions of the network it is depends on what the client was about to do.
    "cut": (Fault(cut_after_bytes=100), (None, 0), False),
    "answer lost": (Fault(answer_lost=True), ("RemoteProtocolError", 0), True),
}


def test_a_fault_leaves_the_old_state_or_the_new_one_and_a_retry_completes(server: Hub, tmp_path: Path) -> None:
    for number, (fault, _, _) in enumerate(COMMIT_FAULTS.values()):
        server.create(f"acme/x{number}", files={"a.txt": b"old"})
        # What is injected is the Fault of the table, for the commits of this one repository.
        server.fault(replace(fault, method="POST", path=f"/api/models/acme/x{number}/commit/"))
    code = """
files = {"a.txt": b"new" * 1000, "w.safetensors": b"weights" * 1000}
first = [told(commit, files, f"acme/x{number}") for number in range(int(sys.argv[1]))]
states = [api.list_repo_files(f"acme/x{number}") for number in range(len(first))]
say([first, states, [told(commit, files, f"acme/x{number}")[0] for number in range(len(first))]])
"""
    first, states, second = ask(server, tmp_path, code, arguments=(str(len(COMMIT_FAULTS)),))
    for number, (name, (fault, (kind, status), new)) in enumerate(COMMIT_FAULTS.items()):
        assert first[number][1] == status and kind in (None, first[number][0]), (name, first[number])
        assert states[number] == (["a.txt", "w.safetensors"] if new else ["a.txt"]), name
        assert second[number] == "done", name
        assert len(server.commits(f"acme/x{number}")) == 2, name
        assert server.files(f"acme/x{number}") == {"a.txt": b"new" * 1000, "w.safetensors": b"weights" * 1000}
        seen = [status for _, path, status in server.requests if path == f"/api/models/acme/x{number}/commit/main"]
        assert seen[0] == (fault.status or 0), name


def test_an_upload_that_is_cut_leaves_nothing_and_goes_on_at_the_second_try(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"old"})
    server.fault(Fault(method="PUT", path="/upload/", cut_after_bytes=100_000, times=6))
    code = """
import time
time.sleep = lambda seconds: None
Path("w.safetensors").write_bytes(b"weights" * 100000)
say([told(commit, {"w.safetensors": "w.safetensors", "a.txt": b"new"}) for _ in range(2)])
"""
    first, second = ask(server, tmp_path, code)
    assert first[0] == "RuntimeError" and "Error while uploading 'w.safetensors'" in first[2]
    assert second[0] == "done"
    puts = [status for method, _, status in server.requests if method == "PUT"]
    assert puts == [0] * 6 + [200], "the client tries six times before it gives up"
    assert server.files("acme/x") == {"a.txt": b"new", "w.safetensors": b"weights" * 100000}
    assert len(server.commits("acme/x")) == 2


def test_the_client_waits_as_long_as_it_is_told_to(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x")
    server.fault(Fault(status=429, path="/preupload/", retry_after=3, times=2))
    server.fault(Fault(status=503, path="/objects/batch"))
    code = """
import time
waited = []
time.sleep = waited.append
say([told(commit, {"w.safetensors": b"w"})[0], waited])
"""
    assert ask(server, tmp_path, code) == ["done", [4.0, 4.0, 1]]


def test_a_slow_answer_is_slow_and_what_was_asked_is_done(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"a"})
    hold = Hold()
    server.fault(Fault(path="^/api/models/acme/x$", hold=hold))
    code = """
say([told(api.model_info, "acme/x", timeout=0.3), told(api.model_info, "acme/x", timeout=900)[0]])
"""
    slow, later = ask(server, tmp_path, code)
    assert (slow[0], later) == ("ReadTimeout", "done")
    hold.release()
    hold.wait_until_done()


def test_a_download_that_is_cut_goes_on_where_it_was(server: Hub, tmp_path: Path) -> None:
    # The client keeps what it got ten MiB at a time.
    server.create("acme/x", files={"w.safetensors": bytes(range(256)) * 50_000})
    server.fault(Fault(method="GET", path="/objects/", cut_after_bytes=11_000_000))
    code = """
import time
time.sleep = lambda seconds: None
say(Path(hf_hub_download("acme/x", "w.safetensors")).read_bytes() == bytes(range(256)) * 50_000)
"""
    assert ask(server, tmp_path, code) is True
    gets = [status for method, path, status in server.requests if method == "GET" and path.startswith("/objects/")]
    assert gets == [0, 206]


def test_faults_hit_the_requests_that_they_are_for(server: Hub) -> None:
    server.create("acme/x", files={"a.txt": b"abc"})

    def status(path: str = "/api/models/acme/x", method: str = "GET") -> int:
        return send(server.endpoint, method, path)[0]  # type: ignore[no-any-return]

    server.fault(Fault(status=500, path="/x$", after=1, times=2))
    assert [status() for _ in range(4)] == [200, 500, 500, 200]
    server.fault(Fault(status=403, method="HEAD", times=None))
    assert [status(method="HEAD"), status(), status(method="HEAD")] == [403, 200, 403]
    server.clear_faults()
    assert status(method="HEAD") == 200
    server.fault(Fault(status=401, code="RepoNotFound", message="gone", retry_after=3))
    _, headers, body = send(server.endpoint, "GET", "/api/models/acme/x")
    assert (headers["X-Error-Code"], headers["X-Error-Message"], headers["Retry-After"]) == (
        "RepoNotFound",
        "gone",
        "3",
    )
    assert json.loads(body) == {"error": "gone"}
    # A cut is a cut, even of less than was said.
    for method, body in (("HEAD", b""), ("GET", b""), ("POST", b"{}")):
        server.fault(Fault(cut_after_bytes=10_000))
        with pytest.raises((http.client.HTTPException, OSError)):
            send(server.endpoint, method, "/api/models/acme/x", body)
        assert server.requests[-1] == (method, "/api/models/acme/x", 0)
    with pytest.raises(ValueError, match="a fault needs"):
        Fault(path="/api")


def test_a_range_of_a_file_is_given(server: Hub) -> None:
    server.create("acme/x", files={"a.txt": b"0123456789"})
    for asked, status, content in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("lines=1", 200, b"0123456789"),
    ):
        answer = send(server.endpoint, "GET", "/acme/x/resolve/main/a.txt", headers={"Range": asked})
        assert (answer[0], answer[2]) == (status, content), asked


def test_a_request_that_the_hub_cannot_serve_is_no_silent_success() -> None:
    with hub() as running:
        assert send(running.endpoint, "GET", "/api/models/acme/x/lfs-files")[0] == 404
        assert send(running.endpoint, "GET", "/")[0] == 404
    # A mistake in the server itself is not for a client to swallow.
    with pytest.raises(AssertionError, match="the local Hub itself failed"), hub(TOKENS) as running:
        assert post(running, "/api/validate-yaml", {})[0] == 500


def test_hf_xet_sends_and_fetches_real_bytes(server: Hub, tmp_path: Path) -> None:
    code = """
data = random.Random(1).randbytes(300_000)
api.create_repo("acme/x")
Path("folder/sub").mkdir(parents=True)
Path("folder/README.md").write_text("---\\nlicense: mit\\n---\\n")
Path("folder/w.safetensors").write_bytes(data)
Path("folder/sub/half.safetensors").write_bytes(data[:150_000])
made = api.upload_folder(repo_id="acme/x", folder_path="folder")
commit({"v.safetensors": data[50_000:]})
request = api.upload_folder(repo_id="acme/x", folder_path="folder", path_in_repo="copy", create_pr=True)
folder = Path(snapshot_download("acme/x"))
say([made.pr_url, request.pr_revision, (folder / "w.safetensors").read_bytes() == data,
     Path(hf_hub_download("acme/x", "copy/w.safetensors", revision="refs/pr/1")).read_bytes() == data])
"""
    assert ask(server, tmp_path, code, xet=True) == [None, "refs/pr/1", True, True]
    data = random.Random(1).randbytes(300_000)  # noqa: S311 - nothing to keep secret
    assert server.files("acme/x") | {".gitattributes": b""} == {
        ".gitattributes": b"",
        "README.md": b"---\nlicense: mit\n---\n",
        "sub/half.safetensors": data[:150_000],
        "v.safetensors": data[50_000:],
        "w.safetensors": data,
    }
    paths = [path for _, path, _ in server.requests]
    assert not any("/upload/" in path or "/objects/" in path for path in paths), "nothing went the other way"
    # Whoever has no hf_xet gets the same bytes.
    other = tmp_path / "other"
    other.mkdir()
    code = """
data = random.Random(1).randbytes(300_000)
say([Path(hf_hub_download("acme/x", "w.safetensors")).read_bytes() == data,
     Path(hf_hub_download("acme/x", "v.safetensors")).read_bytes() == data[50_000:]])
"""
    assert ask(server, other, code) == [True, True]


def test_faults_of_hf_xet_leave_the_old_state(server: Hub, tmp_path: Path) -> None:
    server.create("acme/x", files={"a.txt": b"old"})
    server.create("acme/secret", files={"w.safetensors": b"w"}, private=True)
    code = """
say([told(commit, {"w.safetensors": b"w" * 1000, "a.txt": b"new"}) for _ in range(3)])
"""
    server.fault(Fault(status=403, path="/xet-write-token/"))
    server.fault(Fault(status=429, path="/commit/", retry_after=1))
    refused, limited, done = ask(server, tmp_path, code, xet=True)
    # Not an exception of huggingface_hub: hf_xet asks for the token itself.
    assert refused[:2] == ["ConnectionError", 0] and "403 Forbidden" in refused[2], refused
    assert limited[:2] == ["HfHubHTTPError", 429]
    assert done[0] == "done"
    assert server.files("acme/x") == {"a.txt": b"new", "w.safetensors": b"w" * 1000}
    assert len(server.commits("acme/x")) == 2
    refused = ask(server, tmp_path, code, xet=True, token=BOB)[0]
    assert refused[:2] == ["HfHubHTTPError", 403]


def test_a_space_is_loaded_by_evaluate(server: Hub, tmp_path: Path) -> None:
    module = """
import datasets
import evaluate

class Twice(evaluate.Metric):
    def _info(self):
        number = datasets.Value("float64")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="d", citation="c", features=features)

    def _compute(self, predictions, references):
        return {"twice": 2 * sum(predictions)}
"""
    server.create(
        "acme/twice", kind="space", files={"twice.py": module.encode(), "README.md": b"---\nsdk: gradio\n---\n"}
    )
    code = """
import json, evaluate
print(json.dumps(evaluate.load("acme/twice").compute(predictions=[1.0, 2.0], references=[0.0, 0.0])))
"""
    done = run_client(code, server, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"twice": 6.0}
