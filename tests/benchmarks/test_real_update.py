"""The benchmark of real updates: what it trains on, kills, measures and compares, with a command that stands in."""

import json
import runpy
import shlex
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from tiny_models import tiny_llama, tiny_tokenizer

import muscle_hf
from muscle_hf.card import AdapterCard
from muscle_hf.update.options import read_options

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "real_update.py"
RESULTS = ROOT / "benchmarks" / "real_update_results"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
# In place of `muscle-hf update`: stages, kept answers, a checkpoint; it waits to be killed where nothing is kept yet.
STANDS_IN = """
import json, pathlib, signal, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(words["--output-dir"])
kill = out.with_name("kill").exists()
def say(line): print(line, flush=True)
part, checkpoint = out / "answers" / "old.jsonl.part", out / "compatibility" / "checkpoint-2"
say("the answers of the old model: asking 4 rows")
if kill and not part.exists():
    part.parent.mkdir(parents=True); part.write_text('{"decided_by": "x"}\\n[0, "a"]\\n'); signal.pause()
done = checkpoint.exists()
say("the compatibility adapter: training, 4 steps" + (", going on from step 2" if done else ""))
if kill and not done:
    checkpoint.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt"): (checkpoint / name).touch()
    state = {"global_step": 2, "max_steps": 4, "stateful_callbacks": {}, "log_history": []}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    while True: sum(range(10000))
out.mkdir(exist_ok=True)
for file in sorted(out.rglob("*"), reverse=True): file.unlink() if file.is_file() else file.rmdir()
(out / "adapter.bin").write_bytes(b"weights")
(out / "README.md").write_text(f"- time: {time.time()} min\\n")
text = pathlib.Path(words["--new-base"], "comparison.json").read_text()
(out / "comparison.json").write_text(text)
out.with_name("kill").touch()
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    script = runpy.run_path(str(SCRIPT))["main"].__globals__
    for name in [name for name in sys.modules if name.startswith("real_update_")]:
        monkeypatch.delitem(sys.modules, name)
    return script


@pytest.mark.slow
def test_an_update_is_killed_twice_and_held_against_one_left_alone(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = muscle_hf.compare(old=["a", "a"], new=["a", "b"], references=["a", "a"])
    for model in ("smollm2", "gemma3"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "config.json").touch()
        found = {"old_model_against": {"plain update": json.loads(compared.to_json())}}
        (tmp_path / model / "comparison.json").write_text(json.dumps(found))
    output = tmp_path / "updates"
    (output / "seed-0").mkdir(parents=True)
    monkeypatch.setitem(script, "prepare", lambda *_: None)
    monkeypatch.setitem(script, "COMMAND", [sys.executable, "-S", "-c", STANDS_IN])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--models", str(tmp_path), "--output", str(output), "--updates", "other-tokenizer"]
    script["main"](words)
    shown = capsys.readouterr().out
    assert "| SmolLM2 → Gemma 3 270M | old model | 1 | 100.0 | | | | 2 |" in shown
    assert "| SmolLM2 → Gemma 3 270M | plain update | 1 | 50.0 | 50.0 [9.5, 90.5] | 1.00 |  | 2 |" in shown
    assert "| SmolLM2 → Gemma 3 270M | Eq. 1 | the compatibility adapter | 4 |" in shown
    assert "killed twice (going on from step 2): 3 files, all the same (2 byte for byte)" in shown
    # What is measured is kept, and nothing runs again; it needs no models, and is of no other rows.
    monkeypatch.setitem(script, "COMMAND", [])
    script["main"](words[2:])
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit, match=r"'rows': 256, .* and .*'rows': 255, .* take another --output"):
        script["main"]([*words[2:], "--rows", "255"])
    with pytest.raises(SystemExit):
        script["main"]([*words[2:], "--seeds", "1"])
    assert "what is not measured yet needs --models" in capsys.readouterr().err


def test_other_weights_or_answers_are_taken_for_the_same(script: dict[str, Any], tmp_path: Path) -> None:
    for folder, time, modules, rows in (("one", 1, ["q", "v"], [1, 2]), ("two", 9, ["v", "q"], [2, 1])):
        (tmp_path / folder).mkdir()
        facts = {"training": {"time": time}, "target_modules": modules}
        (tmp_path / folder / "training.json").write_text(json.dumps(facts))
        (tmp_path / folder / "comparison.json").write_text(json.dumps({"negative_flips": rows}))
        (tmp_path / folder / "weights.bin").write_text(folder)
    (tmp_path / "two" / "more").touch()
    differ, bytes_differ, files = script["differing"](tmp_path / "one", tmp_path / "two")
    assert (differ, files) == (["comparison.json", "more", "weights.bin"], 4)
    assert bytes_differ == ["comparison.json", "more", "training.json", "weights.bin"]


def test_a_command_that_fails_is_measured(script: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "print('no such model'); raise SystemExit(2)"]
    with pytest.raises(SystemExit, match=r"ended with 2; its last words:\nno such model"):
        script["run"](command, tmp_path / "log")
    with pytest.raises(SystemExit, match="ended with 0"):  # before it could be killed
        script["run"]([*command[:-1], "pass"], tmp_path / "log", lambda _: False)


@pytest.mark.slow
def test_the_old_adapter_is_trained_once_on_rows_that_the_update_does_not_have(
    script: dict[str, Any], tmp_path: Path
) -> None:
    models = script["prepare"].__globals__
    rows, more = models["rows_of"]("train", 8, 0), models["rows_of"]("train", 16, 0)
    assert more[:8] == rows
    assert {row["completion"] for row in models["rows_of"]("train", 2000, 0)} >= {"calendar", "play", "weather"}
    base = tiny_llama(0, tiny_tokenizer(), hidden_size=16, layers=1)
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    for _ in range(2):
        models["train"](tmp_path / "base", more[8:], tmp_path / "old", lora, max_steps=1)
    assert {"adapter_model.safetensors", "tokenizer.json"} <= {path.name for path in (tmp_path / "old").iterdir()}
    assert not (tmp_path / "old.part").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": 751}, "has 1500 rows to train on here.*lower --rows"),
        ({"test_rows": 4001}, "and 4000 to compare on"),
        ({"old_rows": "same"}, "'old_rows': 'other'.*'old_rows': 'same'.*take another --output"),
    ],
)
def test_an_adapter_is_not_trained_on_fewer_rows_nor_kept_for_others(
    script: dict[str, Any], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    asked = {"rows": 750, "old_rows": "other", "test_rows": 1000, "epochs": 1, "base_steps": 1}
    (tmp_path / "settings.json").write_text(json.dumps(asked))
    options = Namespace(**asked | changed, texts=1, updates=[], models=tmp_path)
    with pytest.raises(SystemExit, match=message):
        script["prepare"](tmp_path, options, 0)


@pytest.mark.slow
def test_refresh_learns_labels_or_is_held_against_other_answers(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, working = tmp_path / "base", tmp_path / "working"
    tiny_llama(0, tiny_tokenizer(), hidden_size=16, layers=1).save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    working.mkdir()
    row = {"prompt": "wake me\n", "completion": "alarm"}
    for name, count in (("train", 8), ("test", 4)):
        (tmp_path / f"massive-domains-{name}.jsonl").write_text((json.dumps(row) + "\n") * count)
    # The old adapter says "play" to everything, and so it is right nowhere; every other one is right everywhere.
    answers = """
