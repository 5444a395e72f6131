"""A search over options of the method: the grid, the choice by validation rows alone, and one that is interrupted."""

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_updates import ROWS, Update, make_update

import muscle_hf.update.run as running
from muscle_hf import CompatibilityConfig
from muscle_hf.cli import main
from muscle_hf.errors import ConfigurationError
from muscle_hf.flips.rates import strict_json
from muscle_hf.update.options import read_options
from muscle_hf.update.plan import Plan, make_plan
from muscle_hf.update.search import (
    _NOT_SEARCHED,
    _SEARCHED,
    Choice,
    Figures,
    choose,
    entries_of,
    read_grid,
)
from muscle_hf.update.searching import hand_on

KNOWN = {*_SEARCHED, *_NOT_SEARCHED, "logging_steps"}


# The grid


@pytest.mark.parametrize(
    ("given", "grid"),
    [
        (["temperature=1,2"], {"temperature": (1.0, 2.0)}),
        (["--cross-entropy-weight=0,5e-1", "mask=none"], {"cross_entropy_weight": (0.0, 0.5), "mask": ("none",)}),
        ({"temperature": [1, 2], "mask": "none"}, {"temperature": (1.0, 2.0), "mask": ("none",)}),
        ({"scale_by_temperature_squared": [True, False]}, {"scale_by_temperature_squared": (True, False)}),
        ({"learning_rate": ["1e-4", 0.00025]}, {"learning_rate": (1e-4, 2.5e-4)}),
        ("teacher=old,new", {"teacher": ("old", "new")}),
        ([], {}),
    ],
)
def test_a_grid_is_the_same_from_a_command_line_and_from_a_file(given: Any, grid: dict[str, Any]) -> None:
    assert read_grid(entries_of(given), KNOWN) == grid


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["temperature"], "'temperature' names no values; write option=value,value without spaces"),
        (["temperature=1,", "2"], "a value of temperature is ''; a number is needed. Write values with commas"),
        (["temperature=1,nan"], "a value of temperature is 'nan'"),
        (["temperature=1,2,1.0"], "temperature=1 stands there twice"),
        (["temperature=1", "temperature=2"], "write all of its values behind one temperature="),
        (["temprature=1,2"], "there is no option temprature. Did you mean temperature?"),
        (["zzz=1,2"], "there is no option zzz. Choose from cross_entropy_weight, divergence"),
        (["seed=1,2"], "seed cannot be searched: the luckiest seed would win"),
        (["max_steps=1,2"], "max_steps cannot be searched: candidates of different length"),
        (["logging_steps=1,2"], "logging_steps cannot be searched: it does not belong to the method"),
        (["scale_by_temperature_squared=1,0"], "true or false is needed"),
        (["mask="], "a value of mask is ''; a name is needed"),
        (["temperature=1", "mask=none"], "one combination is no search; give --temperature 1 --mask none without"),
        ({"temperature": {"from": 1}}, "temperature is an array; a list of values is needed"),
        ({"temperature": [None, 1]}, "a list of values is needed"),
    ],
)
def test_a_grid_that_means_nothing_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_grid(entries_of(given), KNOWN)


def test_options_that_can_be_searched_or_are_named_with_a_reason_exist() -> None:
    assert {*_SEARCHED, *_NOT_SEARCHED} <= {*CompatibilityConfig.__dataclass_fields__}


# The choice


def _figures(right: int, lost: int, *, of: int = 20, old: int = 12) -> Figures:
    """Work out the figures by hand: so many right, and so many negative flips."""
    wrong = of - right
    relative = math.nan if not old or not wrong else (lost / of) / (old / of * (wrong / of))
    return Figures(right / of, lost / of, relative)


@settings(max_examples=60, deadline=None)
@given(
    candidates=st.lists(
        st.integers(0, 20).flatmap(lambda right: st.tuples(st.just(right), st.integers(0, 20 - right)))
    ),
    bound=st.integers(0, 20),
    old=st.sampled_from([0, 12]),
)
def test_the_choice_is_below_the_bound_only_where_all_are_and_no_other_breaks_relatively_less(
    candidates: list[tuple[int, int]], bound: int, old: int
) -> None:
    figures = [_figures(right, lost if old else 0, old=old) for right, lost in candidates or [(3, 1)]]
    chosen, reached = choose(figures, bound / 20)
    fit = [number for number, each in enumerate(figures) if each.accuracy >= bound / 20]
    assert reached == bool(fit)
    if not fit:
        best = max(each.accuracy for each in figures)
        assert chosen == min(number for number, each in enumerate(figures) if each.accuracy == best)
        return

    def lost(number: int) -> float:
        relative = figures[number].relative_negative_flip_rate
        return 0 if math.isnan(relative) else relative

    assert chosen == next(number for number in fit if all(lost(number) <= lost(other) for other in fit))


