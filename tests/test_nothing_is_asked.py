"""No command and no trainer asks anybody about what lies here, and a Hub that is out of reach is asked once."""

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import fresh
import pytest
from local_hub import Hub, hub
from tiny_classifiers import tiny_classifier
from tiny_models import tiny_adapter, tiny_llama, tiny_tokenizer
from tiny_updates import make_update
from transformers import LlamaForCausalLM

pytestmark = pytest.mark.slow

ROWS = [
    {"prompt": f"what is it, number {number}?\n", "completion": ("balance", "transfer", "freeze")[number % 3]}
    for number in range(30)
]
TABLES = {"v1.csv": "id,prediction,reference\n1,A,A\n2,B,B\n", "v2.csv": "id,prediction,reference\n1,A,A\n2,A,B\n"}
# Relative names of two parts: folders, and names that somebody's repositories may have.
NAMES = ("team/base-v1", "team/base-v2", "team/task-v1", "team/task-v2", "team/clf-v1", "team/clf-v2", "team/out")

# Runs snippets one after the other in one process, and says of each what it tried to reach; or each in a fork of its
# own, and those of one kind beside each other, since each of them waits.
PROGRAM = """
import contextlib, gc, io, json, os, sys
import request_counter
from found_out_once import keep_what_is_found_out
request_counter.install()
from pathlib import Path
from huggingface_hub.utils import _telemetry
import muscle_hf
from muscle_hf.cli import main
home = os.getcwd()
rows = [json.loads(line) for line in open("rows.jsonl")]

def options(kind=muscle_hf.CompatibilityConfig, **more):
    more = {"output_dir": "runs", "max_steps": 1, "save_steps": 1, "save_strategy": "steps"} | more
    more |= {"bf16": False} if kind is muscle_hf.CompatibilityConfig else {}
    return kind(use_cpu=True, report_to="none", disable_tqdm=True, per_device_train_batch_size=4, **more)

def trainer(model="team/base-v2", old_model="team/base-v1", new_adapter="team/task-v2", old_adapter="team/task-v1",
            **more):
    from datasets import Dataset
    return muscle_hf.CompatibilityTrainer(model, old_model, new_adapter=new_adapter, old_adapter=old_adapter,
        args=options(**more), train_dataset=Dataset.from_list(rows))

def classifier(model="team/clf-v2", old_model="team/clf-v1", **more):
    from datasets import Dataset
    texts = Dataset.from_list([{"text": f"transfer {number}", "label": number % 3} for number in range(8)])
    args = options(muscle_hf.CompatibilityClassifierConfig)
    return muscle_hf.CompatibilityClassifierTrainer(model, old_model, args=args, train_dataset=texts, **more)

def update(*more, old="team/task-v1", new="team/base-v2", data="rows.jsonl"):
    return main(["update", "--old-adapter", old, "--new-base", new, "--dataset", data, "--output-dir", "team/out",
        "--num-train-epochs", "1", "--per-device-train-batch-size", "8", "--use-cpu", "true", *more])

def cache(model="team/base-v2", data="rows.jsonl"):
    return main(["cache", "--model", model, "--new-adapter", "team/task-v2", "--old-model", "team/base-v1",
        "--old-adapter", "team/task-v1", "--dataset", data, "--teacher-cache-dir", "targets", "--use-cpu", "true"])

def predict(adapter="team/task-v1", data="rows.jsonl", *more):
    Path("answers.jsonl").unlink(missing_ok=True)
    return main(["predict", adapter, data, "--output", "answers.jsonl", *more])

beside, forked = [], os.environ.get("FORKED_AND_BESIDE_EACH_OTHER")
if forked:
    import muscle_hf.prediction, muscle_hf.publishing, muscle_hf.update.run  # once, and not in each of them
for name, code in json.loads(sys.stdin.read()).items():
    if forked and (process := os.fork()):
        if name.startswith(forked):
            beside.append(process)
        else:
            os.waitpid(process, 0)
        continue
    os.chdir(home)
    keep_what_is_found_out()
    gc.freeze()  # each training asks for a whole collection of garbage
    request_counter.attempts.clear()
    said, names, error = io.StringIO(), dict(globals()), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            exec(code, names)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    if _telemetry._TELEMETRY_THREAD is not None:
        _telemetry._TELEMETRY_QUEUE.join()
    found = {"attempts": list(request_counter.attempts), "said": said.getvalue(), "error": error}
    print("FOUND", json.dumps({"name": name, "result": names.get("result"), **found}), flush=True)
    if forked:
        os._exit(0)
for process in beside:
    os.waitpid(process, 0)
"""

