"""The metric Spaces: pushed by the real client to the local Hub, loaded by evaluate as anybody would."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_worker import Worker
from local_hub import Fault, Hub, User, hub, run_client

from muscle_hf import ConfigurationError, __version__
from muscle_hf.cli import main
from muscle_hf.spaces.push import chosen_metrics, push_metrics, space_files, space_name
from muscle_hf.spaces.registration import METRICS

ANN = "hf_tokenOfAnnTokenOfAnnTokenOfAnn"
BOB = "hf_tokenOfBobTokenOfBobTokenOfBob"
PUSH = """
from muscle_hf.spaces.push import push_metrics
result = [vars(space) for space in push_metrics(namespace, **options)]
"""
# What each module is asked, and what it must say; the expected figures are counted by hand.
LOAD = """
import json, sys
import evaluate
assert "muscle_hf" not in sys.modules, "evaluate must find the Space by itself"
found = {}
asked = {
    "negative_flips": dict(predictions=[0, 1, 1, 0], old_predictions=[0, 0, 1, 1], references=[0, 0, 1, 0]),
    "consistency": dict(predictions=["a", "b", "b", "a"], old_predictions=["a", "b", "a", "a"]),
    "negative_bias": dict(predictions=["no", "no"], old_predictions=["yes", "no"], references=["yes", "no"]),
    "smooth_compatibility": dict(predictions=["a b", "c"], old_predictions=["a", "d"], references=["a b", "d"],
                                 scorer="exact_match"),
}
for name, inputs in asked.items():
    metric = evaluate.load(f"acme/{name}")
    found[name] = metric.compute(**inputs) | {"module": type(metric).__module__}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    users = {
        ANN: User("ann", orgs=("acme", "other", "cut", "secret", "seen", "wheels")),
        BOB: User("bob", can_write=False),
    }
    with hub(tokens=users) as running:
        yield running


