"""Finding adapters: the right ones, the best first, and nothing that stands on cards breaks it or the terminal."""

import io
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelInfo
from hypothesis import given, settings
from hypothesis import strategies as st
from local_hub import Fault, Hub, User, hub, run_client
from rich.cells import cell_len

from muscle_hf.cli import main
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.hub import find
from muscle_hf.hub.find import Figure, FoundAdapter, Measured, find_adapters

OLD, NEW = "org/base-v1", "org/base-v2"
TAGS = ["muscle", "compatibility-adapter", f"compatible-with:{OLD}"]


def _metric(kind: str, value: Any, **args: Any) -> dict[str, Any]:
    return {"type": kind, "value": value, "name": kind} | ({"args": args} if args else {})


def _index(*results: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    made = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": "The test set", "type": dataset, "split": "test"},
            "metrics": metrics,
        }
        for dataset, metrics in results
    ]
    return [{"name": "adapter", "results": made}]


def _info(index: Any, **fields: Any) -> ModelInfo:
    return ModelInfo(**{"id": "org/a", "tags": TAGS, "model-index": index} | fields)


# What a card says ----------------------------------------------------------------------------------------------------


def test_a_good_card_is_read_as_it_was_written() -> None:
    metrics = [
        _metric("accuracy", 0.8, n=500, level=0.95, low=0.7, high=0.9),
        _metric("negative_flip_rate", 0.02, n=500),
        _metric("negative_flip_rate_reduction", 0.031, n=500, level=0.9, low=0.012, high=0.05),
        _metric("positive_flip_rate", 0.1),
    ]
    tags = [*TAGS, f"base_model:{NEW}", f"base_model:adapter:{NEW}", "dataset:org/data"]
    found = find._adapter(_info(_index(("org/data", metrics)), tags=tags, downloads=7, gated="auto"), None)
    assert found == FoundAdapter(
        name="org/a",
        base_model=NEW,
        compatible_with=(OLD,),
        task=None,
        datasets=("org/data",),
        measured=(
            Measured(
                dataset="org/data",
                split="test",
                nfr_reduction=Figure(0.031, 0.012, 0.05, 0.9, 500),
                nfr=Figure(0.02, n=500),
                accuracy=Figure(0.8, 0.7, 0.9, 0.95, 500),
            ),
        ),
        downloads=7,
        last_modified=None,
        commit=None,
        gated=True,
        private=False,
    )
    assert found.nfr_reduction == 0.031


@pytest.mark.parametrize(
    "value",
    ["0.5", True, None, math.nan, math.inf, -math.inf, 1.0001, -2, 10**400, [0.5], {"value": 0.5}, "9" * 100_000],
)
def test_what_cannot_be_a_reduction_is_no_figure(value: Any) -> None:
    found = find._adapter(_info(_index(("d", [_metric("negative_flip_rate_reduction", value)]))), None)
    assert found.measured == ()
    assert math.isnan(found.nfr_reduction)


@pytest.mark.parametrize(
    "args",
    [
        {"low": 0.4, "high": 0.45},
        {"low": 0.6, "high": 0.4},
        {"low": math.nan, "high": 0.6},
        {"low": 0.1},
        {"low": "0.1", "high": "0.9"},
    ],
)
def test_an_interval_that_does_not_hold_its_value_is_none(args: dict[str, Any]) -> None:
    metric = _metric("negative_flip_rate_reduction", 0.5, n=3, level=0.95, **args)
    found = find._adapter(_info(_index(("d", [metric]))), None)
    assert found.measured[0].nfr_reduction == Figure(0.5, n=3)


def test_an_interval_that_was_rounded_past_its_value_is_kept() -> None:
    found = find._adapter(_info(_index(("d", [_metric("accuracy", 0.0, low=1e-17, high=0.2)]))), None)
    assert found.measured[0].accuracy == Figure(0.0, 1e-17, 0.2)


