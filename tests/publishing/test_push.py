"""An adapter goes to the Hub with its evidence, or not at all; and nothing of this machine goes with it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml
from hub_worker import Worker
from local_hub import Fault, Hold, Hub, User, hub, run_client
from safetensors.numpy import save_file

from muscle_hf.card import AdapterCard
from muscle_hf.card.lineage import Lineage
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.flips.comparison import compare
from muscle_hf.publishing.packing import pack_adapter

ANN, BOB = "hf_tokenOfAnnTokenOfAnnTokenOfAnn", "token-of-bob"
COMMAND = """
from muscle_hf.cli import main
result = main(["push", *words])
"""
CALL = """
from muscle_hf.publishing.push import push_adapter
done = push_adapter(*words, **options)
result = {name: getattr(done, name) for name in ("url", "commit", "changed", "created", "pull_request")}
result["link"] = done.link and done.link.url
"""


def adapter(folder: Path, *, base: str | None = "acme/base-v2", old: str | None = "acme/task-on-v1") -> Path:
    """An adapter as training leaves it, with a card."""
    folder.mkdir(parents=True)
    for path, content in _trained(base, old).items():
        (folder / path).write_bytes(content)
    return folder


@cache
def _trained(base: str | None, old: str | None) -> dict[str, bytes]:
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "revision": None, "task_type": "CAUSAL_LM"}
    answers = compare(old=[1, 1, 0, 2, 1], new=[1, 0, 0, 2, 1], references=[1, 1, 0, 2, 2])
    card = AdapterCard(
        title="Task",
        lineage=Lineage(base, "acme/task-on-v2", "acme/base-v1", old),
        adapter_type="lora",
        training={"steps": 3},
        comparisons={"plain update": answers, "compatibility adapter": answers},
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_file({"w": np.arange(3000, dtype=np.float32)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 128}))
        (folder / "training_args.bin").write_bytes(b"a pickle with /home/somebody and a token")
        card.write(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    users = {ANN: User("ann", orgs=("acme",)), BOB: User("bob")}
    with hub(tokens=users) as running:
        running.create("acme/base-v2", files={"config.json": b"{}"})
        running.create("carol/gated", files={"config.json": b"{}"}, gated=True)
        yield running


@pytest.fixture(scope="module")
def worker(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(server, tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture
def name(server: Hub, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a repository of its own for each test."""
    yield f"acme/r{abs(hash(request.node.nodeid))}"
    server.clear_faults()


def command(worker: Worker, *words: Any, token: str | None = ANN) -> dict[str, Any]:
    return worker.run(COMMAND, token=token, words=[str(word) for word in words])


def everything(server: Hub) -> Any:
    """All that anybody can see of all repositories."""
    return {
        key: (
            {ref: server.files(key[1], key[0], ref) for ref in server.refs(key[1], key[0])},
            server.refs(key[1], key[0]),
        )
        for key in server._store.repositories
    }


def front_matter(card: bytes) -> dict[str, Any]:
    text = card.decode()
    found: dict[str, Any] = yaml.safe_load(text[4 : text.index("\n---\n", 4)])
    return found


# ---- the whole way