def test_what_is_undefined_is_a_model_without_flips_and_stays_undefined_in_figures() -> None:
    candidates = [({"temperature": 1.0}, _figures(18, 1)), ({"temperature": 2.0}, _figures(20, 0))]
    choice = Choice.of(20, _figures(15, 2), candidates)
    assert (choice.values, choice.reached) == ({"temperature": 2.0}, True)
    assert str(candidates[1][1]) == "accuracy 100.0 %, NFR 0.0 %, relative NFR undefined"
    text = strict_json(choice.as_dict())
    assert json.loads(text)["candidates"][1]["relative_negative_flip_rate"] is None
    again = Choice.read(text)
    assert strict_json(again.as_dict()) == text and again.sentence() == choice.sentence()
    assert choice.sentence() == (
        "a search chose temperature=2 among 2 candidates by their answers to 20 validation rows: the lowest relative "
        "NFR of all that are as accurate as the plain update (75.0 %) or more"
    )
    none = Choice.of(20, _figures(19, 2), [candidates[0], ({"temperature": 3.0}, _figures(17, 0))])
    assert (none.values, none.reached) == ({"temperature": 1.0}, False)
    assert "none is as accurate as the plain update (95.0 %), so the most accurate one was taken" in none.sentence()


# The command


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    made = make_update(tmp_path_factory.mktemp("update"))
    for name, rows in (("data", ROWS), ("prompts", [{"prompt": f"what else, number {n}?\n"} for n in range(4)])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (made.folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return made


def _words(update: Update, out: Path, *more: str) -> list[str]:
    folder = update.folder
    return [
        *("--old-adapter", str(folder / "task-v1"), "--old-base", str(folder / "base-v1")),
        *("--new-base", str(folder / "base-v2"), "--new-adapter", str(folder / "task-v2"), "--no-control"),
        *("--dataset", str(folder / "data.jsonl"), "--validation-share", "0.25", "--output-dir", str(out)),
        *("--max-steps", "2", "--use-cpu", "true", *more),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["temperature=1,0"], "search: temperature=0 is refused: temperature=0.0 must be a positive number"),
        (
            ["jensen_shannon_beta=0.3,0.5", "temperature=1,2"],
            "search: jensen_shannon_beta=0.3, temperature=1 is refused: jensen_shannon_beta=0.3 would be ignored",
        ),
        (["mask=none,nobody"], "search: mask=nobody is refused: mask='nobody' is unknown"),
        (["temperature=1,2", "--temperature", "3"], "temperature=3.0 would do nothing: the search tries 1, 2."),
        (["temperature=1,2", "--validation-share", "0"], "search chooses by the validation rows"),
        (["unlabelled_ratio=1,2"], "search: unlabelled_ratio=1 is refused: unlabelled_ratio=1.0 would be ignored"),
    ],
)
def test_what_no_candidate_can_be_trained_with_is_refused_before_any_is(
    update: Update, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make_plan(read_options(_words(update, tmp_path / "out", "--search", *words)))
    assert not (tmp_path / "out").exists()


def test_a_file_of_options_may_have_a_search_as_a_mapping(update: Update, tmp_path: Path) -> None:
    file = tmp_path / "update.yaml"
    file.write_text("search: {temperature: [1, 2.5], mask: none}", encoding="utf-8")
    options = read_options(_words(update, tmp_path, "--config", str(file)))
    assert options.grid == {"temperature": (1.0, 2.5), "mask": ("none",)}


def test_a_candidate_keeps_what_a_preset_says_but_for_what_is_searched(update: Update, tmp_path: Path) -> None:
    words = ["--preset", "product", "--unlabelled-dataset", str(update.folder / "prompts.jsonl")]
    words += ["--focal-beta", "5", "--search", "temperature=1,2", "learning_rate=1e-3,1e-4"]
    words = [
        word
        for word in _words(update, tmp_path, *words)
        if word not in ("--new-adapter", str(update.folder / "task-v2"))
    ]
    options = read_options(words)
    # The default, 2.0, which a preset would take for not given.
    candidate = options.with_values({"temperature": 2.0, "learning_rate": 1e-3})
    config = candidate.compatibility_config(tmp_path)
    assert (config.temperature, config.mask, config.teacher) == (2.0, "none", "new")
    assert (config.unlabelled_teacher, config.focal_beta, config.learning_rate) == ("product", 5.0, 1e-3)
    # All start from one task adapter.
    assert candidate.settings.task_learning_rate == 1e-4


def test_a_candidate_begins_with_the_answers_to_prompts_of_the_one_before_it(tmp_path: Path) -> None:
    answers = tmp_path / "first" / "unlabelled_answers" / "old-abc" / "answers.jsonl"
    answers.parent.mkdir(parents=True)
    answers.write_text("kept\n", encoding="utf-8")
    folders = [tmp_path / "first", tmp_path / "second", tmp_path / "third"]
    for folder in folders[:2]:
        hand_on(folders, folder)
    copied = tmp_path / "second" / answers.relative_to(tmp_path / "first")
    assert copied.read_text("utf-8") == "kept\n"
    # Its own ones, of a candidate that was interrupted, stay.
    copied.write_text("its own\n", encoding="utf-8")
    hand_on(folders, folders[1])
    assert copied.read_text("utf-8") == "its own\n"


def _canned(right: dict[str, tuple[int, ...]], asked: list[str]) -> Any:
    """Answer in a model's place: these rows right."""

    def write(plan: Plan, adapter: str, path: Path, *, old: bool, questions: Sequence[Any], **_: Any) -> None:
        is_validation = path.parent.parent.name == "search"
        assert questions is (plan.data.validation if is_validation else plan.data.test)
        asked.append(f"{path.parent.parent.name if is_validation else 'test'} {path.stem}")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"id": number, "question": "?", "prediction": "a" if number in right[path.stem] else "b", "reference": "a"}
            for number in range(4)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return write