@pytest.mark.parametrize("n", [0, -1, 1.5, math.nan, True, "7", 10**30, None])
def test_a_number_of_instances_that_cannot_be_one_is_none(n: Any) -> None:
    found = find._adapter(_info(_index(("d", [_metric("accuracy", 0.5, n=n)]))), None)
    assert found.measured[0].accuracy == Figure(0.5)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "results", "dataset", "metrics", "type", "value", "args", "low", "high", "n"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(index=_ANYTHING, tags=_ANYTHING, entry=_ANYTHING)
def test_no_model_index_and_no_tags_break_the_search(index: Any, tags: Any, entry: Any) -> None:
    for each in (index, [index], [{"results": index}], [{"results": [entry]}], _index(("d", [entry]))):
        found = find._adapter(_info(each, tags=tags), None)
        assert all(-1 <= one.nfr_reduction.value <= 1 for one in found.measured if one.nfr_reduction)


def test_the_figures_of_the_asked_data_set_come_before_others() -> None:
    one, two = (_metric("negative_flip_rate_reduction", value) for value in (0.5, 0.1))
    index = _index(("org/one", [one]), ("org/two", [two]))
    assert find._adapter(_info(index), None).nfr_reduction == 0.5
    assert find._adapter(_info(index), "org/two").nfr_reduction == 0.1
    # Trained on it, measured on others: what there is.
    assert find._adapter(_info(index), "org/three").nfr_reduction == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_model": "a b"}, "base_model is 'a b'"),
        ({"compatible_with": "/home/ann/base"}, "compatible_with is"),
        ({"dataset": "x" * 1000}, "dataset is"),
        ({"base_model": "\x1b[2J"}, "an id of the Hub is needed"),
        ({"base_model": "a,b"}, "an id of the Hub is needed"),
        ({"task": " "}, "task is"),
        ({"task": "a\nb"}, "task is"),
    ],
)
def test_a_name_that_is_none_is_refused_before_the_hub_is_asked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        find_adapters(**options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_limit_that_shows_nothing_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit is"):
        find_adapters(limit=limit)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_narrow_terminal_loses_columns_but_no_names_and_no_reductions(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    metrics = [_metric(kind, 0.02, n=500, low=0, high=0.1) for kind in find._RANGES]
    tags = [*TAGS, f"base_model:adapter:{NEW}"]
    names = ["org/a-rather-long-name-of-r16", "org/b"]
    made = [find._adapter(_info(_index(("org/data", metrics)), id=name, tags=tags), None) for name in names]
    monkeypatch.setattr("muscle_hf.hub.find.find_adapters", lambda *_, **__: made)
    with redirect_stdout(io.StringIO()) as out:
        assert main(["find"]) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(len, text.splitlines())) <= width
    for name in names:
        line = next(line for line in text.splitlines() if name in line)
        assert "+2.0 [+0.0, +10.0]" in line
    assert ("A wider terminal" in text) == (width < 200)
    assert ("downloads" in text, "old" in text) == (False, width == 200)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("org\u200b/\u200eba\u00adse\ufeff", "org/base"),
        ("a" + "\u0301" * 50 + "b", "áb"),
        ("e\u20dd", "e"),
        # Written in two characters, as some systems do.
        ("re\u0301sume\u0301", "résumé"),
        ("数据 набор", "数据 набор"),
    ],
)
def test_characters_without_width_do_not_shift_the_columns(
    monkeypatch: pytest.MonkeyPatch, text: str, shown: str
) -> None:
    metric = _metric("negative_flip_rate_reduction", 0.5, n=3)
    made = [find._adapter(_info(_index((name, [metric]))), None) for name in (text, "org/data")]
    monkeypatch.setattr("muscle_hf.hub.find.find_adapters", lambda *_, **__: made)
    with redirect_stdout(io.StringIO()) as out:
        assert main(["find"]) == 0
    lines = out.getvalue().splitlines()
    assert shown in lines[1]
    assert not [one for one in out.getvalue() if unicodedata.category(one) in ("Cf", "Mn", "Me")]
    assert len({_cells_before(OLD, line) for line in lines[1:3]}) == 1


def _cells_before(text: str, line: str) -> int:
    return cell_len(line[: line.index(text)])


# On a Hub ------------------------------------------------------------------------------------------------------------

