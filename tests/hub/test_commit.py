"""A push leaves the old state or the new one, whatever goes wrong in between, and the same call again finishes it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_worker import Worker
from local_hub import Fault, Hold, Hub, User, hub, run_client
from safetensors.numpy import save_file

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.hub.names import check_ref, check_repository
from muscle_hf.hub.shipped_files import shipped_files

TOKEN = "hf_tokenOfAnnTokenOfAnnTokenOfAnn"  # noqa: S105 - of a Hub that lives for seconds
BOB = "token-of-bob"
PUSH = """
from muscle_hf.hub.commit import commit
files = {name: text.encode("latin-1") for name, text in files.items()}
done = commit(files, repository, message=message, **options)
names = ("oid", "changed", "created", "pr_url", "commit_url")
result = {name: getattr(done, name) for name in names}
"""
OLD = {"README.md": b"---\nlicense: mit\n---\n# Old\n", "weights.safetensors": b"old" * 1000, "kept.txt": b"kept"}
NEW = {
    "README.md": b"---\nlicense: mit\n---\n# New\n",
    "weights.safetensors": b"new" * 1000,
    "more.bin": b"\x00\xff" * 99,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    users = {TOKEN: User("ann", orgs=("acme",)), BOB: User("bob"), "reads": User("bob", can_write=False)}
    with hub(tokens=users) as running:
        yield running


@pytest.fixture(scope="module")
def worker(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(server, tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture
def name(server: Hub, request: pytest.FixtureRequest) -> Iterator[str]:
    """A repository of its own for each test, with the old state in it."""
    found = f"acme/r{abs(hash(request.node.nodeid))}"
    server.create(found, files=OLD)
    yield found
    server.clear_faults()


def push(worker: Worker, repository: str, files: dict[str, bytes] = NEW, **options: Any) -> dict[str, Any]:
    token = options.pop("token_of", TOKEN)
    message = options.pop("message", "Upload")
    texts = {path: content.decode("latin-1") for path, content in files.items()}
    return worker.run(PUSH, token=token, repository=repository, files=texts, message=message, options=options)


def begin_push(worker: Worker, repository: str, **options: Any) -> None:
    texts = {path: content.decode("latin-1") for path, content in NEW.items()}
    worker.begin(PUSH, token=TOKEN, repository=repository, files=texts, message="Upload", options=options)


def state(server: Hub, repository: str) -> Any:
    """Everything that somebody else can see of a repository."""
    if not server.exists(repository):
        return None
    found = {ref: server.files(repository, revision=ref) for ref in server.refs(repository)}
    return found | {"open": [one.num for one in server.pull_requests(repository) if one.status == "open"]}


def with_main(files: dict[str, bytes]) -> Any:
    return {"refs/heads/main": OLD | files, "open": []}


# What goes wrong, and the words that tell it from the others.
REFUSALS = {
    "look 401": (Fault(status=401, path=r"/api/models/acme/[^/]+$"), "the token is wrong"),
    "refs 500": (Fault(status=500, path="/refs"), "a failure of its own (500)"),
    "refs cut": (Fault(cut_after_bytes=5, path="/refs"), "was cut"),
    "tree 429": (Fault(status=429, path="/tree/", times=1, retry_after=0), None),
    "preupload 403": (Fault(status=403, path="/preupload/"), "no right"),
    "preupload 500 once": (Fault(status=500, path="/preupload/"), None),
    "batch 401": (Fault(status=401, path="/objects/batch"), "the token is wrong"),
    "upload 403": (Fault(status=403, method="PUT", path="/upload/"), "storage refused"),
    "upload cut once": (Fault(method="PUT", path="/upload/", cut_after_bytes=1000), None),
    "upload 500 once": (Fault(status=500, method="PUT", path="/upload/"), None),
    "verify 403": (Fault(status=403, path="/objects/verify"), "no right"),
    "card 500": (Fault(status=500, path="/api/validate-yaml"), "a failure of its own (500)"),
    "card 400": (Fault(status=400, path="/api/validate-yaml", message="license is odd"), "the Hub refuses it (400)"),
    "commit 401": (Fault(status=401, path="/commit/"), "the token is wrong"),
    "commit 403": (Fault(status=403, path="/commit/"), "no right"),
    "commit 409": (Fault(status=409, path="/commit/"), "by somebody else meanwhile (409)"),
    "commit 412": (Fault(status=412, path="/commit/"), "by somebody else meanwhile (412)"),
    "commit 429": (Fault(status=429, path="/commit/", retry_after=17), "try again in 17 seconds"),
    "commit 500": (Fault(status=500, path="/commit/"), "a failure of its own (500)"),
    "commit cut": (Fault(path="/commit/", cut_after_bytes=100), "was cut"),
    "commit answer lost": (Fault(path="/commit/", answer_lost=True), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_no_fault_leaves_a_repository_in_between_and_the_same_push_finishes(
    server: Hub, worker: Worker, name: str, case: str
) -> None:
    fault, words = REFUSALS[case]
    server.fault(fault)
    seen = len(server.requests)
    answer = push(worker, name)
    _check_fired(server, fault, seen)
    if case == "tree 429" and "error" in answer:  # which newer versions of the client try again by themselves
        words = "too many requests (429)"
    if words is None:
        assert "error" not in answer, answer
        assert answer["result"]["changed"]
        assert state(server, name) == with_main(NEW)
    else:
        assert answer["error"] == "HubError"
        assert words in answer["message"]
        assert answer["message"].endswith("Nothing was changed there.")
        assert "\n" not in answer["message"]
        assert TOKEN not in answer["message"] + answer["stderr"]
        assert state(server, name) == with_main({})
    server.clear_faults()
    again = push(worker, name)
    assert "error" not in again, again
    assert again["result"]["changed"] == (words is not None)
    assert state(server, name) == with_main(NEW)
    assert [message for _, message in server.commits(name)] == ["Upload", "initial commit"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [("PUT", "/upload/"), ("POST", "/commit/")])
def test_a_slow_hub_is_waited_for_and_not_asked_twice(
    server: Hub, worker: Worker, name: str, method: str, path: str
) -> None:
    hold = Hold()
    server.fault(Fault(method=method, path=path, hold=hold))
    seen = len(server.requests)
    begin_push(worker, name)
    hold.wait_until_reached()
    assert state(server, name) == with_main({})
    hold.release()
    answer = worker.end()
    assert answer["result"]["changed"], answer
    assert state(server, name) == with_main(NEW)
    asked = [where for kind, where, _ in server.requests[seen:] if kind == method and path in where]
    assert len(asked) == len(set(asked))


def test_a_fault_that_stays_is_told_when_the_answer_to_a_commit_is_lost_and_nobody_can_look(
    server: Hub, worker: Worker, name: str
) -> None:
    server.fault(Fault(path="/commit/", answer_lost=True))
    server.fault(Fault(status=500, path="/refs", after=1, times=None))
    answer = push(worker, name)
    assert answer["message"].endswith("The same command again finds out whether it arrived.")
    server.clear_faults()
    assert push(worker, name)["result"]["changed"] is False
    assert len(server.commits(name)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [Fault(status=500, times=None, path="/upload/"), Fault(cut_after_bytes=1000, times=None, path="/upload/")]
)
def test_a_storage_that_fails_for_good_leaves_the_old_state(
    server: Hub, worker: Worker, name: str, fault: Fault
) -> None:
    server.fault(fault)
    # The client waits for 23 seconds in all before it gives up.
    worker.run("import time; time.slept, time.sleep = time.sleep, lambda seconds: None")
    answer = push(worker, name)
    worker.run("import time; time.sleep = time.slept")
    assert answer["error"] == "HubError"
    assert answer["message"].endswith("Nothing was changed there.")
    assert state(server, name) == with_main({})
    server.clear_faults()
    assert push(worker, name)["result"]["changed"]
    assert state(server, name) == with_main(NEW)


NEW_REPOSITORY = {
    "create 401": (Fault(status=401, path="/api/repos/create"), "the token is wrong", None),
    "create 403": (Fault(status=403, path="/api/repos/create"), "no right", None),
    "create 429": (Fault(status=429, path="/api/repos/create"), "too many requests (429); try again later", None),
    "create 500": (Fault(status=500, path="/api/repos/create"), "It may be that", None),
    "create answer lost": (Fault(path="/api/repos/create", answer_lost=True), "It may be that", "empty"),
    "upload 403": (Fault(status=403, method="PUT", path="/upload/"), "is new and still empty", "empty"),
    "commit 500": (Fault(status=500, path="/commit/"), "is new and still empty", "empty"),
    "commit cut": (Fault(path="/commit/", cut_after_bytes=100), "is new and still empty", "empty"),
}


@pytest.mark.parametrize("case", NEW_REPOSITORY)
def test_a_new_repository_is_there_as_a_whole_or_empty_and_the_message_says_which(
    server: Hub, worker: Worker, case: str
) -> None:
    fault, words, left = NEW_REPOSITORY[case]
    name = f"acme/new-{case.replace(' ', '-')}"
    server.fault(fault)
    answer = push(worker, name, private=True)
    assert words in answer["message"]
    assert server.exists(name) == (left is not None)
    if left is not None:
        assert set(server.files(name)) == {".gitattributes"}
    server.clear_faults()
    again = push(worker, name, private=True)
    assert again["result"]["created"] == (left is None)
    assert {path: content for path, content in server.files(name).items() if path != ".gitattributes"} == NEW
    assert server.info(name)["private"] is True


BRANCH_FAULTS = {
    "branch 403": Fault(status=403, path="/branch/"),
    "branch answer lost": Fault(path="/branch/", answer_lost=True),
    "commit 500": Fault(status=500, path="/commit/"),
    "commit cut": Fault(path="/commit/", cut_after_bytes=100),
}


def test_a_branch_that_cannot_be_taken_away_is_told_with_the_commit_that_it_stays_at(
    server: Hub, worker: Worker, name: str
) -> None:
    start = server.commits(name)[0][0]
    server.fault(Fault(status=500, path="/commit/"))
    server.fault(Fault(status=500, path="/refs", after=1, times=None))
    answer = push(worker, name, revision="v2")
    assert f"The branch v2 may be left, with nothing new in it. The same command again goes on from there, commit {start[:8]}, also where main has moved" in answer["message"]  # fmt: skip  # noqa: E501
    server.clear_faults()
    assert "error" not in push(worker, name, {"kept.txt": b"newer"}, message="Main moves")
    assert push(worker, name, revision="v2")["result"]["changed"]
    assert server.files(name, revision="v2") == OLD | NEW


@pytest.mark.parametrize(
    ("path", "words"), [(".git/a.json", ".git/"), ("a/../b", "a/../b"), ("/README.md", "write 'README.md'")]
)
def test_a_path_that_the_hub_would_not_take_is_refused_before_anything_is_made(
    server: Hub, worker: Worker, path: str, words: str
) -> None:
    answer = push(worker, "acme/never-made", NEW | {path: b"{}"})
    assert answer["error"] == "ConfigurationError"
    assert words in answer["message"]
    assert not server.exists("acme/never-made")


@pytest.mark.parametrize("case", BRANCH_FAULTS)
def test_a_new_branch_does_not_stay_without_its_commit(server: Hub, worker: Worker, name: str, case: str) -> None:
    server.fault(BRANCH_FAULTS[case])
    answer = push(worker, name, revision="v2")
    assert answer["message"].endswith("Nothing was changed there."), answer
    assert state(server, name) == with_main({})
    server.clear_faults()
    assert push(worker, name, revision="v2")["result"]["created"]
    assert state(server, name) == with_main({}) | {"refs/heads/v2": OLD | NEW}
    assert push(worker, name, revision="v2")["result"] | {"oid": "", "commit_url": ""} == {
        "oid": "", "commit_url": "", "changed": False, "created": False, "pr_url": None,
    }  # fmt: skip


@pytest.mark.slow
def test_a_branch_that_others_filled_meanwhile_is_not_taken_away(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    hold = Hold()
    server.fault(Fault(status=500, path="/commit/", hold=hold))
    begin_push(worker, name, revision="v2")
    hold.wait_until_reached()
    assert "refs/heads/v2" in server.refs(name)
    with_other = """
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id=name, revision="v2")
"""
    other = run_client(f"name = {name!r}{with_other}", server, home=tmp_path, token=TOKEN)
    assert other.returncode == 0, other.stderr
    hold.release()
    assert "error" in worker.end()
    assert server.files(name, revision="v2") == OLD | {"theirs.txt": b"theirs"}


@pytest.mark.parametrize(
    "fault", [Fault(status=500, path="/tag/"), Fault(path="/tag/", answer_lost=True), Fault(status=403, path="/tag/")]
)
def test_a_tag_that_fails_does_not_hide_that_the_files_arrived(
    server: Hub, worker: Worker, name: str, fault: Fault
) -> None:
    server.fault(fault)
    answer = push(worker, name, tag="v1")
    head = server.commits(name)[0][0]
    assert f"The files are there, as commit {head[:8]}; the same command again sets the tag v1." in answer["message"]
    assert server.files(name) == OLD | NEW
    server.clear_faults()
    assert push(worker, name, tag="v1")["result"]["changed"] is False
    assert server.refs(name)["refs/tags/v1"] == head
    assert len(server.commits(name)) == 2


def test_a_tag_is_not_moved_to_other_files(server: Hub, worker: Worker, name: str) -> None:
    assert "error" not in push(worker, name, tag="v1")
    before = state(server, name)
    answer = push(worker, name, {"README.md": b"---\nlicense: mit\n---\n# Third\n"}, tag="v1")
    assert answer["error"] == "ConfigurationError"
    assert "tag v1 names commit" in answer["message"]
    assert state(server, name) == before


@pytest.mark.slow
def test_of_two_who_push_at_a_time_one_is_told_and_nothing_is_mixed(server: Hub, worker: Worker, name: str) -> None:
    hold = Hold()
    server.fault(Fault(path="/commit/", hold=hold))
    begin_push(worker, name)
    hold.wait_until_reached()
    theirs = {"README.md": b"---\nlicense: mit\n---\n# Theirs\n", "weights.safetensors": b"their" * 1000}
    second = Worker(server, Path.cwd())
    try:
        assert "error" not in push(second, name, theirs, message="Theirs")
    finally:
        second.stop()
    hold.release()
    answer = worker.end()
    assert "was changed by somebody else meanwhile (412)" in answer["message"]
    assert state(server, name) == with_main(theirs)
    assert push(worker, name)["result"]["changed"]
    assert state(server, name) == with_main(NEW)


@pytest.mark.slow
def test_of_two_who_push_the_same_both_are_told_that_it_is_there(server: Hub, worker: Worker, name: str) -> None:
    hold = Hold()
    server.fault(Fault(path="/commit/", hold=hold))
    begin_push(worker, name)
    hold.wait_until_reached()
    second = Worker(server, Path.cwd())
    try:
        assert "error" not in push(second, name)
    finally:
        second.stop()
    hold.release()
    assert "error" not in worker.end()
    assert len(server.commits(name)) == 2


def test_files_made_from_an_older_state_do_not_undo_what_came_after(server: Hub, worker: Worker, name: str) -> None:
    start = server.commits(name)[0][0]
    assert "error" not in push(worker, name, {"README.md": b"---\nlicense: mit\n---\n# Theirs\n"})
    before = state(server, name)
    answer = push(worker, name, parent_commit=start)
    assert "was changed by somebody else meanwhile" in answer["message"]
    assert state(server, name) == before


@pytest.mark.slow
@pytest.mark.parametrize("where", ["upload", "commit"])
def test_ctrl_c_in_the_middle_leaves_the_old_or_the_new_state(
    server: Hub, worker: Worker, name: str, where: str, tmp_path: Path
) -> None:
    hold = Hold()
    server.fault(Fault(path=f"/{where}/", hold=hold))
    values = {"repository": name, "files": {path: one.decode("latin-1") for path, one in NEW.items()}}
    values |= {"message": "Upload", "options": {}}
    code = "\n".join(f"{key} = {value!r}" for key, value in values.items()) + PUSH
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code], env=server.environment(TOKEN, home=tmp_path), stderr=subprocess.PIPE, text=True
    )
    hold.wait_until_reached()
    process.send_signal(signal.SIGINT)
    hold.release()
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    hold.wait_until_done()  # The Hub may still do what it was asked.
    assert state(server, name) in (with_main({}), with_main(NEW))
    assert "error" not in push(worker, name)
    assert state(server, name) == with_main(NEW)
    assert len(server.commits(name)) == 2


def test_a_pull_request_is_not_opened_twice_and_leaves_main_alone(server: Hub, worker: Worker, name: str) -> None:
    server.fault(Fault(path="/commit/", answer_lost=True))
    first = push(worker, name, create_pr=True, token_of=BOB)["result"]
    assert first["pr_url"].endswith(f"/{name}/discussions/1")
    again = push(worker, name, create_pr=True, token_of=BOB)["result"]
    assert (again["pr_url"], again["oid"], again["changed"]) == (first["pr_url"], first["oid"], False)
    assert [one.num for one in server.pull_requests(name)] == [1]
    assert server.files(name) == OLD
    assert server.files(name, revision="refs/pr/1") == OLD | NEW
    # A further commit goes to one that is open; other files are another one.
    more = push(worker, name, {"more.bin": b"\x00\x01"}, revision="refs/pr/1")
    assert more["result"]["changed"]
    assert server.files(name, revision="refs/pr/1") == OLD | NEW | {"more.bin": b"\x00\x01"}
    assert server.files(name) == OLD
    other = push(worker, name, {"kept.txt": b"other"}, create_pr=True)["result"]
    assert other["pr_url"].endswith("/discussions/2")


def test_files_go_away_with_the_same_commit_and_no_error_where_they_are_gone(
    server: Hub, worker: Worker, name: str
) -> None:
    assert push(worker, name, {"README.md": OLD["README.md"]}, delete=["kept.txt", "not-there"])["result"]["changed"]
    assert sorted(server.files(name)) == ["README.md", "weights.safetensors"]
    again = push(worker, name, {"README.md": OLD["README.md"]}, delete=["kept.txt", "not-there"])
    assert again["result"]["changed"] is False


def test_what_a_gitignore_there_would_swallow_is_refused(server: Hub, worker: Worker, name: str) -> None:
    # The local Hub ignores nothing, so its answer is changed here to what the real one says.
    ignoring = """