@pytest.mark.slow
def test_one_commit_holds_the_adapter_its_card_and_its_evidence(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = command(worker, folder, name, "--license", "mit", "--language", "en", "--tag", "v1")
    assert (done["result"], done["stderr"]) == (0, "")
    assert f"{server.endpoint}/{name}\n" in done["stdout"]
    assert [message for _, message in server.commits(name)] == ["Upload adapter", "initial commit"]
    sent = server.files(name)
    assert set(sent) == {
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "comparison.json",
        "quadrants.png", "tokenizer_config.json",
    }  # fmt: skip
    assert sent["adapter_model.safetensors"] == before["adapter_model.safetensors"]
    assert sent["quadrants.png"] == before["quadrants.png"]
    data = front_matter(sent["README.md"])
    assert (data["license"], data["language"], data["base_model"]) == ("mit", ["en"], "acme/base-v2")
    # The snippets of the card load it from where it is now.
    assert name in sent["README.md"].decode()
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "comparison.json").write_bytes(sent["comparison.json"])
    (tmp_path / "read" / "quadrants.png").write_bytes(sent["quadrants.png"])
    read = AdapterCard.read(tmp_path / "read")
    assert read is not None
    assert read.render().encode() == sent["README.md"]
    assert read.repository == name
    assert server.refs(name)["refs/tags/v1"] == server.commits(name)[0][0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "the folder itself was changed"


def test_hidden_files_beside_the_answers_do_not_stop_the_push_halfway(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    (tmp_path / "runs" / ".git").mkdir(parents=True)
    (tmp_path / "runs" / ".git" / "a.json").write_text("{}")
    (tmp_path / "runs" / "ok.jsonl").write_text("{}\n")
    done = command(worker, adapter(tmp_path / "out"), name, "--predictions", tmp_path / "runs")
    assert done["result"] == 0, done
    assert [one for one in server.files(name) if one.startswith("predictions/")] == ["predictions/ok.jsonl"]


def test_the_same_push_again_makes_no_commit_and_says_so(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "out")
    assert command(worker, folder, name)["result"] == 0
    before = everything(server)
    done = command(worker, folder, name)
    assert done["result"] == 0
    assert f"Nothing has changed since commit {server.commits(name)[0][0]}; nothing was sent." in done["stdout"]
    assert everything(server) == before


def test_what_the_card_on_the_hub_says_and_this_push_leaves_open_is_kept_and_told(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "out")
    card = b"---\nlicense: mit\nlanguage: [en]\nnew_version: org/even-newer\n---\n# by hand\n"
    server.create(name, files={"README.md": card})
    done = command(worker, folder, name, "--license", "apache-2.0")
    assert done["result"] == 0
    assert "Note: kept from the card that is there: new_version, language." in done["stdout"]
    found = front_matter(server.files(name)["README.md"])
    assert (found["license"], found["language"], found["new_version"]) == ("apache-2.0", ["en"], "org/even-newer")
    again = command(worker, folder, name, "--license", "apache-2.0")
    assert "Nothing has changed" in again["stdout"]


@pytest.mark.slow
@pytest.mark.parametrize("title", ["ann.smith", "secret-client", "Chosen"])
def test_the_name_of_a_folder_is_no_title_for_everybody(title: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "secret-client" / "ann.smith")
    written = AdapterCard.read(folder)
    assert written is not None
    replace(written, title=title).write(folder)
    sent = pack_adapter(folder, "org/task-compat").files
    text = b"".join(content for content in sent.values() if isinstance(content, bytes)).decode()
    assert ("# Chosen\n" if title == "Chosen" else "# task-compat\n") in text
    assert "ann.smith" not in text and "secret-client" not in text


def test_a_dry_run_sends_nothing_and_shows_all(server: Hub, worker: Worker, name: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (tmp_path / "answers.jsonl").write_text('{"id": 1, "prediction": "a"}\n')
    asked = len(server.requests)
    done = command(
        worker, folder, name, "--dry-run", "--link-old", "--predictions", tmp_path / "answers.jsonl", token=None
    )
    assert done["result"] == 0
    assert len(server.requests) == asked
    assert done["stdout"].splitlines()[-2].startswith("7 files, ")
    assert done["stdout"].splitlines()[-1] == f"Nothing was sent to {name} (--dry-run)."
    assert "predictions/answers.jsonl" in done["stdout"]
    assert "adapter_model.safetensors    12.1 kB" in done["stdout"]
    assert "training_args.bin" not in done["stdout"]


def test_answers_go_only_where_they_are_asked_for(server: Hub, worker: Worker, name: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (folder / "predictions").mkdir()
    (folder / "predictions" / "answers.jsonl").write_bytes(b'{"id": 1}\n')
    assert command(worker, folder, name)["result"] == 0
    assert "predictions/answers.jsonl" not in server.files(name)
    assert command(worker, folder, name, "--predictions", folder / "predictions")["result"] == 0
    assert server.files(name)["predictions/answers.jsonl"] == b'{"id": 1}\n'


def test_a_pull_request_or_a_branch_leaves_main_alone(server: Hub, worker: Worker, name: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    assert command(worker, folder, name)["result"] == 0
    main = server.files(name)
    for _ in range(2):
        done = command(worker, folder, name, "--license", "mit", "--create-pr", token=BOB)
        assert f"{server.endpoint}/{name}/discussions/1" in done["stdout"], done
    assert "That pull request has the same files already" in done["stdout"]
    assert len(server.pull_requests(name)) == 1
    done = command(worker, folder, name, "--license", "mit", "--revision", "lora/v2")
    assert f"{server.endpoint}/{name}/tree/lora%2Fv2\n" in done["stdout"]
    assert server.files(name) == main
    for revision in ("refs/pr/1", "lora/v2"):
        assert front_matter(server.files(name, revision=revision)["README.md"])["license"] == "mit"
    assert "The branch is new" in command(worker, folder, name, "--revision", "same")["stdout"]


# ---- told apart, in one line each, before anything is sent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "token", "words"),
    [
        ("acme/base-v2", "wrong-token", "the token is wrong or has expired (401)"),
        ("acme/base-v2", None, "there is no token"),
        ("acme/base-v2", BOB, "there is no right to do that in acme/"),
        ("acme/missing", ANN, "acme/missing does not exist"),
        ("carol/gated", ANN, "carol/gated is gated; accept its conditions at"),
    ],
)
def test_a_wrong_token_a_missing_and_a_gated_base_are_one_line_each(
    server: Hub, worker: Worker, name: str, tmp_path: Path, base: str, token: str | None, words: str
) -> None:
    before = everything(server)
    done = command(worker, adapter(tmp_path / "out", base=base), name, token=token)
    assert done["result"] == 2
    lines = done["stderr"].splitlines()
    assert len(lines) == 1, done["stderr"]
    assert lines[0].startswith("muscle-hf push: could not ")
    assert words in lines[0]
    assert token is None or token not in lines[0]
    assert everything(server) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--license", "apache"], "license is 'apache', which the Hub does not know"),
        (["--language", "English"], "language[0] is 'English'"),
        (["--base-model", "/home/somebody/base"], "base_model is '/home/somebody/base'"),
        (["--base-model", "acme/other"], "adapter_config.json names acme/base-v2 as the base"),
        (["--dataset", "a b"], "datasets[0] is 'a b'"),
        (["--revision", "a..b"], "'a..b' is no name for a branch"),
        (["--revision", "0123abcd"], "looks like the hash of a commit"),
        (["--tag", "refs/tags/x"], "is no name for a tag"),
        (["--create-pr", "--tag", "v1"], "leave out the tag"),
        (["--create-pr", "--link-old"], "link it once this has got there"),
        (["--revision", "dev", "--link-old"], "link it once this has got there"),
        (["--predictions", "nowhere.jsonl"], "no predictions there"),
        (["--message", "two\nlines"], "a message of one line"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_sent(
    server: Hub, worker: Worker, tmp_path: Path, options: list[str], words: str
) -> None:
    asked = [one for one in server.requests if one[0] != "GET"]
    done = command(worker, adapter(tmp_path / "out"), "acme/x", *options)
    assert done["result"] == 2
    assert words in done["stderr"]
    assert len(done["stderr"].splitlines()) == 1
    assert [one for one in server.requests if one[0] != "GET"] == asked


@pytest.mark.parametrize("bad", ["x", "acme/a/b", "acme/a b", "acme/-", "https://huggingface.co/acme/x"])
def test_a_name_that_cannot_be_is_refused(worker: Worker, tmp_path: Path, bad: str) -> None:
    done = command(worker, adapter(tmp_path / "out"), bad)
    assert done["result"] == 2
    assert len(done["stderr"].splitlines()) == 1


def test_a_data_set_that_is_not_there_is_refused(server: Hub, worker: Worker, name: str, tmp_path: Path) -> None:
    done = command(worker, adapter(tmp_path / "out"), name, "--dataset", "acme/none")
    assert "could not look up the data set: the dataset acme/none does not exist" in done["stderr"]
    assert not server.exists(name)


@pytest.mark.parametrize(
    "words",
    [["acme/a/b"], ["acme/x", "--revision", "a..b"], ["acme/x", "--tag", "a..b"]],
    ids=["name", "branch", "tag"],
)
def test_a_wrong_name_is_refused_without_the_seconds_that_torch_takes(
    server: Hub, tmp_path: Path, words: list[str]
) -> None:
    code = f"""
import sys
from muscle_hf.cli import main
print(main(["push", *{[str(adapter(tmp_path / "out")), *words]!r}]))
print([one for one in ("torch", "transformers", "peft", "numpy", "muscle_hf.card") if one in sys.modules])
"""
    done = run_client(code, server, home=tmp_path, token=ANN)
    assert done.stdout.splitlines() == ["2", "[]"], done.stderr
    assert done.stderr.startswith("muscle-hf push: ")


# ---- what goes wrong on the way; test_commit has the rest


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, path="/commit/"),
        Fault(path="/commit/", cut_after_bytes=2000),
        Fault(status=401, path="/upload/"),
        Fault(status=429, path="/commit/", retry_after=3),
        Fault(status=409, path="/commit/"),
    ],
)
def test_a_failure_leaves_what_was_there_and_the_same_command_finishes(
    server: Hub, worker: Worker, name: str, tmp_path: Path, fault: Fault
) -> None:
    folder = adapter(tmp_path / "out")
    server.create(name, files={"README.md": b"---\nlicense: mit\n---\n# Old\n"})
    before = everything(server)
    server.fault(fault)
    done = command(worker, folder, name, "--license", "mit")
    assert done["result"] == 2
    assert done["stderr"].endswith("Nothing was changed there.\n")
    assert ANN not in done["stderr"]
    assert everything(server) == before
    server.clear_faults()
    assert command(worker, folder, name, "--license", "mit")["result"] == 0
    assert "adapter_model.safetensors" in server.files(name)
    assert len(server.commits(name)) == 2


# ---- the old adapter's card


OLD_CARD = b"---\nlicense: mit  # as the base\ntags: [a, b]\n---\n# Old\n\ntext --- with dashes\n"


def old_of(owner: str, name: str) -> str:
    return f"{owner}/old-{name.rpartition('/')[2]}"


@pytest.mark.slow
def test_the_old_card_names_its_successor_once(server: Hub, worker: Worker, name: str, tmp_path: Path) -> None:
    old = old_of("acme", name)
    server.create(old, files={"README.md": OLD_CARD, "adapter_config.json": b"{}"})
    folder = adapter(tmp_path / "out", old=old)
    done = command(worker, folder, name, "--link-old")
    assert (done["result"], done["stderr"]) == (0, "")
    assert f"Old adapter linked: {server.endpoint}/{old}/commit/" in done["stdout"]
    card = server.files(old)["README.md"]
    assert card == OLD_CARD.replace(b"[a, b]\n", f"[a, b]\nnew_version: {name}\n".encode())
    assert server.files(old)["adapter_config.json"] == b"{}"
    again = command(worker, folder, name, "--link-old")
    assert again["result"] == 0
    assert "The old card says so already" in again["stdout"]
    assert len(server.commits(old)) == 2


@pytest.mark.slow
def test_an_old_card_with_the_ends_of_lines_of_windows_keeps_them(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old, card = old_of("acme", name), OLD_CARD.replace(b"\n", b"\r\n")
    server.create(old, files={"README.md": card})
    done = command(worker, adapter(tmp_path / "out", old=old), name, "--link-old")
    assert done["result"] == 0, done
    assert server.files(old)["README.md"] == card.replace(b"[a, b]\r\n", f"[a, b]\r\nnew_version: {name}\r\n".encode())


def test_an_old_card_that_is_no_text_is_one_line_after_the_push(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old = old_of("acme", name)
    server.create(old, files={"README.md": b"---\nlicense: mit\n---\n\xff\xfe"})
    done = command(worker, adapter(tmp_path / "out", old=old), name, "--link-old")
    assert done["result"] == 2, done
    assert done["stderr"].startswith("muscle-hf push: the adapter is pushed (")
    assert f"the card of {old} is no UTF-8 text" in done["stderr"]
    assert len(done["stderr"].splitlines()) == 1
    assert "adapter_model.safetensors" in server.files(name)


@pytest.mark.slow
def test_the_card_of_somebody_else_gets_a_pull_request_once(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old = old_of("bob", name)
    server.create(old, files={"README.md": OLD_CARD})
    folder = adapter(tmp_path / "out", old=old)
    done = command(worker, folder, name, "--link-old")
    assert f"Pull request to the old adapter: {server.endpoint}/{old}/discussions/1" in done["stdout"], done
    assert server.files(old)["README.md"] == OLD_CARD
    assert front_matter(server.files(old, revision="refs/pr/1")["README.md"])["new_version"] == name
    again = command(worker, folder, name, "--link-old")
    assert again["result"] == 0
    assert f"An open pull request already says so: {server.endpoint}/{old}/discussions/1" in again["stdout"]
    assert len(server.pull_requests(old)) == 1


@pytest.mark.slow
def test_a_link_that_fails_does_not_hide_that_the_push_succeeded(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old = old_of("acme", name)
    server.create(old, files={"README.md": OLD_CARD})
    folder = adapter(tmp_path / "out", old=old)
    server.fault(Fault(status=403, path=f"/api/models/{old}/commit/"))
    done = command(worker, folder, name, "--link-old")
    assert done["result"] == 2
    head = server.commits(name)[0][0]
    assert f"{server.endpoint}/{name}\ncommit {head}\n" in done["stdout"]
    assert done["stderr"].startswith(
        f"muscle-hf push: the adapter is pushed ({server.endpoint}/{name}/commit/{head}), but"
    )
    assert "no right" in done["stderr"]
    assert len(done["stderr"].splitlines()) == 1
    assert server.files(old)["README.md"] == OLD_CARD
    server.fault(Fault(status=403, path=f"/api/models/{old}/commit/"))
    called = worker.run(CALL, token=ANN, words=[str(folder), name], options={"link_old": True})
    assert called["error"] == "HubError"
    assert called["message"].startswith(f"the adapter is pushed ({server.endpoint}/{name}/commit/{head})")
    server.clear_faults()
    again = command(worker, folder, name, "--link-old")
    assert again["result"] == 0
    assert "nothing was sent" in again["stdout"]
    assert front_matter(server.files(old)["README.md"])["new_version"] == name


@pytest.mark.slow
@pytest.mark.parametrize("old", [None, "acme/never-was", "/home/somebody/old"])
def test_an_old_adapter_that_is_not_on_the_hub_is_told_before_anything_is_sent(
    server: Hub, worker: Worker, name: str, tmp_path: Path, old: str | None
) -> None:
    done = command(worker, adapter(tmp_path / "out", old=old), name, "--link-old")
    assert done["result"] == 2
    assert "old adapter" in done["stderr"]
    assert not server.exists(name)


def test_a_private_adapter_is_not_named_on_a_public_card(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old = old_of("acme", name)
    server.create(old, files={"README.md": OLD_CARD})
    done = command(worker, adapter(tmp_path / "out", old=old), name, "--link-old", "--private")
    assert f"{name} is private, so the public card of {old} cannot name it" in done["stderr"]
    assert server.files(old)["README.md"] == OLD_CARD
    assert server.info(name)["private"] is True


def test_an_edit_of_the_old_card_in_between_is_not_undone(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    old = old_of("acme", name)
    server.create(old, files={"README.md": OLD_CARD})
    assert command(worker, adapter(tmp_path / "new"), name)["result"] == 0
    link = """
from huggingface_hub import HfApi
from muscle_hf.publishing import successor
real = successor.commit
def late(*args, **options):
    HfApi().upload_file(path_or_fileobj=edited.encode(), path_in_repo="README.md", repo_id=old)
    return real(*args, **options)
successor.commit = late
try:
    successor.link_old_adapter(old, name)
finally:
    successor.commit = real
"""
    edited = "---\nlicense: mit\n---\n# Edited\n"
    done = worker.run(link, token=ANN, old=old, name=name, edited=edited)
    assert "was changed by somebody else meanwhile" in done["message"]
    assert server.files(old)["README.md"] == edited.encode()


# ---- the card and the names in the files, without a Hub


@pytest.mark.slow
def test_a_path_of_this_machine_as_base_is_refused_or_replaced_in_what_is_sent(tmp_path: Path) -> None:
    for number, base in enumerate(("/home/somebody/base-v2", "../base", None)):
        folder = adapter(tmp_path / str(number), base=base)
        (folder / "tokenizer_config.json").write_text(json.dumps({"name_or_path": "/home/somebody/base-v2", "x": 1}))
        with pytest.raises(InputError, match=r"give base_model \(--base-model ID\)"):
            pack_adapter(folder, "acme/x")
        packed = pack_adapter(folder, "acme/x", base_model="acme/base-v2", dataset="acme/rows")
        assert packed.base_model == "acme/base-v2"
        assert len(packed.notices) == 2
        config, tokenizer = (packed.files[one] for one in ("adapter_config.json", "tokenizer_config.json"))
        assert isinstance(config, bytes)
        assert json.loads(config)["base_model_name_or_path"] == "acme/base-v2"
        assert json.loads(config)["peft_type"] == "LORA"
        assert isinstance(tokenizer, bytes)
        assert json.loads(tokenizer) == {"name_or_path": "acme/base-v2", "x": 1}
        data = front_matter(packed.files["README.md"])  # type: ignore[arg-type]
        assert data["base_model"] == "acme/base-v2"
        assert data["datasets"] == ["acme/rows"]
        assert "base_model:adapter:acme/base-v2" in data["tags"]
        for content in packed.files.values():
            assert b"somebody" not in (content if isinstance(content, bytes) else content.read_bytes())


def test_a_path_or_a_token_elsewhere_in_a_file_is_refused(tmp_path: Path) -> None:
    for number, value in enumerate(("/home/somebody/data/rows.jsonl", f"hf_{'a1' * 17}")):
        folder = adapter(tmp_path / str(number))
        (folder / "config.json").write_text(json.dumps({"note": value}))
        with pytest.raises(InputError, match=r"config\.json holds .*take it out"):
            pack_adapter(folder, "acme/x")


@pytest.mark.slow
def test_a_name_of_this_machine_deep_in_a_file_is_taken_out_and_any_other_path_is_refused(tmp_path: Path) -> None:
    files = ("tokenizer_config.json", "config.json", "preprocessor_config.json", "processor_config.json")
    for number, name in enumerate(files):
        folder = adapter(tmp_path / str(number))
        deep = {
            "x": 1,
            "init": {"name_or_path": "/data/priv/x", "parts": [{"_name_or_path": "~/x", "kept": "acme/y"}]},
        }
        (folder / name).write_text(json.dumps(deep))
        packed = pack_adapter(folder, "acme/x")
        sent = packed.files[name]
        assert isinstance(sent, bytes)
        assert json.loads(sent) == {"x": 1, "init": {"parts": [{"kept": "acme/y"}]}}
        assert len(packed.notices) == 1
        for path in ("/data/priv/x", "C:\\Users\\me\\x", "/nas/me/x"):
            (folder / name).write_text(json.dumps({"a": [{"vocabulary": path}]}))
            with pytest.raises(InputError, match=rf"{name} holds .*take it out"):
                pack_adapter(folder, "acme/x")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LICENSE", "NOTICE.md", "chat_template.jinja", "additional_chat_templates/a.jinja"])
def test_every_text_that_goes_is_looked_through(tmp_path: Path, name: str) -> None:
    folder = adapter(tmp_path / "out")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{{ messages }} and/or https://example.org/data/a/b")
    assert name in pack_adapter(folder, "acme/x").files
    for leak in (f"hf_{'a1' * 17}", "/home/somebody/x/y.txt"):
        (folder / name).write_text(f"see {leak}")
        with pytest.raises(InputError, match="take it out") as caught:
            pack_adapter(folder, "acme/x")
        assert "a1a1" not in str(caught.value)


def test_words_of_a_vocabulary_are_no_paths(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    words = {"/home/somebody/x": 1, "pre_tokenizer": {"Regex": r"\s+|/tmp/[a-z]+"}}
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
        (folder / name).write_text(json.dumps(words))
    (folder / "merges.txt").write_text("/home/ somebody/x\n/home/somebody/ y\n")
    assert len(pack_adapter(folder, "acme/x").files) == 10
    modules = r".*\.layers\.\d+\.(q_proj|v_proj)"
    config = json.loads((folder / "adapter_config.json").read_text()) | {"target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert pack_adapter(folder, "acme/x").notices == ()


def test_a_comparison_that_is_no_evidence_of_a_card_stays_here(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (folder / "comparison.json").write_text(json.dumps({"old": "/home/somebody/old.jsonl", "t": f"hf_{'a1' * 17}"}))
    packed = pack_adapter(folder, "acme/x")
    assert "comparison.json" not in packed.files
    assert "comparison.json is not the evidence of a card, so it is not sent." in packed.notices


def test_a_token_in_the_evidence_or_in_answers_is_refused_and_a_path_in_answers_is_told(tmp_path: Path) -> None:
    folder, answers = adapter(tmp_path / "out"), tmp_path / "answers.jsonl"
    answers.write_text('{"id": 1, "prediction": "cd /home/somebody/x"}\n')
    assert (
        "predictions/answers.jsonl holds a path of a machine: /home/somebody/x; everybody will be able to read it."
        in (pack_adapter(folder, "acme/x", predictions=answers).notices)
    )
    answers.write_text(json.dumps({"id": 1, "prediction": f"/home/somebody/x hf_{'a1' * 17}"}))
    with pytest.raises(InputError, match=r"answers\.jsonl holds an access token"):
        pack_adapter(folder, "acme/x", predictions=answers)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Edited\n")
    record = json.loads((folder / "comparison.json").read_text())
    (folder / "comparison.json").write_text(json.dumps(record | {"title": f"hf_{'a1' * 17}"}))
    with pytest.raises(InputError, match=r"comparison\.json holds an access token"):
        pack_adapter(folder, "acme/x")


def test_an_edited_card_keeps_every_byte_but_the_fields_given(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    path = folder / "README.md"
    edited = path.read_bytes().replace(b"# Task", b"# My own words\n\nHello  \n")
    path.write_bytes(edited.replace(b"\n", b"\r\n"))
    assert pack_adapter(folder, "acme/x").files["README.md"] == path.read_bytes()
    path.write_bytes(edited)
    packed = pack_adapter(folder, "acme/x")
    assert packed.files["README.md"] == path.read_bytes()
    assert packed.notices == ("README.md is not as muscle_hf wrote it, so it is sent as it is.",)
    packed = pack_adapter(folder, "acme/x", license="mit")
    sent = packed.files["README.md"]
    assert isinstance(sent, bytes)
    assert front_matter(sent) == front_matter(path.read_bytes()) | {"license": "mit"}
    assert sent.replace(b"license: mit\n", b"") == path.read_bytes()
    assert "but for the fields given" in packed.notices[0]


@pytest.mark.slow
def test_the_card_that_peft_writes_is_refused_for_its_path_until_the_base_is_given(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out", base="/scratch/base")
    (folder / "comparison.json").unlink()
    (folder / "README.md").write_text(
        "---\nbase_model: /scratch/base\nlibrary_name: peft\ntags:\n- base_model:adapter:/scratch/base\n- lora\n---\n"
        "# Model Card\n"
    )
    with pytest.raises(InputError, match="--base-model"):
        pack_adapter(folder, "acme/x")
    sent = pack_adapter(folder, "acme/x", base_model="acme/base-v2").files["README.md"]
    assert isinstance(sent, bytes)
    assert front_matter(sent)["tags"] == ["lora", "base_model:adapter:acme/base-v2"]
    assert b"scratch" not in sent


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: [\n---\n",
        "---\nlicense: apache\n---\n",
        "---\nlicense: mit\n---\nsee /home/somebody/x/y.txt\n",
        f"---\nlicense: mit\n---\nuse hf_{'a1' * 17}\n",
        "no front matter",
    ],
)
def test_a_card_that_the_hub_refuses_or_nobody_should_see_is_refused_here(tmp_path: Path, card: str) -> None:
    folder = adapter(tmp_path / "out")
    (folder / "README.md").write_text(card)
    with pytest.raises(InputError) as caught:
        pack_adapter(folder, "acme/x")
    assert f"hf_{'a1' * 17}" not in str(caught.value)


def test_a_folder_without_card_or_with_broken_files_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    kept = (folder / "comparison.json").read_bytes()
    (folder / "README.md").unlink()
    assert isinstance(pack_adapter(folder, "acme/x").files["README.md"], bytes)
    (folder / "comparison.json").unlink()
    with pytest.raises(InputError, match=r"holds no README\.md"):
        pack_adapter(folder, "acme/x")
    (folder / "comparison.json").write_bytes(kept)
    for broken in (b"[]", b"{", b"\xff"):
        (folder / "adapter_config.json").write_bytes(broken)
        with pytest.raises(InputError, match=r"adapter_config\.json is no JSON"):
            pack_adapter(folder, "acme/x")


def test_a_lost_picture_is_not_shown_on_the_card(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    assert b"quadrants.png" in pack_adapter(folder, "acme/x").files["README.md"]  # type: ignore[operator]
    (folder / "quadrants.png").unlink()
    packed = pack_adapter(folder, "acme/x")
    assert "quadrants.png" not in packed.files


@pytest.mark.slow
def test_hostile_words_on_the_card_do_not_become_commands_of_the_terminal(
    server: Hub, worker: Worker, name: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "out")
    read = AdapterCard.read(folder)
    assert read is not None
    hostile = replace(read, title="---\nbase_model: evil/x\n---\n<script>\x1b[2J", caveats=("| <b>&\n---\n# x",))
    hostile.write(folder)
    done = command(worker, folder, name)
    assert done["result"] == 0, done
    assert front_matter(server.files(name)["README.md"])["base_model"] == "acme/base-v2"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "a\x1b[2Jb.jinja").write_text("x")
    done = command(worker, folder, name, "--dry-run")
    assert "\x1b" not in done["stdout"] + done["stderr"]


@pytest.mark.slow
def test_the_reader_of_a_pipe_may_go_away(server: Hub, name: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    done = subprocess.run(  # noqa: S602 - our own words
        f"{sys.executable} -m muscle_hf push {folder} {name} | true",
        shell=True, capture_output=True, text=True, env=server.environment(ANN, home=tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr == ""
    assert "adapter_model.safetensors" in server.files(name)


def test_names_are_checked_by_the_function_as_well(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lacks its owner"):
        pack_adapter(adapter(tmp_path / "out"), "x")


@pytest.mark.slow
@pytest.mark.parametrize("where", [pytest.param("upload", marks=pytest.mark.slow), "commit"])
def test_ctrl_c_ends_with_130_and_the_same_command_finishes(
    server: Hub, worker: Worker, name: str, tmp_path: Path, where: str
) -> None:
    folder = adapter(tmp_path / "out")
    server.create(name, files={"README.md": OLD_CARD})
    hold = Hold()
    server.fault(Fault(path=f"/{where}/", hold=hold))
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "muscle_hf", "push", str(folder), name],
        env=server.environment(ANN, home=tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    hold.wait_until_reached()
    process.send_signal(signal.SIGINT)
    hold.release()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "muscle-hf push: interrupted\n")
    hold.wait_until_done()  # The Hub may still do what it was asked.
    assert server.files(name) == {"README.md": OLD_CARD} or "adapter_model.safetensors" in server.files(name)
    assert command(worker, folder, name)["result"] == 0
    assert "adapter_model.safetensors" in server.files(name)
    assert len(server.commits(name)) == 2