LOCAL = {
    "compare": "result = main(['compare', 'v1.csv', 'v2.csv', '--html', 'page.html'])",
    "update --dry-run": "result = update('--dry-run')",
    "update": "result = update()",
    "update again": "result = update()",
    "cache": "result = cache()",
    "predict": "result = predict()",
    "predict, base as an option": "result = predict('team/task-v1', 'rows.jsonl', '--base-model', 'team/base-v1')",
    "push --dry-run": "result = main(['push', 'team/out/adapter', 'org/x', '--base-model', 'org/base', '--dry-run'])",
    "metrics push --dry-run": "result = main(['metrics', 'push', '--namespace', 'org', '--dry-run'])",
    "demo": """
from muscle_hf.demo import run
tiny = run.DemoSettings(training_rows=32, validation_rows=8, test_rows=8, task_epochs=1, update_epochs=1)
run.DemoSettings.fast = classmethod(lambda cls, seed=0: tiny)
run.processes_here = lambda: 1  # what another one asks would not be counted
result = main(["demo", "--fast", "--output-dir", "demo"])
""",
    "load_adapter": "result = type(muscle_hf.load_adapter('team/task-v1')).__name__",
    "load_adapter, merged": "result = type(muscle_hf.load_adapter('team/task-v1', merge=True)).__name__",
    "trainer": """
trained = trainer()
trained.train()
trained.save_model("saved")
trained.add_comparison("compatibility adapter", muscle_hf.compare(old=[1, 1], new=[1, 0], references=[1, 1]))
trained.create_model_card()
trained.model.save_pretrained("saved again")
result = type(trained.old_teacher.model).__name__
""",
    "trainer, models as a whole": """
trained = trainer("team/task-v2", "team/base-v1", None, None)
trained.train()
result = type(trained.old_teacher.model).__name__
""",
    "trainer, full fine-tune": """
trained = trainer(new_adapter=None, old_adapter=None, full_fine_tune=True)
trained.train()
result = type(trained.model).__name__
""",
    "trainer, teacher cache": "trainer(teacher_cache='topk', teacher_cache_dir='t').train()",
    "trainer, resumed": """
for resume in (None, True):
    trained = trainer(max_steps=2 if resume else 1, lr_scheduler_type="constant", output_dir="resumed")
    trained.train(resume_from_checkpoint=resume)
""",
    "trainer, from another working directory": """
trained = trainer(teacher_cache="topk", teacher_cache_dir=os.path.abspath("t2"), output_dir=os.path.abspath("o2"))
os.makedirs("elsewhere", exist_ok=True)
os.chdir("elsewhere")
trained.train()
trained.save_model("saved")
result = json.loads(Path("saved/adapter_config.json").read_text())["base_model_name_or_path"]
""",
    "trainer, loaded models, from another working directory": """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
new, old = (PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(f"team/base-v{version}"),
    f"team/task-v{version}") for version in (2, 1))
trained = trainer(new, old, None, None, output_dir=os.path.abspath("o3"))
os.makedirs("elsewhere", exist_ok=True)
os.chdir("elsewhere")
trained.train()
""",
    "trainer, a base that has moved": """
import shutil
shutil.copytree("team/task-v2", "moved", dirs_exist_ok=True)
config = json.loads(Path("moved/adapter_config.json").read_text())
Path("moved/adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "gone/base-v2"}))
trained = trainer(new_adapter="moved", output_dir="o4")
trained.train()
trained.save_model("saved moved")
result = json.loads(Path("saved moved/adapter_config.json").read_text())["base_model_name_or_path"]
""",
    "classifiers": """
trained = classifier()
trained.train()
trained.save_model("saved classifier")
""",
    "evaluate.load": """
import evaluate
metric = evaluate.load("negative_flips")
result = metric.compute(predictions=[1, 0], old_predictions=[1, 1], references=[1, 1])["negative_flip_rate"]
""",
}
# Folders that lack something, each a copy of a whole one; and a file where a folder is needed.
LACKING = {
    "no-config": ("base-v2", "config.json"),
    "no-weights": ("base-v2", "model.safetensors"),
    "no-tokenizer": ("base-v2", "tokenizer"),
    "no-adapter-config": ("task-v2", "adapter_config.json"),
    "no-adapter-weights": ("task-v2", "adapter_model.safetensors"),
}
BROKEN = {
    f"{what}, {name}": code.format(name)
    for name in (*LACKING, "a-file")
    for what, code in {
        "trainer, base": "trainer('team/{}')",
        "trainer, adapter": "trainer(new_adapter='team/{}')",
        "trainer, old model as a whole": "trainer(old_model='team/{}', old_adapter=None)",
        "update, base": "result = update('--dry-run', new='team/{}')",
        "update, adapter": "result = update('--dry-run', old='team/{}')",
        "load_adapter": "muscle_hf.load_adapter('team/{}')",
        "load_adapter, base": "muscle_hf.load_adapter('team/task-v2', base_model='team/{}')",
        "predict, data": "result = predict('team/task-v1', 'team/{}')",
        "compare": "result = main(['compare', 'team/{}', 'v1.csv'])",
        "classifiers, adapter": "classifier('team/base-v2', new_adapter='team/{}')",
        "classifiers, old": "classifier(old_model='team/{}')",
    }.items()
}
RESULTS: dict[str, object] = {
    **dict.fromkeys([name for name, code in LOCAL.items() if "result = main" in code or "result = update" in code], 0),
    **{name: 0 for name in LOCAL if name.startswith(("cache", "predict"))},
    "load_adapter": "PeftModelForCausalLM",
    "load_adapter, merged": "LlamaForCausalLM",
    "trainer": "PeftModelForCausalLM",
    "trainer, models as a whole": "LlamaForCausalLM",
    "trainer, full fine-tune": "LlamaForCausalLM",
    "trainer, a base that has moved": "gone/base-v2",
    "evaluate.load": 0.5,
}