from huggingface_hub import HfApi
real = HfApi.preupload_lfs_files
def preupload(self, repo_id, additions, **options):
    real(self, repo_id, additions, **options)
    for one in additions:
        one._should_ignore = one.path_in_repo == "weights.safetensors"
HfApi.preupload_lfs_files = preupload
try:
"""
    code = ignoring + "".join(f"    {line}\n" for line in PUSH.splitlines()) + "finally:\n"
    code += "    HfApi.preupload_lfs_files = real\n"
    texts = {path: content.decode("latin-1") for path, content in NEW.items()}
    answer = worker.run(code, token=TOKEN, repository=name, files=texts, message="Upload", options={})
    assert f"the .gitignore of {name} names weights.safetensors" in answer["message"]
    assert state(server, name) == with_main({})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"private": True}, "is public, and a push does not make it private"),
        ({"revision": "refs/pr/7"}, "has no pull request refs/pr/7"),
        ({"create_pr": True, "tag": "v1"}, "leave out the tag"),
        ({"create_pr": True, "revision": "dev"}, "leave out the revision"),
        ({"message": " "}, "needs a message"),
        ({"tag": "main"}, "is a branch of"),
    ],
)
def test_options_that_would_do_nothing_or_something_else_are_refused(
    server: Hub, worker: Worker, name: str, options: dict[str, Any], words: str
) -> None:
    before = state(server, name)
    answer = push(worker, name, **options)
    assert answer["error"] == "ConfigurationError"
    assert words in answer["message"]
    assert state(server, name) == before


def test_who_may_not_write_is_told_so_and_nothing_is_made(server: Hub, worker: Worker, name: str) -> None:
    for token, repository, words in (
        ("reads", name, "no right"),
        ("reads", "bob/x", "no right"),
        (BOB, "acme/not-there", "no right"),
        ("token-nobody-knows", name, "the token is wrong"),
        (None, name, "there is no token"),
    ):
        answer = push(worker, repository, token_of=token)
        assert words in answer["message"], (token, answer)
        assert "token-nobody-knows" not in answer["message"]
    assert state(server, name) == with_main({})
    assert not server.exists("bob/x")
    assert not server.exists("acme/not-there")


def test_it_needs_no_torch_and_no_numpy_arrays(worker: Worker) -> None:
    loaded = worker.run(
        "import sys, muscle_hf.hub.commit\nresult = [one for one in ('torch', 'peft') if one in sys.modules]"
    )
    assert loaded["result"] == []


def test_a_space_needs_its_sdk_and_files_may_lie_on_disk(server: Hub, worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('hello')\n")
    code = """
