"""`evaluate.load("negative_flips")` after `import muscle_hf`: found without the Hub, and nothing else is changed."""

import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import evaluate
import fresh
import pytest

import muscle_hf
from muscle_hf.spaces import registration

PACKAGE = Path(muscle_hf.__file__).parent
NAMES = sorted(registration.METRICS)

# A subprocess does not see the blocked sockets of conftest.py. Whoever tries the network here is written to stdout.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    print("NETWORK", args[-1] if args else "")
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
USE = """
flips = load("negative_flips").compute(predictions=[1, 0], old_predictions=[1, 1], references=[1, 1])
same = load("consistency").compute(predictions=[1, 0], old_predictions=[1, 1])
texts = {"predictions": ["a"], "old_predictions": ["a b"], "references": ["a b"]}
smooth = [load("smooth_compatibility").compute(**texts, scorer=scorer) for scorer in ("rouge1", "bleu")]
print(flips["negative_flips"], same["agreement"], sum(result["negative_flips"] for result in smooth))
"""


def _run(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, with an empty cache, from an empty working directory, warnings as errors."""
    cache.mkdir()
    away = cache / "work"
    away.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return fresh.run(
        [sys.executable, "-W", "error", "-c", NO_NETWORK + code],
        cwd=away,
        env={**kept, "HF_HOME": str(cache), **environment},
    )


def _assert_clean(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*expected.split("\n"), ""]
    assert done.stderr == "", "a warning or a log line where nothing is wrong"


@pytest.fixture
def hub_lookups(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Record every look-up on the Hub instead of making it; it fails as without a network."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Recorder:
        def __init__(self, name: str, **options: Any) -> None:
            seen.append((name, options))
            raise ConnectionError("no network")

    monkeypatch.setattr(evaluate.loading, "HubEvaluationModuleFactory", Recorder)
    # A cached copy, from another test, would be taken in its place.
    monkeypatch.setattr(evaluate.loading, "CachedEvaluationModuleFactory", Recorder)
    return seen


def test_every_metric_folder_is_registered_and_found() -> None:
    folder = Path(registration.metric_folder("negative_flips") or "").parent
    assert sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__") == NAMES
    assert registration.metric_folder("no_such_metric") is None


def test_the_network_of_the_tests_is_really_blocked() -> None:
    # Without this, "works without a network" below would be true of any code.
    for reach in (
        lambda: socket.create_connection(("192.0.2.1", 443)),
        lambda: socket.getaddrinfo("example.org", 443),
    ):
        with pytest.raises(OSError, match=r"blocked by tests/conftest\.py"):
            reach()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname()).close()


@pytest.mark.slow
def test_muscle_hf_first_then_evaluate_without_a_network(tmp_path: Path) -> None:
    done = _run("import muscle_hf\nimport evaluate\nfrom evaluate import load" + USE, tmp_path / "cache")
    _assert_clean(done, "1 0.5 2")


@pytest.mark.slow
def test_load_that_was_imported_before_muscle_hf_in_offline_mode(tmp_path: Path) -> None:
    code = "from evaluate import load\nimport muscle_hf" + USE
    _assert_clean(_run(code, tmp_path / "cache", HF_HUB_OFFLINE="1", HF_EVALUATE_OFFLINE="1"), "1 0.5 2")


@pytest.mark.slow
def test_reloading_either_side_neither_loses_nor_doubles_the_hook(tmp_path: Path) -> None:
    code = """
import importlib, sys
import muscle_hf
import evaluate
from evaluate import load
def depth():
    factory, count = evaluate.loading.evaluation_module_factory, 0
    while hasattr(factory, "__wrapped__"):
        factory, count = factory.__wrapped__, count + 1
    return count
importlib.reload(evaluate.loading)
print(depth())
importlib.reload(muscle_hf.spaces.registration)
importlib.reload(muscle_hf)
del sys.modules["muscle_hf"], sys.modules["muscle_hf.spaces.registration"]
import muscle_hf
print(depth(), sum(hasattr(finder, "_muscle_hf_registration") for finder in sys.meta_path))
importlib.reload(evaluate.loading)
print(depth())
"""
    _assert_clean(_run(code + USE, tmp_path / "cache"), "1\n1 1\n1\n1 0.5 2")


@pytest.mark.slow
def test_an_installed_wheel_serves_the_metrics_and_is_not_written_to(tmp_path: Path) -> None:
    # The layout of the wheel: the metrics lie inside the package, and nothing lies beside it.
    site = tmp_path / "site"
    skip = shutil.ignore_patterns("__pycache__", "data", "metrics")
    shutil.copytree(PACKAGE, site / "muscle_hf", ignore=skip)
    for name in NAMES:
        folder = Path(registration.metric_folder(name) or "")
        shutil.copytree(folder, site / "muscle_hf" / "metrics" / name, ignore=skip)
    before = sorted(site.rglob("*"))
    # Root may write anywhere, so the mode bits alone would prove nothing; the listing does.
    for path in [site, *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        code = "import sys; sys.dont_write_bytecode = True\nimport muscle_hf\nfrom evaluate import load" + USE
        done = _run(code, tmp_path / "cache", PYTHONPATH=str(site))
        after = sorted(site.rglob("*"))
    finally:
        for path in [site, *before]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    _assert_clean(done, "1 0.5 2")
    assert after == before
    records = list((tmp_path / "cache").rglob("negative_flips.json"))
    assert [json.loads(record.read_text())["original file path"] for record in records] == [
        str(site / "muscle_hf" / "metrics" / "negative_flips" / "negative_flips.py")
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"module_type": "metric"},
        {"experiment_id": "run-7"},
        {"config_name": "other", "keep_in_memory": True},
        {"download_mode": "force_redownload"},
        {"download_mode": "reuse_cache_if_exists"},
    ],
    ids=str,
)
def test_our_names_never_ask_the_hub(name: str, options: dict[str, Any], hub_lookups: list[Any]) -> None:
    metric = evaluate.load(name, **options)
    assert metric.name == name
    assert metric.experiment_id == options.get("experiment_id", "default_experiment")
    assert metric.config_name == options.get("config_name", "default")
    assert hub_lookups == []


@pytest.mark.parametrize(
    ("path", "options", "first"),
    [
        ("negative_flips", {"revision": "main"}, "evaluate-metric/negative_flips"),
        ("negative_flips", {"module_type": "comparison"}, "evaluate-comparison/negative_flips"),
        ("consistency", {"module_type": "measurement"}, "evaluate-measurement/consistency"),
        ("org/negative_flips", {}, "org/negative_flips"),
        ("Negative_Flips", {}, "evaluate-metric/Negative_Flips"),
        ("accuracy", {}, "evaluate-metric/accuracy"),
    ],
)
def test_what_is_not_plainly_ours_still_goes_to_the_hub(
    path: str, options: dict[str, str], first: str, hub_lookups: list[Any]
) -> None:
    with pytest.raises(FileNotFoundError, match="doesn't exist on the Hugging Face Hub"):
        evaluate.load(path, **options)
    name, passed = hub_lookups[0]
    assert name == first
    assert passed["revision"] == options.get("revision")


def test_a_copy_for_inspection_is_not_made_from_ours(hub_lookups: list[Any]) -> None:
    # evaluate refuses the name here with or without us; what counts is that our folder is not handed out.
    with pytest.raises(FileNotFoundError, match="Couldn't find a module script"):
        evaluate.loading.evaluation_module_factory("negative_flips", force_local_path="copy")


def test_a_module_in_the_working_directory_is_not_shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "negative_flips").mkdir()
    (tmp_path / "negative_flips" / "negative_flips.py").write_text(
        "import datasets\n"
        "import evaluate\n\n\n"
        "class Mine(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        features = datasets.Features({'predictions': datasets.Value('int64')})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=features)\n\n"
        "    def _compute(self, predictions):\n"
        "        return {'mine': len(predictions)}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert evaluate.load("negative_flips").compute(predictions=[1, 2]) == {"mine": 2}


@pytest.mark.slow
def test_other_names_fail_with_the_same_error_as_without_us() -> None:
    factory = evaluate.loading.evaluation_module_factory
    messages = []
    for function in (factory, factory.__wrapped__):
        with pytest.raises(FileNotFoundError) as caught:
            function("no_such_metric_of_anybody")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    for wrong in (None, 3, ["negative_flips"]):
        kinds = set()
        for function in (factory, factory.__wrapped__):
            with pytest.raises((AttributeError, TypeError)) as refused:
                function(wrong)
            kinds.add((refused.type, str(refused.value)))
        assert len(kinds) == 1


def test_the_wrapper_looks_like_what_it_wraps() -> None:
    factory = evaluate.loading.evaluation_module_factory
    assert factory.__name__ == "evaluation_module_factory"
    assert inspect.signature(factory) == inspect.signature(factory.__wrapped__)
    # The parameters that the wrapper names itself must stay where evaluate has them.
    assert list(inspect.signature(factory.__wrapped__).parameters)[:3] == ["path", "module_type", "revision"]


def test_a_broken_installation_leaves_the_name_to_evaluate(
    monkeypatch: pytest.MonkeyPatch, hub_lookups: list[Any]
) -> None:
    monkeypatch.setattr(registration, "metric_folder", lambda name: None)
    with pytest.raises(FileNotFoundError):
        evaluate.load("negative_flips")
    assert hub_lookups[0][0] == "evaluate-metric/negative_flips"


def _fastest(path: str) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        evaluate.load(path)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_costs_no_more_than_50_ms_over_its_path(name: str, record_property: Any) -> None:
    by_path, by_name = _fastest(str(registration.metric_folder(name))), _fastest(name)
    record_property("milliseconds", {"by path": 1000 * by_path, "by name": 1000 * by_name})
    assert by_name - by_path < 0.050