def _run(
    snippets: Mapping[str, str], folder: Path, environment: Mapping[str, str], **changes: str
) -> dict[str, dict[str, Any]]:
    # Nothing that would keep a library quiet by itself.
    quiet = {"HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_UPDATE_DOWNLOAD_COUNTS", "CI", "HF_HUB_ETAG_TIMEOUT"}
    chosen = {name: value for name, value in environment.items() if name not in quiet} | changes
    paths = [Path(__file__).parent, Path(__file__).parents[1], os.environ.get("PYTHONPATH", "")]
    done = fresh.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        text=json.dumps(dict(snippets)),
        env=chosen | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        cwd=folder,
    )
    lines = [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = {one["name"]: one for one in map(json.loads, lines)}
    assert sorted(found) == sorted(snippets), done.stderr[-3000:]
    return {name: found[name] for name in snippets}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with models whose relative paths are names that the Hub may have too."""
    root = tmp_path_factory.mktemp("work")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)  # so that adapters name their bases by relative paths
    make_update(Path("team"))
    tokenizer = tiny_tokenizer()
    for version in (1, 2):
        tiny_classifier(version, tokenizer).save_pretrained(f"team/clf-v{version}")
        tokenizer.save_pretrained(f"team/clf-v{version}")
    patch.undo()
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    for name, text in TABLES.items():
        (root / name).write_text(text, encoding="utf-8")
    for name, (whole, left_out) in LACKING.items():
        shutil.copytree(root / "team" / whole, root / "team" / name, ignore=shutil.ignore_patterns(f"{left_out}*"))
    (root / "team" / "a-file").write_text("no model", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub that has an adapter of somebody else under each of these names, and two models of its own."""
    foreign = tmp_path_factory.mktemp("foreign")
    tokenizer = tiny_tokenizer()
    tiny_llama(7, tokenizer, hidden_size=16, layers=1).save_pretrained(foreign / "base")
    tokenizer.save_pretrained(foreign / "base")
    tiny_adapter(LlamaForCausalLM.from_pretrained(foreign / "base"), 99).save_pretrained(foreign / "adapter")
    config = foreign / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "org/base"}))

    def files(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (foreign / name).iterdir()}

    with hub() as server:
        for name in NAMES:
            server.create(name, files=files("adapter"))
        server.create("org/base", files=files("base"))
        server.create("org/adapter", files=files("adapter"))
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has what CACHED needs once `of_local_names` is there."""
    return tmp_path_factory.mktemp("home")


CACHED = {
    "cached: load_adapter": "result = type(muscle_hf.load_adapter('org/adapter')).__name__",
    "cached: predict": "result = predict('org/adapter')",
    "cached: trainer": "trainer('org/base', 'team/base-v1', 'org/adapter', output_dir='o5').train()",
    "cached: trainer, as a whole": "trainer('org/adapter', 'org/base', None, None, output_dir='o6').train()",
    "cached: update --dry-run": "result = update('--dry-run', old='org/adapter')",
}


@pytest.fixture(scope="module")
def of_local_names(folder: Path, running: Hub, home: Path) -> dict[str, dict[str, Any]]:
    return _run(LOCAL | BROKEN | CACHED, folder, running.environment(home=home))


@pytest.mark.parametrize("name", LOCAL)
def test_nothing_is_asked_about_what_lies_here_and_that_is_what_is_taken(
    of_local_names: dict[str, dict[str, Any]], name: str
) -> None:
    found = of_local_names[name]
    assert found["error"] is None, found
    assert found["attempts"] == []
    assert name not in RESULTS or found["result"] == RESULTS[name], found["said"]


def test_a_saved_adapter_names_its_base_by_a_path_that_holds_everywhere(
    of_local_names: dict[str, dict[str, Any]], folder: Path
) -> None:
    found = of_local_names["trainer, from another working directory"]
    assert found["result"] == str(folder / "team" / "base-v2")


def test_a_folder_that_lacks_something_is_not_completed_from_the_hub(
    of_local_names: dict[str, dict[str, Any]],
) -> None:
    found = {name: of_local_names[name] for name in BROKEN}
    assert [name for name, one in found.items() if one["attempts"]] == []
    # A base may do without a tokenizer where the adapter brings one, and for its own weights a dry run needs none.
    whole = {name for name, one in found.items() if one["error"] is None and not one["result"]}
    assert all("no-tokenizer" in name or "no-weights" in name for name in whole), whole


MISSING = {
    "find": "result = main(['find', '--base-model', 'org/x'])",
    "compare": "result = main(['compare', 'org/data', 'v1.csv'])",
    "predict, adapter": "result = predict('org/x')",
    "predict, data": "result = predict('team/task-v1', 'org/data')",
    "predict, base": "result = predict('team/task-v1', 'rows.jsonl', '--base-model', 'org/x')",
    "update, adapter": "result = update('--dry-run', old='org/x')",
    "update, new adapter": "result = update('--dry-run', '--new-adapter', 'org/x')",
    "update, base": "result = update('--dry-run', new='org/x')",
    "update, data": "result = update('--dry-run', data='org/data')",
    "cache, model": "result = cache('org/x')",
    "cache, data": "result = cache(data='org/data')",
    "push": "result = main(['push', 'pushed', 'org/x', '--base-model', 'org/base'])",
    "metrics push": "result = main(['metrics', 'push', '--namespace', 'org'])",
    "load_adapter": "muscle_hf.load_adapter('org/x')",
    "trainer, base": "trainer('org/x')",
    "trainer, new adapter": "trainer(new_adapter='org/x')",
    "trainer, model as a whole": "trainer('org/x', new_adapter=None)",
    "trainer, old base": "trainer(old_model='org/x')",
    "trainer, old adapter": "trainer(old_adapter='org/x')",
    "classifiers, new": "classifier('org/x')",
    "classifiers, old": "classifier(old_model='org/x')",
    "classifiers, adapter": "classifier('team/base-v2', new_adapter='org/x')",
}
FORGET = "from muscle_hf.hub import lookup; lookup._failures.clear(); "


def _check_told_once(found: Mapping[str, Mapping[str, Any]], words: str) -> None:
    for name, one in found.items():
        # A command may have said before how it reads the rows.
        told = one["error"] or [line for line in one["said"].splitlines() if line.startswith("muscle-hf ")][-1]
        assert words in told and "\n" not in told, (name, one)
        assert one["error"] or one["result"] == 2, (name, one)
        # huggingface_hub says so whenever it tries again.
        assert "Retrying" not in one["said"]
        # The look-up of a name, and a connection for each of its addresses.
        assert len(one["attempts"]) <= 3, (name, one["attempts"])


@pytest.fixture(scope="module")
def pushed(folder: Path, of_local_names: dict[str, dict[str, Any]]) -> Path:
    """An adapter with its card, made by an update, that can be pushed."""
    (folder / "pushed").symlink_to(folder / "team" / "out" / "adapter")
    return folder


@pytest.fixture(scope="module")
def without_a_network(pushed: Path, running: Hub, home: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """An address where nobody listens, and what came of each snippet there."""
    with _nobody() as endpoint:
        environment = running.environment("hf_" + "x" * 20, home=home) | {"HF_ENDPOINT": endpoint}
        snippets = {name: FORGET + code for name, code in (MISSING | CACHED).items()}
        return endpoint, _run(snippets, pushed, environment)


def test_without_a_network_a_missing_id_is_one_line_after_one_try(
    without_a_network: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    endpoint, found = without_a_network
    told = f"{endpoint} cannot be reached; check the network, the proxy and HF_ENDPOINT"
    _check_told_once({name: found[name] for name in MISSING}, told)


@contextmanager
def _nobody() -> Iterator[str]:
    """Give an address that is taken, so that no other test gets it, and where nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