@pytest.fixture(scope="module")
def worker(server: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(server, tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


def push(worker: Worker, namespace: str, token: str | None = ANN, **options: Any) -> dict[str, Any]:
    return worker.run(PUSH, token=token, namespace=namespace, options=options)


def contents(name: str) -> dict[str, bytes]:
    return {
        path: file.read_bytes() for path, file in space_files(name, f"acme/{name}").items() if isinstance(file, Path)
    }


@pytest.mark.slow
def test_each_space_is_loaded_by_evaluate_with_empty_caches_and_gives_the_right_figures(
    server: Hub, worker: Worker, tmp_path: Path
) -> None:
    pushed = push(worker, "acme")["result"]
    assert [space["repository"] for space in pushed] == [f"acme/{name}" for name in sorted(METRICS)]
    for space in pushed:
        name = space["name"]
        assert space["url"] == f"{server.endpoint}/spaces/acme/{name}"
        assert {path: server.files(f"acme/{name}", "space")[path] for path in space["files"]} == contents(name)
        (commit, message), *before = server.commits(f"acme/{name}", "space")
        assert (commit, message) == (space["commit"], f"Upload the metric {name}")
        assert len(before) <= 1, "more than the commit that makes the repository, and ours"
    again = push(worker, "acme")["result"]
    assert [(space["commit"], space["changed"]) for space in again] == [(space["commit"], False) for space in pushed]

    done = run_client(LOAD, server, home=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    flips, same, smooth = (found[name] for name in ("negative_flips", "consistency", "smooth_compatibility"))
    assert (found["negative_bias"]["shift"], found["negative_bias"]["broken_to_negative"]) == (1, 1)
    assert (flips["negative_flip_rate"], flips["positive_flip_rate"], flips["accuracy"]) == (0.25, 0.25, 0.75)
    assert (same["agreement"], same["kappa"]) == (0.75, 0.5)
    assert (smooth["negative_flips"], smooth["positive_flips"], smooth["mean_score"]) == (1, 1, 0.5)
    for name, result in found.items():
        assert f"acme--{name}" in result["module"], "another module of that name was loaded"
        assert ("GET", f"/spaces/acme/{name}/resolve/main/{name}.py", 200) in [
            (method, path.partition("?")[0], status) for method, path, status in server.requests
        ]


def test_a_failure_in_the_middle_names_what_is_there_and_a_second_call_finishes(server: Hub, worker: Worker) -> None:
    server.fault(Fault(status=500, method="POST", path=r".*/spaces/cut/negative_flips/commit/.*", times=99))
    try:
        failed = push(worker, "cut")
    finally:
        server.clear_faults()
    assert failed["error"] == "HubError"
    assert "cut/negative_flips" in failed["message"]
    assert failed["message"].endswith("Pushed before: cut/consistency, cut/negative_bias.")
    assert "\n" not in failed["message"]
    assert not server.exists("cut/smooth_compatibility", "space")
    assert [space["changed"] for space in push(worker, "cut")["result"]] == [False, False, True, True]
    assert contents("negative_flips").items() <= server.files("cut/negative_flips", "space").items()


def test_a_space_that_is_something_else_is_not_overwritten(server: Hub, worker: Worker) -> None:
    mine = {"app.py": b"print('a shop')", "README.md": b"---\nsdk: gradio\n---\n"}
    server.create("other/negative_flips", kind="space", files=mine)
    refused = push(worker, "other")
    assert refused["error"] == "ConfigurationError"
    assert "other/negative_flips has an app.py and no negative_flips.py" in refused["message"]
    assert server.files("other/negative_flips", "space") == mine
    assert not server.exists("other/consistency", "space"), "what comes before it was pushed all the same"
    # Those that do not collide can be pushed.
    assert [space["name"] for space in push(worker, "other", names=["consistency"])["result"]] == ["consistency"]


def test_a_public_space_is_told_before_a_private_one_is_pushed(server: Hub, worker: Worker) -> None:
    server.create("seen/negative_flips", kind="space", files=contents("negative_flips"))
    refused = push(worker, "seen", private=True)
    assert refused["error"] == "ConfigurationError"
    assert "the Space seen/negative_flips is public, and a push does not make it private" in refused["message"]
    assert refused["message"].endswith("Nothing was pushed.")
    assert not server.exists("seen/consistency", "space")


def test_what_we_refuse_in_the_middle_names_what_is_there_as_well(server: Hub, worker: Worker) -> None:
    code = f"""
from muscle_hf.errors import ConfigurationError
from muscle_hf.spaces import push as spaces
real = spaces.commit
def commit(files, repository, **options):
    if repository == "seen/smooth_compatibility":
        raise ConfigurationError("it became public meanwhile. Nothing was changed there.")
    return real(files, repository, **options)
spaces.commit = commit
try:
    {PUSH.strip().replace(chr(10), chr(10) + "    ")}
finally:
    spaces.commit = real
"""
    options = {"names": ["consistency", "smooth_compatibility"]}
    refused = worker.run(code, token=ANN, namespace="seen", options=options)
    assert refused["error"] == "ConfigurationError"
    assert refused["message"].endswith("Nothing was changed there. Pushed before: seen/consistency.")


def test_a_private_space_is_hidden_from_others(server: Hub, worker: Worker) -> None:
    push(worker, "secret", names=["consistency"], private=True)
    assert server.info("secret/consistency", "space")["private"]
    hidden = worker.run(
        'from huggingface_hub import HfApi\nresult = HfApi().repo_exists("secret/consistency", repo_type="space")'
    )
    assert hidden["result"] is False


@pytest.mark.parametrize(
    ("token", "namespace", "told"),
    [
        (None, "acme", "there is no token"),
        ("hf_wrongWrongWrongWrongWrong", "acme", "the token is wrong or has expired (401)"),
        (BOB, "bob", "no right"),
        (ANN, "strangers", "no right"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line_and_leaves_nothing(
    server: Hub, worker: Worker, token: str | None, namespace: str, told: str
) -> None:
    refused = push(worker, namespace, token, names=["consistency"])
    assert refused["error"] == "HubError"
    assert told in refused["message"]
    assert "\n" not in refused["message"]
    if namespace != "acme":
        assert not server.exists(f"{namespace}/consistency", "space")


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_folder_of_a_space_holds_nothing_that_is_not_its_own(name: str) -> None:
    assert set(space_files(name, f"acme/{name}")) == {
        f"{name}.py",
        "README.md",
        "app.py",
        "requirements.txt",
        "tests.py",
    }


def test_names_that_cannot_be_are_refused_before_the_hub_is_asked() -> None:
    assert chosen_metrics() == sorted(METRICS)
    for names in (["rouge"], []):
        with pytest.raises(ConfigurationError, match="choose from consistency, negative_bias, negative_flips"):
            push_metrics("acme", names=names)
    for namespace in ("a/b", "", "a b", "-a"):
        with pytest.raises(ConfigurationError):
            space_name(namespace, "consistency")


# The command


def test_a_dry_run_shows_what_would_go_and_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    # The network is blocked here.
    assert main(["metrics", "push", "--namespace", "acme", "--name", "consistency", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "acme/consistency: README.md, app.py, consistency.py, requirements.txt, tests.py",
        "Nothing was sent (--dry-run).",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--namespace", "acme", "--name", "rouge"], "there is no metric 'rouge'"),
        (["--namespace", "a/b"], "'a/b' is no namespace"),
        ([], "--namespace"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "push", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_the_command_pushes_and_says_how_to_load(server: Hub, worker: Worker) -> None:
    code = 'from muscle_hf.cli import main\nresult = main(["metrics", "push", "--namespace", "ann", *words])'
    done = worker.run(code, token=ANN, words=["--name", "negative_flips"])
    assert done["result"] == 0, done
    lines = done["stdout"].splitlines()
    (commit, _), *_ = server.commits("ann/negative_flips", "space")
    assert lines[1:] == [
        f"{server.endpoint}/spaces/ann/negative_flips",
        f"  commit {commit}",
        '  evaluate.load("ann/negative_flips")',
    ]
    again = worker.run(code, token=ANN, words=["--name", "negative_flips"])
    assert again["stdout"].splitlines()[2] == f"  commit {commit}, which had the same files already"


def test_neither_pushing_nor_the_page_of_a_space_needs_torch(worker: Worker) -> None:
    code = """
import sys, muscle_hf.spaces.push, muscle_hf.spaces.pages
result = [one for one in ("torch", "evaluate") if one in sys.modules]
"""
    loaded = worker.run(code)
    assert loaded["result"] == []


def test_a_space_installs_a_version_that_has_its_page() -> None:
    from packaging.requirements import Requirement

    for name in METRICS:
        (line,) = contents(name)["requirements.txt"].decode().splitlines()
        wanted = Requirement(line)
        assert wanted.name == "muscle_hf"
        assert wanted.specifier.contains(__version__)
        assert wanted.extras == ({"hub", "scorers"} if name == "smooth_compatibility" else {"hub"})


def test_a_wheel_goes_along_and_is_installed_from_the_space_until_the_package_is_published(
    server: Hub, worker: Worker, tmp_path: Path
) -> None:
    import hashlib
    import urllib.request

    from packaging.requirements import Requirement

    content = {version: f"the wheel {version}".encode() for version in ("0.1.0", "0.2.0")}
    for version, data in content.items():
        wheel = tmp_path / f"muscle_hf-{version}-py3-none-any.whl"
        wheel.write_bytes(data)
        names = ["consistency", "smooth_compatibility"]
        push(worker, "wheels", names=names, requirement=str(wheel))
        for name, extras in zip(names, ({"hub"}, {"hub", "scorers"}), strict=True):
            files = server.files(f"wheels/{name}", "space")
            assert {path for path in files if path.endswith(".whl")} == {wheel.name}  # none of an earlier push
            assert files[wheel.name] == data
            wanted = Requirement(files["requirements.txt"].decode().strip())
            assert (wanted.name, wanted.extras) == ("muscle_hf", extras)
            address, _, digest = str(wanted.url).partition("#sha256=")
            assert digest == hashlib.sha256(data).hexdigest()
            with urllib.request.urlopen(address) as answer:  # noqa: S310 - the local Hub
                assert answer.read() == data
    server.create("wheels/negative_flips", kind="space", files=contents("negative_flips"), private=True)
    hidden = push(worker, "wheels", names=["negative_flips"], requirement=str(wheel))
    assert "wheels/negative_flips is private: a private Space cannot install a wheel" in hidden["message"]
    again = push(worker, "wheels", names=names, requirement=str(wheel))["result"]
    assert [space["changed"] for space in again] == [False, False]


@pytest.mark.parametrize(
    ("requirement", "lines"),
    [
        (None, ["muscle_hf[hub]>=0.1.0", "muscle_hf[hub,scorers]>=0.1.0"]),
        ("muscle_hf", ["muscle_hf[hub]", "muscle_hf[hub,scorers]"]),
        ("muscle_hf==0.2.0", ["muscle_hf[hub]==0.2.0", "muscle_hf[hub,scorers]==0.2.0"]),
        (
            "muscle_hf @ git+https://h.org/m",
            ["muscle_hf[hub] @ git+https://h.org/m", "muscle_hf[hub,scorers] @ git+https://h.org/m"],
        ),
    ],
)
def test_what_a_space_installs_is_one_setting_and_each_metric_keeps_its_extras(
    requirement: str | None, lines: list[str]
) -> None:
    for name, line in zip(("negative_flips", "smooth_compatibility"), lines, strict=True):
        content = space_files(name, f"acme/{name}", requirement)["requirements.txt"]
        text = content.decode() if isinstance(content, bytes) else content.read_text()
        assert text.splitlines() == [line]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"requirement": "rouge_score"}, "one of muscle_hf without extras"),
        ({"requirement": "muscle_hf[scorers]"}, "one of muscle_hf without extras"),
        ({"requirement": "muscle_hf\nrouge_score"}, "one of muscle_hf without extras"),
        ({"requirement": "nowhere/muscle_hf-0.1.0-py3-none-any.whl"}, "is no wheel of muscle_hf"),
        (
            {"requirement": "muscle_hf-0.1.0-py3-none-any.whl", "private": True},
            "a private Space cannot install a wheel",
        ),
    ],
)
def test_what_cannot_be_installed_is_refused_before_the_hub_is_asked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        push_metrics("acme", **options)