CLIENT = """
import contextlib, io, json, sys, time
from muscle_hf.cli import main

time.sleep = lambda seconds: None  # The client waits for 23 seconds before it says that there is no network.

done = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["find", *words])
    done.append([code, out.getvalue(), err.getvalue()])
assert "torch" not in sys.modules
print(json.dumps(done))
"""
HOSTILE_CARDS = [
    "---\nmodel-index: 7\n",
    "---\nmodel-index: [{results: {}}]\n",
    "---\nmodel-index: [[[]], 1, null, {results: [1, {metrics: 3}, {metrics: [null, {type: [], value: 1}]}]}]\n",
    "---\nmodel-index: [{results: [{metrics: [{type: negative_flip_rate_reduction, value: .nan}]}]}]\n",
    "---\nmodel-index: [{results: [{metrics: [{type: negative_flip_rate_reduction, value: 1.0e+999}]}]}]\n",
    "---\nmodel-index: [{results: [{metrics: [{type: negative_flip_rate_reduction, value: '99 %'}]}]}]\n",
    "---\nignore_metadata_errors: 1\nself: 2\nmodel_name: [1]\n",
    "---\npipeline_tag: [a, b]\nlicense: {a: b}\nlanguage: 7\n",
]


def _card(reduction: float | None, *, old: str = OLD, new: str = NEW, **fields: Any) -> dict[str, bytes]:
    data: dict[str, Any] = {
        "base_model": new,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "datasets": ["org/data"],
        "tags": ["muscle", "compatibility-adapter", f"compatible-with:{old}"],
    }
    if reduction is not None:
        metrics = [
            _metric("accuracy", 0.8, n=500),
            _metric("negative_flip_rate", 0.02, n=500),
            _metric("negative_flip_rate_reduction", reduction, n=500, level=0.95, low=-0.1, high=0.2),
        ]
        data["model-index"] = _index(("org/data", metrics))
    return {"README.md": f"---\n{yaml.safe_dump(data | fields)}---\n# A card\n".encode()}


@pytest.fixture(scope="module")
def shop() -> Iterator[Hub]:
    with hub(tokens={"token-of-ann": User("ann", orgs=("org",))}) as running:
        running.page_size = 2  # The best one is on the last page.
        running.create("org/small", files=_card(0.01))
        running.create("org/worse", files=_card(-0.02))
        running.create("org/unmeasured", files=_card(None))
        running.create("org/of-another-old-base", files=_card(0.15, old="org/base-v0"))
        running.create("org/of-another-new-base", files=_card(0.14, new="org/base-v3"))
        running.create("org/classifier", files=_card(0.13, pipeline_tag="text-classification", datasets=["org/other"]))
        running.create("org/secret", files=_card(0.1), private=True)
        running.create("org/closed", files=_card(0.02), gated=True)
        running.create("org/no-adapter-of-ours", files=_card(0.19, tags=["lora"]))
        running.create("org/best", files=_card(0.12))
        yield running


def _ask(running: Hub, home: Path, *asked: list[str], token: str | None = None) -> list[tuple[int, str, str]]:
    done = run_client(CLIENT, running, home=home, token=token, arguments=(json.dumps(asked),))
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def _names(result: tuple[int, str, str]) -> list[str]:
    code, out, err = result
    assert (code, err) == (0, "")
    return [one["name"].removeprefix("org/") for one in json.loads(out)]