@pytest.mark.slow
def test_a_search_that_is_interrupted_trains_nothing_twice_and_its_choice_goes_on_with_its_figures(
    update: Update, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked, trained = tmp_path / "out", list[str](), list[str]()
    # The first candidate has the lowest relative NFR and is less accurate than the plain update; the others are equal.
    right = {"old": (0, 1, 2), "new": (0, 1), "temperature=1": (2,), "as-given": (0, 3), "temperature=4": (0, 1, 3)}
    right |= {"temperature=3": (0, 1, 2), "compatibility": (0, 1)}
    original = running.train_compatibility_adapter

    def train(plan: Plan, folder: Path, new_adapter: str) -> None:
        if len(trained) == 1:
            trained.append("interrupted")
            raise KeyboardInterrupt
        original(plan, folder=folder, new_adapter=new_adapter)
        trained.append(folder.name)

    monkeypatch.setattr(running, "train_compatibility_adapter", train)
    monkeypatch.setattr(running, "write_answers", _canned(right, asked))
    words = ["update", *_words(update, out, "--search", "temperature=1,2,4")]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "search: 3 candidates, of which 3 validation rows choose one: temperature 1, 2, 4" in shown
    assert "candidate temperature=1: 2 steps" in shown
    assert "the search: 3 trainings, 6 steps in all, the time of 3 compatibility trainings without it" in shown
    assert not out.exists()

    assert main(words) == 130
    assert "candidate temperature=1, finished; the validation answers of candidate temperature=1, finished" in (
        capsys.readouterr().err
    )
    assert main([*words, "--dry-run"]) == 0
    assert "the search: 2 trainings, 4 steps in all" in capsys.readouterr().out
    assert main(words) == 0
    assert trained == ["temperature=1", "interrupted", "as-given", "temperature=4"]
    assert asked.count("search old") == 1 and asked[-1] == "test compatibility" and len(asked) == len(set(asked))
    chosen = json.loads((out / "search.json").read_text("utf-8"))
    assert (chosen["chosen"], chosen["reaches_the_plain_update"], chosen["validation_rows"]) == (1, True, 3)
    assert json.loads((out / "comparison.json").read_text("utf-8"))["search"] == chosen
    weights = [load_file(out / name / "adapter_model.safetensors") for name in ("search/as-given", "adapter")]
    assert all(bool((weights[0][key] == weights[1][key]).all()) for key in weights[0])
    printed, page = capsys.readouterr().out, (out / "report.html").read_text("utf-8")
    card = (out / "adapter" / "README.md").read_text("utf-8")
    sentence = "search chose temperature=2 among 3 candidates by their answers to 3 validation rows: the lowest"
    for text in (printed, page, card):
        assert sentence in text and "flips of the chosen candidate are optimistic" in text
    assert re.search(r"temperature=2 \(chosen\) +50\.0 +50\.0 +1\.33", printed)
    assert "- validation of temperature=1: accuracy 25.0 %, NFR 50.0 %, relative NFR 0.89" in card
    assert "on the validation rows, plain update: accuracy 50.0 %, NFR 25.0 %, relative NFR 0.67" in page

    # The candidates are not needed any more, and without them the same command has nothing to do.
    shutil.move(out / "search", tmp_path / "aside")
    assert main(words) == 0
    assert len(trained) == 4
    capsys.readouterr()
    shutil.move(tmp_path / "aside", out / "search")
    # Without the search, or with other options for all, it is another update.
    for other in (words[: words.index("--search")], [*words, "--focal-beta", "5"]):
        assert main(other) == 2
        assert "holds another update" in capsys.readouterr().err
    # A candidate more is trained alone, and takes the place of the one chosen before.
    assert main([*words, "--search", "temperature=1,2,4,3"]) == 0
    assert trained[4:] == ["temperature=3"] and asked[-2:] == ["search temperature=3", "test compatibility"]
    assert "made anew, because the search has chosen another candidate than before" in capsys.readouterr().out
    assert main([*words, "--search", "temperature=1,2,4,3", "--dry-run"]) == 0
    assert "the compatibility adapter: finished before" in capsys.readouterr().out