FEW = {name: FORGET + MISSING[name] for name in ("find", "compare", "predict, adapter", "update, base", "push")}


# How the Hub is out of reach: the scheme of its address, and what a proxy says, unless it is silent or there is none.
WAYS: dict[str, tuple[str, str | None]] = {
    "unknown host": ("http", "no proxy"),
    "bad gateway": ("http", "502 Bad Gateway"),
    "forbidden": ("https", "403 Forbidden"),
    "silence": ("https", None),
}


@pytest.fixture(scope="module")
def out_of_reach(
    pushed: Path, running: Hub, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, dict[str, Any]]]:
    """What came of each snippet by each way; an address is read at an import, and a proxy in each fork."""
    found: dict[str, dict[str, dict[str, Any]]] = {way: {} for way in WAYS}
    for scheme in ("http", "https"):
        environment = running.environment("hf_" + "x" * 20, home=tmp_path_factory.mktemp("home"))
        environment |= {"HF_ENDPOINT": f"{scheme}://hub.invalid", "FORKED_AND_BESIDE_EACH_OTHER": "silence"}
        with ExitStack() as stack:
            snippets = {}
            for way in [way for way in WAYS if WAYS[way][0] == scheme]:
                changes = {} if way == "unknown host" else stack.enter_context(_proxy(WAYS[way][1]))
                for name, code in FEW.items():
                    snippets[f"{way}: {name}"] = f"os.environ.update({changes}); {code}"
            for name, one in _run(snippets, pushed, environment).items():
                way, _, name = name.partition(": ")
                found[way][name] = one
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_hub_out_of_reach_is_one_line_after_one_try(
    out_of_reach: dict[str, dict[str, dict[str, Any]]], way: str
) -> None:
    assert sorted(out_of_reach[way]) == sorted(FEW)
    said = {"unknown host": "http://hub.invalid cannot be reached", "silence": "did not answer within 2.5 seconds"}
    _check_told_once(out_of_reach[way], said.get(way, "cannot be reached"))