@pytest.mark.slow
def test_adapters_are_found_by_what_their_cards_name_best_first(shop: Hub, tmp_path: Path) -> None:
    both = ["--compatible-with", OLD, "--base-model", NEW]
    generation = ["--task", "text-generation"]
    asked = [
        [*both, "--json"],
        [*both, *generation, "--json"],
        [*both, *generation, "--limit", "2", "--json"],
        ["--compatible-with", "org/base-v0", "--json"],
        ["--base-model", "org/base-v3", "--json"],
        ["--dataset", "org/other", "--json"],
        ["--compatible-with", "org/never", "--json"],
        [*both, *generation],
        ["--compatible-with", "org/never", "--base-model", NEW],
    ]
    results = _ask(shop, tmp_path, *asked)
    assert [_names(one) for one in results[:7]] == [
        ["classifier", "best", "closed", "small", "worse", "unmeasured"],
        ["best", "closed", "small", "worse", "unmeasured"],
        ["best", "closed"],
        ["of-another-old-base"],
        ["of-another-new-base"],
        ["classifier"],
        [],
    ]
    code, out, err = results[7]
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:5] == ["adapter", "NFR", "reduction,", "pp", "NFR,"]
    assert lines[1][:8] == ["org/best", "+12.0", "[-10.0,", "+20.0]", "2.0", "80.0", "500", "org/data"]
    assert lines[2][:3] == ["org/closed", "(gated)", "+2.0"]
    assert lines[5][:2] == ["org/unmeasured", "-"]
    assert "the card's 95 % interval" in out
    assert "nobody else has checked them" in out
    code, out, err = results[8]
    assert code == 0
    assert "No adapter" in out
    assert f"Leave out one of --base-model {NEW}, --compatible-with org/never to see more" in out


@pytest.mark.slow
def test_private_adapters_are_for_those_who_may_see_them(shop: Hub, tmp_path: Path) -> None:
    asked = ["--compatible-with", OLD, "--json"]
    assert "secret" in _names(_ask(shop, tmp_path, asked, token="token-of-ann")[0])  # noqa: S106 - of the local Hub


@pytest.mark.slow
def test_hostile_cards_neither_break_the_search_nor_steer_the_terminal(tmp_path: Path) -> None:
    nasty = "\x1b[2J\x9b31m\u202e[red]x[/red]\r\n" + "y" * 100_000
    with hub() as running:
        for number, text in enumerate(HOSTILE_CARDS):
            tags = yaml.safe_dump({"tags": TAGS})
            running.create(f"org/hostile-{number}", files={"README.md": f"{text}{tags}---\n".encode()})
        index = _index((nasty, [_metric("negative_flip_rate_reduction", 0.5, low=0, high=1, level=0.95)]))
        index[0]["results"][0]["dataset"]["split"] = nasty
        card = _card(None, old=nasty, new=nasty, pipeline_tag=nasty, **{"model-index": index})
        running.create("org/nasty", files=card)
        running.create("org/good", files=_card(0.1))
        as_json, as_table = _ask(running, tmp_path, ["--json"], [])
    found = _names(as_json)
    assert found[:2] == ["nasty", "good"]
    assert sorted(found[2:]) == [f"hostile-{number}" for number in range(len(HOSTILE_CARDS))]
    assert as_json[1].isascii()
    code, out, err = as_table
    assert (code, err) == (0, "")
    assert all(character.isprintable() for character in out.replace("\n", ""))
    assert "[red]x[/red]" in out
    assert max(map(len, out.splitlines())) < 800
    assert len(out.splitlines()) < 20


@pytest.mark.slow
def test_what_goes_wrong_is_told_apart_in_one_line(shop: Hub, tmp_path: Path) -> None:
    asked = ["--compatible-with", OLD]
    wrong = "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    refused = _ask(shop, tmp_path, asked, token=wrong)[0]
    shop.fault(Fault(status=429, path="/api/models", times=None, message="slow down"))
    limited = _ask(shop, tmp_path, asked)[0]
    shop.clear_faults()
    # In the middle of the list: nothing is better than a part of it.
    shop.fault(Fault(status=500, path="cursor", times=None))
    broken = _ask(shop, tmp_path, [*asked, "--json"])[0]
    shop.clear_faults()
    with hub() as gone:
        pass
    unreachable = _ask(gone, tmp_path, asked)[0]
    for (code, out, err), words in (
        (refused, "the token is wrong"),
        (limited, "too many requests (429)"),
        (broken, "failure of its own (500)"),
        (unreachable, "cannot be reached"),
    ):
        assert code == 2
        assert out == ""
        *before, last = err.splitlines()
        assert last.startswith("muscle-hf find: could not search the Hub for adapters: ")
        assert words in last
        assert wrong not in err
        # What the client says of its own accord while it tries again.
        assert all("etry" in line or "thrown while requesting" in line for line in before), before