from pathlib import Path
from muscle_hf.hub.commit import commit
files = {"app.py": Path(path), "README.md": b"---\\nsdk: gradio\\n---\\n"}
done = commit(files, "acme/space", kind="space", message="Upload", **options)
result = [done.changed, done.commit_url]
"""
    path = str(tmp_path / "app.py")
    assert "space_sdk" in worker.run(code, token=TOKEN, path=path, options={})["message"]
    assert not server.exists("acme/space", "space")
    options = {"space_sdk": "gradio"}
    done = worker.run(code, token=TOKEN, path=path, options=options)
    assert done["result"][1].startswith(f"{server.endpoint}/spaces/acme/space/commit/"), done
    assert server.files("acme/space", "space")["app.py"] == b"print('hello')\n"
    assert worker.run(code, token=TOKEN, path=path, options=options)["result"][0] is False


def _check_fired(server: Hub, fault: Fault, seen: int) -> None:
    """Make sure that the fault happened, so that no test passes because nothing went wrong."""
    status = fault.status or 0
    assert any(re.search(fault.path, path) and told == status for _, path, told in server.requests[seen:]), fault


# ---- what of a folder goes


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.arange(6, dtype=np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "acme/base"}))
    (folder / "README.md").write_text("# Adapter\n")
    return folder


def test_only_what_belongs_to_an_adapter_goes(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    stays = (
        "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
        "adapter_model.bin", "finished", "notes.txt", "modeling_evil.py", "last-checkpoint/adapter_model.safetensors",
        "checkpoint-1/README.md", "teacher_cache/part-0.safetensors", "unlabelled_answers/answers.jsonl",
        ".git/config", "README.md.123.tmp", "predictions/answers.jsonl",
    )  # fmt: skip
    goes = (
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
        "comparison.json", "quadrants.png", "LICENSE",
    )  # fmt: skip
    for name in (*stays, *goes):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")
    expected = sorted({"README.md", "adapter_config.json", "adapter_model.safetensors", *goes})
    assert list(shipped_files(folder)) == expected
    with_answers = shipped_files(folder, predictions=folder / "predictions")
    assert list(with_answers) == [*expected, "predictions/answers.jsonl"]
    assert shipped_files(folder, predictions=folder / "predictions" / "answers.jsonl") == with_answers


def test_weights_in_a_pickle_are_refused_with_advice(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"as a pickle \(adapter_model\.bin\).*save_pretrained"):
        shipped_files(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as safetensors"),
        (b"\x80\x04K\x01.", "cannot be read as safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "is a Git LFS pointer"),
        (None, "cannot be read as safetensors"),
    ],
    ids=["empty", "pickle", "pointer", "cut off"],
)
def test_weights_that_nobody_can_load_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = adapter(tmp_path / "out") / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] if content is None else content)
    with pytest.raises(InputError, match=said):
        shipped_files(tmp_path / "out")


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = adapter(tmp_path / "out")
    (folder / "LICENSE").symlink_to("../secret.txt")
    with pytest.raises(InputError, match=r"LICENSE is a link to .*secret\.txt, outside"):
        shipped_files(folder)
    (folder / "LICENSE").unlink()
    (folder / "own.txt").write_text("Apache")
    (folder / "LICENSE").symlink_to("own.txt")
    assert "LICENSE" in shipped_files(folder)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.jinja").write_text("secret")
    (folder / "additional_chat_templates").symlink_to(tmp_path / "templates")
    with pytest.raises(InputError, match="outside"):
        shipped_files(folder)
    (folder / "additional_chat_templates").unlink()
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "a.jsonl").symlink_to("../secret.txt")
    with pytest.raises(InputError, match="outside"):
        shipped_files(folder, predictions=tmp_path / "answers")


def test_a_snapshot_in_the_cache_of_the_client_may_be_sent(tmp_path: Path) -> None:
    snapshot, blobs = adapter(tmp_path / "snapshots" / ("a" * 40)), tmp_path / "blobs"
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / f"blob-of-{path.name}")
        path.symlink_to(f"../../blobs/blob-of-{path.name}")
    assert len(shipped_files(snapshot)) == 3
    (snapshot / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="outside"):
        shipped_files(snapshot)


def test_a_model_in_parts_goes_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, part in enumerate(parts):
        save_file({f"w{number}": np.zeros(2, np.float32)}, folder / part)
    with pytest.raises(InputError, match=r"00001-of-00002\.safetensors is a part of a model, and there is no"):
        shipped_files(folder)
    index.write_text(json.dumps({"weight_map": {"w0": parts[0], "w1": parts[1]}}))
    assert list(shipped_files(folder)) == [*parts, index.name]
    index.write_text(json.dumps({"weight_map": {"w0": parts[0]}}))
    with pytest.raises(InputError, match="does not name model-00002-of-00002"):
        shipped_files(folder)
    index.write_text(json.dumps({"weight_map": {"w0": parts[0], "w1": parts[1]}}))
    (folder / parts[1]).unlink()
    with pytest.raises(InputError, match=r"names model-00002-of-00002[.]safetensors, which is not there"):
        shipped_files(folder)
    for broken in ("[]", "{", '{"weight_map": 3}', '{"weight_map": {"w": []}}'):
        index.write_text(broken)
        with pytest.raises(InputError, match="names no weights"):
            shipped_files(folder)
    left = adapter(tmp_path / "out")
    (left / index.name).write_text(json.dumps({"weight_map": {"w0": parts[0]}}))
    with pytest.raises(InputError, match="which is not there"):
        shipped_files(left)


def test_hidden_files_are_no_answers(tmp_path: Path) -> None:
    folder, answers = adapter(tmp_path / "out"), tmp_path / "answers"
    for name in (".git/a.json", ".ipynb_checkpoints/b.jsonl", ".c.jsonl", "sub/.d.jsonl", "sub/e.jsonl"):
        (answers / name).parent.mkdir(parents=True, exist_ok=True)
        (answers / name).write_text("{}")
    found = [name for name in shipped_files(folder, predictions=answers) if name.startswith("predictions/")]
    assert found == ["predictions/sub/e.jsonl"]
    with pytest.raises(InputError, match="is hidden"):
        shipped_files(folder, predictions=answers / ".c.jsonl")


def test_a_folder_without_an_adapter_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    adapter(tmp_path / "out" / "adapter")
    with pytest.raises(InputError, match=r"holds no weights.*did you mean .*out/adapter\?"):
        shipped_files(tmp_path / "out")
    with pytest.raises(InputError, match="is no folder"):
        shipped_files(tmp_path / "nothing")
    (tmp_path / "out" / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"no adapter_config\.json"):
        shipped_files(tmp_path / "out" / "adapter")


def test_predictions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none.jsonl", tmp_path / "empty", folder / "README.md"):
        with pytest.raises(InputError, match="no predictions there"):
            shipped_files(folder, predictions=path)


# ---- names


@pytest.mark.parametrize(
    "bad", ["x", "a/b/c", "acme/x y", "acme/../x", "acme/x--y", "acme/x.git", "", "acme/", "/home/x", "acme/é"]
)
def test_names_that_no_repository_can_have_are_refused(bad: str) -> None:
    with pytest.raises(ConfigurationError):
        check_repository(bad)


def test_names_of_branches_and_tags_are_judged_as_git_does(tmp_path: Path) -> None:
    names = [
        "main", "v1", "v1.0", "feature/x", "a-b_c", "é", "v1.", ".v1", "a..b", "a b", "a~b", "a^b", "a:b", "a?b",
        "a*b", "a[b", "a\\b", "/a", "a/", "a//b", "a/.b", "a.lock", "a.lock/b", "@", "a@{b", "a\tb", "a@b", "",
    ]  # fmt: skip
    for name in names:
        git = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], capture_output=True).returncode == 0  # noqa: S603, S607
        try:
            check_ref(name)
            ours = True
        except ConfigurationError:
            ours = False
        assert ours == (git and name not in ("@", "HEAD")), name
    for name in ("0123abc", "a" * 40, "refs/heads/x", "-x"):
        with pytest.raises(ConfigurationError):
            check_ref(name)
    assert check_ref("refs/pr/3") == "refs/pr/3"
    with pytest.raises(ConfigurationError):
        check_ref("refs/pr/3", "tag")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "words"), [(None, ""), (401, "the token is wrong or has expired (401)"), (403, "no right to do that")]
)
def test_the_storage_that_the_hub_takes_by_default_is_told_apart_as_well(
    server: Hub, name: str, tmp_path: Path, status: int | None, words: str
) -> None:
    if status is not None:
        server.fault(Fault(status=status, path="/xet-write-token/"))
    values = {"repository": name, "files": {path: one.decode("latin-1") for path, one in NEW.items()}}
    values |= {"message": "Upload", "options": {}}
    code = "\n".join(f"{key} = {value!r}" for key, value in values.items()) + PUSH
    done = run_client(code, server, home=tmp_path, token=TOKEN, xet=True)
    assert any("/xet-write-token/" in path for _, path, _ in server.requests)
    if status is None:
        assert done.returncode == 0, done.stderr
        assert state(server, name) == with_main(NEW)
        return
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"muscle_hf.errors.HubError: could not push to {name}: ")
    assert words in last
    assert state(server, name) == with_main({})
    server.clear_faults()
    assert run_client(code, server, home=tmp_path, token=TOKEN, xet=True).returncode == 0
    assert state(server, name) == with_main(NEW)