@contextmanager
def _proxy(status: str | None) -> Iterator[dict[str, str]]:
    """Give the environment of a client of a proxy that refuses, or says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_refuse, args=(server, status), daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield {"NO_PROXY": "", "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}


def _refuse(server: socket.socket, status: str | None) -> None:
    kept = []  # nothing is answered as long as they are open
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            for connection in kept:
                connection.close()
            return
        if status is None:
            kept.append(connection)
            continue
        with connection:
            connection.recv(4096)
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


def test_what_is_in_the_cache_is_loaded_without_asking_offline_and_after_one_try_without_a_network(
    pushed: Path,
    running: Hub,
    home: Path,
    of_local_names: dict[str, dict[str, Any]],
    without_a_network: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    filled = {name: of_local_names[name] for name in CACHED}
    assert [one["error"] for one in filled.values()] == [None] * len(CACHED), filled
    offline = _run(CACHED | MISSING, pushed, running.environment(home=home), HF_HUB_OFFLINE="1")
    for name, one in offline.items():
        assert one["attempts"] == [], name
        if name in CACHED:
            assert one["error"] is None and one["result"] == filled[name]["result"], one
    for name in CACHED:
        one = without_a_network[1][name]
        assert one["error"] is None and one["result"] == filled[name]["result"], one
        assert len(one["attempts"]) <= 3, (name, one["attempts"])