import json, pathlib, sys
said = "play" if sys.argv[1].endswith("old-adapter") else "alarm"
lines = pathlib.Path(sys.argv[2]).read_text().splitlines()
answer = json.dumps({"prediction": said, "reference": "alarm"})
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text((answer + "\\n") * len(lines))
"""
    models = script["refresh"].__globals__
    monkeypatch.setitem(models, "PREDICT", [sys.executable, "-S", "-c", answers])
    taught: list[Any] = []
    train = models["train"]
    monkeypatch.setitem(
        models,
        "train",
        lambda base, rows, *more, **options: (taught.extend(rows), train(base, rows, *more, **options)),
    )
    old = tmp_path / "old.jsonl"
    old.write_text(
        "".join(json.dumps({"prediction": said, "reference": "alarm"}) + "\n" for said in ["alarm", "play"] * 2)
    )
    stages, compared = script["refresh"](base, tmp_path, working, old, 1, 0)
    assert taught == [row | {"completion": "play"}] * 8
    assert (working / "adapter" / "adapter_config.json").exists() and len(stages) == 2
    assert (compared["n"], compared["negative_flips"], compared["positive_flips"]) == (4, [], [1, 3])
    with pytest.raises(SystemExit, match="name another strategy before it"):
        options = Namespace(rows=8, old_rows="other", test_rows=4, epochs=1, base_steps=1, models=tmp_path)
        script["measure"]("rounded", "refresh", tmp_path, options, 0)


def test_each_strategy_is_held_against_the_best_reference_seed_by_seed(
    script: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def compared(lost: int, n: int = 100) -> dict[str, Any]:
        """Half of the old answers are right, and so is the other half of the new ones but for `lost`."""
        new = [False] * lost + [True] * (n // 2 - lost) + [True] * lost + [False] * (n // 2 - lost)
        found = muscle_hf.compare_correct(old=[True] * (n // 2) + [False] * (n // 2), new=new)
        read: dict[str, Any] = json.loads(found.to_json())
        return read

    ours = script["show"].__globals__["OURS"]
    plain, control = script["show"].__globals__["REFERENCES"][:2]
    focal = [{plain: compared(20), control: compared(15 + seed), ours: compared(10)} for seed in (0, 2)]
    fair = [{plain: compared(20), ours: compared(12)} for _ in range(2)]
    no_stages = {"stages": []}
    update = {
        "focal": [{"against": each} | no_stages for each in focal],
        script["FAIR"]: [{"against": each} | no_stages for each in fair],
    }
    script["show"]({"an update": update})
    shown = capsys.readouterr().out
    # Of 15 and 17 lost by the control and 10 by focal, of the first questions all: 5 and 7 kept, none lost.
    assert "| focal | control | an update | 0.0 [0.0, 0.0] | -6.0 [-18.7, 6.7] | " in shown
    assert "| 38 | 5 and 0, 0.06; 7 and 0, 0.02 |" in shown
    rows = [line.split(" | ") for line in shown.splitlines() if line.startswith("| an update")]
    # Half right and half wrong: expected are .25, so that 10 lost of 100 are .4; Student's quantile is 12.706.
    assert [row[1] for row in rows] == ["old model", plain, control, "focal", script["FAIR"]]
    assert rows[2][4:7] == ["16.0 [3.3, 28.7]", "0.64 [0.13, 1.15]", "0.16 [-0.35, 0.67] (fair control)"]
    assert rows[3][3:6] == ["50.0 [50.0, 50.0]", "10.0 [10.0, 10.0]", "0.40 [0.40, 0.40]"]
    assert rows[3][6] == "-0.08 [-0.08, -0.08] (fair control)"
    assert rows[4][6] == "-0.16 [-0.67, 0.35] (control)"
    # A reference that loses little because it is right on less, beyond chance, is none.
    few = [True] * 10 + [False] * 90
    worse = [json.loads(muscle_hf.compare_correct(old=few, new=few).to_json())] * 2
    update["refresh"] = [{"against": {script["REFRESH"]: each}} | no_stages for each in worse]
    script["show"]({"an update": update})
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| an update")]
    assert [line[6] for line in lines[1:5]] == [row[6] for row in rows[1:]]


@pytest.mark.parametrize("strategy", ["paper", "focal", "focal_product", "focal-surer", "texts-new"])
@pytest.mark.parametrize("update", ["trained-on", "other-tokenizer"])
def test_the_command_of_a_strategy_is_refused_or_forgets_the_texts(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], update: str, strategy: str
) -> None:
    if (update, strategy) == ("other-tokenizer", "focal_product"):
        words = ["--models", str(tmp_path), "--output", str(tmp_path), "--updates", update, "--strategies", strategy]
        with pytest.raises(SystemExit):
            script["main"](words)
        assert "two vocabularies have no product" in capsys.readouterr().err
        return
    commanded = partial(script["command_of"], update, strategy, tmp_path, Namespace(epochs=2, models=tmp_path), 3)
    command = commanded()
    options = read_options(command[len(script["COMMAND"]) :])
    presets = {"focal": "focal", "focal_product": "focal_product", "focal-surer": "focal"}
    assert options.given.get("preset") == presets.get(strategy)
    has_texts = options.settings.unlabelled_dataset is not None
    assert has_texts == (strategy in ("focal_product", "focal-surer", "texts-new"))
    task_adapter = tmp_path / f"{update}-earlier-alone" / "task-adapter"
    task_adapter.mkdir(parents=True)
    # The rate of a task adapter that is there already is refused.
    assert command[-2] == "--task-learning-rate"
    assert commanded() == [*command[:-2], "--new-adapter", str(task_adapter), "--no-control"]


def test_the_page_of_evidence_shows_another_table_than_the_kept_results(
    script: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("python benchmarks/real_update.py")]
    assert commands
    monkeypatch.chdir(ROOT)
    for command in commands:
        script["main"](shlex.split(command)[2:])
        table, _, _ = capsys.readouterr().out.partition("\n\n")
        assert table in page, command


def test_the_readme_claims_other_figures_than_the_results_of_the_language_model(
    script: dict[str, Any],
) -> None:
    kept = {
        strategy: [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"seed-*/trained-on-{strategy}.json"))]
        for strategy in ("focal", "refresh")
    }
    rows = {row.title.partition(":")[0]: row for row in script["show"].__globals__["rows_of_models"](kept)}
    means = {title: f"{sum(row.lost) / len(row.lost):.1f} %" for title, row in rows.items()}
    claim = f"breaks {means['focal']}, as many steps without it {means['control']}, the plain update "
    claim += f"{means['plain update']}, refresh {means['refresh']}"
    assert len(kept["focal"]) == 3 and "three seeds" in README and claim in README


def test_the_card_of_the_language_model_is_of_another_run_than_the_results() -> None:
    card = AdapterCard.read(ROOT / "model_cards" / "smollm2-massive-domains")
    assert card is not None
    kept = json.loads((RESULTS / "seed-0" / "trained-on-focal.json").read_text())["against"]
    lost = [compared.negative_flip_rate for compared in card.comparisons.values()]
    assert list(card.comparisons) == [card.plain_update, card.control, card.name_of_this]
    assert lost == [each["rates"]["negative_flip_rate"]["estimate"] for each in kept.values()]
