"""The model card: only what is known, never a path of this machine, and nothing in it that hostile text can break."""

import ast
import re
import time
from dataclasses import replace
from email.message import Message
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from peft import LoraConfig, get_peft_model
from tiny_classifiers import tiny_classifier
from tiny_models import tiny_tokenizer
from tiny_updates import make_update, trainer_of
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

import muscle_hf
from muscle_hf.card import AdapterCard, check
from muscle_hf.card.lineage import Lineage
from muscle_hf.flips.comparison import Comparison, compare
from muscle_hf.losses.strategy import Strategy
from muscle_hf.publishing.card_of_trainer import _kept, card_of_trainer, task_of
from muscle_hf.publishing.training_time import TrainingTime
from muscle_hf.runs.outcomes import Instance
from muscle_hf.runs.report import header, table_rows
from muscle_hf.version import homepage, library_versions

MARKDOWN = MarkdownIt("commonmark").enable("table")
MODEL_CARDS = Path(__file__).parents[2] / "model_cards"
NOTHING = Lineage(new_base=None, new_adapter=None, old_base=None, old_adapter=None)
KNOWN = Lineage(
    new_base="org/base-v2", new_adapter="org/task-on-v2", old_base="org/base-v1", old_adapter="org/task-on-v1"
)
HOSTILE = [
    "---",
    "x\n---\ny",
    "x\n\n---\nbase_model: evil/model\n---\n",
    "a|b",
    "<script>alert(1)</script>",
    "</td></table>",
    "x: [y, {z",
    "$$x$$ \\(y\\) \\[z\\]",
    "````\n~~~\n```text",
    "=/" * 50_000,
    "word " * 20_000,
    "'\"",
    "{{ card_data }}{% raw %}",
    "```\ncode\n```",
    "# heading\n## Measured",
    "[x](javascript:alert(1))",
    "%TAG",
    "!!python/object:os.system",
    "&anchor *alias",
    "\x00\x1b\ud800\u2028",
]


def _card(**fields: Any) -> AdapterCard:
    return AdapterCard(**({"title": "my adapter", "lineage": KNOWN, "adapter_type": "lora", "training": {}} | fields))


def _split(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and body, as the Hub takes them apart."""
    assert text.startswith("---\n")
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    data = yaml.safe_load(front)
    assert isinstance(data, dict)
    return data, body


def _headings(body: str) -> list[str]:
    tokens = MARKDOWN.parse(body)
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]


def _comparison(n: int = 8) -> Comparison:
    return compare(old=list("aabbabaa")[:n], new=list("aabcbaaa")[:n], references=["a"] * n)


def _instance(text: str) -> Instance:
    return Instance(text, text, "negative_flip", text, text, text, text, 1.0, 0.0, {text: text})


# Front matter --------------------------------------------------------------------------------------------------------


def test_the_front_matter_says_all_that_is_known() -> None:
    text = _card(license="apache-2.0", dataset="org/banking", tags=("banking", "lora")).render()
    data, _ = _split(text)
    assert data == {
        "base_model": "org/base-v2",
        "base_model_relation": "adapter",
        "datasets": ["org/banking"],
        "library_name": "peft",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": [
            "muscle",
            "compatibility-adapter",
            "trl",
            "lora",
            "base_model:adapter:org/base-v2",
            "compatible-with:org/base-v1",
            "banking",
        ],
    }
    # Nor does the Hub's own reader see anything else.
    assert ModelCard(text).data.to_dict() == data


def test_what_is_not_known_stays_out_of_the_front_matter() -> None:
    data, _ = _split(_card(lineage=NOTHING).render())
    assert data == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["muscle", "compatibility-adapter", "trl", "lora"],
    }


@pytest.mark.parametrize(
    "dataset", ["CLINC150", "CLINC150 (CC BY 3.0), 15,000 utterances", "gsm8k", "a/b/c", "org/", "https://x.org/y"]
)
def test_a_data_set_in_words_is_not_passed_off_as_one_on_the_hub(dataset: str) -> None:
    data, body = _split(_card(dataset=dataset).render())
    assert "datasets" not in data
    assert f"Data: {dataset}." in body


# The body ------------------------------------------------------------------------------------------------------------


def test_every_section_is_there_when_all_is_known() -> None:
    text = _card(comparisons={"new": _comparison()}, training={"seed": 0}, dataset="org/d").render()
    assert _headings(_split(text)[1]) == [
        "my adapter", "Lineage", "Measured", "How to load", "Training", "Limits", "Citation",
    ]  # fmt: skip


def test_sections_without_content_are_left_out() -> None:
    assert _headings(_split(_card().render())[1]) == ["my adapter", "Lineage", "How to load", "Limits", "Citation"]


def test_the_lineage_names_old_and_new_model() -> None:
    body = _split(_card().render())[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.split("\n") if line.startswith("| ")]
    hub = "https://huggingface.co"
    assert rows[1:4] == [
        ["old model", f"[org/base-v1]({hub}/org/base-v1)", f"[org/task-on-v1]({hub}/org/task-on-v1)"],
        ["new model", f"[org/base-v2]({hub}/org/base-v2)", f"[org/task-on-v2]({hub}/org/task-on-v2)"],
        ["**this adapter**", f"[org/base-v2]({hub}/org/base-v2)", "started as a copy of the new model's"],
    ]


def test_a_commit_is_linked_and_any_other_revision_is_only_shown() -> None:
    lineage = replace(KNOWN, new_base_revision="ab" * 20, old_base_revision="v1|2", new_adapter_revision="")
    body = _split(_card(lineage=lineage).render())[1]
    assert f"[org/base-v2](https://huggingface.co/org/base-v2/tree/{'ab' * 20}) at abababa |" in body
    assert r"[org/base-v1](https://huggingface.co/org/base-v1) at v1\|2 |" in body
    assert 'from_pretrained("org/base-v2", revision="' + "ab" * 20 + '")' in body


def test_the_revision_of_a_local_model_is_not_printed() -> None:
    lineage = Lineage(None, None, None, None, new_base_revision="ab" * 20, old_base_revision="ab" * 20)
    assert "abab" not in _card(lineage=lineage).render()


def test_the_measured_table_holds_the_figures_of_the_comparisons() -> None:
    comparisons = {"plain | update": _comparison(), "compatibility adapter": _comparison()}
    body = _split(_card(comparisons=comparisons, split="the test set of X").render())[1]
    assert "\nOn the test set of X, n = 8.\n" in body
    assert "compared with the old model, whose accuracy is 62.5 %." in body
    table = body.split("intervals.\n\n")[1].split("\n\n")[0].split("\n")
    expected = table_rows(comparisons)
    expected[1][0] = "compatibility adapter (this adapter)"
    old = ["old model", "62.5 [30.6, 86.3]", "", "", "", ""]
    for line, row in zip([table[0], *table[2:]], [header(), old, *expected], strict=True):
        assert line.replace("\\|", "\\") == "| " + " | ".join(str(cell).replace("|", "\\") for cell in row) + " |"


def test_comparisons_on_different_instances_do_not_share_one_n() -> None:
    body = _split(_card(comparisons={"a": _comparison(8), "b": _comparison(4)}, split="two sets").render())[1]
    assert not re.search(r"n = \d", body)
    assert "whose accuracy" not in body
    assert "\nOn two sets.\n" in body
    assert re.search(r"\| relative NFR ↓ \| n \| old model's accuracy, % \|\n", body)
    assert re.search(r"\| a \|.*\| 8 \| 62\.5 \[.*\] \|\n\| b \|.*\| 4 \| 50\.0 \[.*\] \|\n", body)


def test_figures_of_other_models_alone_are_not_passed_off_as_this_one() -> None:
    text = _card(comparisons={"plain update": _comparison()}).render()
    data, body = _split(text)
    assert "model-index" not in data
    assert "](quadrants.png)" not in body
    assert "this adapter)" not in body
    assert "breaks" not in body


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_blank_lines_stand_between_blocks_and_nowhere_twice(full: bool) -> None:
    fields = {
        "training": {"seed": 0, "mask": "x"},
        "dataset": "d",
        "split": "s",
        "comparisons": {"plain update": _comparison(), "compatibility adapter": _comparison()},
        "slices": {"topic": {"a": _comparison()}},
        "examples": (_instance("x"),),
        "caveats": ("a",),
        "has_picture": False,
    }
    for name in ("none", *fields):
        # With all fields but one, and with that one alone.
        chosen = {key: value for key, value in fields.items() if (key != name) == full}
        text = _card(**chosen).render()
        assert "\n\n\n" not in text
        assert text.endswith("```\n")
        assert not re.search(r"[ \t]+$", text, re.MULTILINE)
        for heading in re.findall(r"^#+ .*$", text, re.MULTILINE):
            assert f"\n\n{heading}\n\n" in text
        if "training" in chosen:
            assert "\n\n- seed: 0\n- mask: x\n\n## Limits" in text
        for block in text.split("\n\n"):
            assert block.strip()


def test_names_of_options_stay_readable() -> None:
    assert "- mask: student_wrong\n" in _card(training={"mask": "student_wrong"}).render()


# Hostile text --------------------------------------------------------------------------------------------------------


def _with(text: str) -> AdapterCard:
    return _card(
        title=text,
        adapter_type=text,
        training={text: text},
        comparisons={text: _comparison(), "plain update": _comparison()},
        name_of_this=text,
        slices={text: {text: _comparison()}},
        examples=(_instance(text),),
        split=text,
        dataset=text,
        repository=text,
        license=text,
        language=(text,),
        tags=(text,),
        evaluated_on=text,
        evaluated_split=text,
        caveats=(text,),
        lineage=Lineage(text, text, text, text, text, text, text, text),
    )


def _check_is_whole(text: str) -> None:
    data, body = _split(text)
    assert set(data) <= {
        *("base_model", "base_model_relation", "datasets", "language", "library_name", "license", "model-index"),
        *("pipeline_tag", "tags"),
    }
    assert data["library_name"] == "peft"
    assert len(data["tags"]) == len(ModelCard(text).data.tags)
    assert len(model_index_to_eval_results(data["model-index"])[1]) == 5
    tokens = MARKDOWN.parse(body)
    headings = ["Lineage", "Measured", "By slice", "Examples", "How to load", "Training", "Limits", "Citation"]
    assert _headings(body)[1:] == headings
    fences = [token.info for token in tokens if token.type == "fence"]
    assert fences[:4] == ["text"] * 4
    assert set(fences[4:-1]) == {"python"}
    assert fences[-1] == "bibtex"
    assert sum(token.type == "table_open" for token in tokens) == 4
    children = [child for token in tokens for child in token.children or []]
    assert not {token.type for token in tokens} & {"hr", "html_block", "code_block", "blockquote_open"}
    assert not {child.type for child in children} & {"html_inline", "code_inline"}
    # The picture, the two links of the template, and models of the Hub.
    assert [child.attrs["src"] for child in children if child.type == "image"] == ["quadrants.png"]
    links = [str(child.attrs["href"]) for child in children if child.type == "link_open"]
    assert len([link for link in links if not link.startswith("https://huggingface.co/")]) == 1
    assert "$$" not in re.sub(r"(`{3,})text\n.*?\n\1\n", "", body, flags=re.DOTALL)
    for token in tokens:
        if token.info == "python":
            ast.parse(token.content)
    text.encode()
    assert len(body) < 30_000


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_breaks_neither_front_matter_nor_sections(text: str) -> None:
    started = time.process_time()
    rendered = _with(text).render()
    assert time.process_time() - started < 5
    _check_is_whole(rendered)
    assert _split(rendered)[0].get("base_model") != "evil/model"
    fenced = r"(`{3,})text\n.*?\n\1\n"
    assert "<script" not in re.sub(fenced, "", _split(rendered)[1], flags=re.DOTALL)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(text=st.text(min_size=1) | st.text(st.sampled_from("-\n|<>`#[]()*_:'\"{}%~/\\. x"), min_size=1))
def test_no_text_whatever_breaks_a_card(text: str) -> None:
    _check_is_whole(_with(text).render())


# Files and trainers --------------------------------------------------------------------------------------------------


def test_a_card_is_written_whole_over_the_draft_of_another_library(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("draft", encoding="utf-8")
    path = _card(title="Größe ↓").write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "comparison.json"]
    assert path.read_text(encoding="utf-8") == _card(title="Größe ↓").render()


def test_versions_are_those_that_are_installed() -> None:
    import torch

    assert library_versions().startswith(f"muscle_hf {muscle_hf.__version__}, torch {torch.__version__.split('+')[0]}")
    assert re.fullmatch(r"\w+ [^ ,]+(, \w+ [^ ,]+){4}", library_versions())


def _time(seconds: float, since: int = 0) -> TrainingTime:
    time = TrainingTime()
    kept = {"TrainingTime": {"attributes": {"seconds": seconds, "since": since}}}
    time.take_up({"global_step": 12, "stateful_callbacks": kept})
    return time


def _trainer(**changes: Any) -> Any:
    """What a card reads of a trainer; a real one is trained in the tests of the trainer."""
    args = muscle_hf.CompatibilityConfig(output_dir="/home/somebody/my-adapter", use_cpu=True, bf16=False, seed=7)
    for name, value in changes.pop("args", {}).items():
        setattr(args, name, value)
    model = SimpleNamespace(
        active_peft_config=SimpleNamespace(peft_type=SimpleNamespace(value="LORA")), dtype=torch.float32
    )
    return SimpleNamespace(
        **{
            "args": args,
            "state": SimpleNamespace(global_step=12, log_history=[]),
            "callback_handler": SimpleNamespace(callbacks=[_time(400.0)]),
            "accelerator": SimpleNamespace(unwrap_model=lambda wrapped: wrapped, mixed_precision="no"),
            "unlabelled_rows": None,
            "model": model,
            "strategy": Strategy(focal_beta=5.0),
            "lineage": KNOWN,
            "comparisons": {"compatibility adapter": _comparison()},
            "hub_model_id": None,
        }
        | changes
    )


@pytest.mark.parametrize("mixed", ["no", "bf16", "fp16"])
def test_the_precision_that_a_launcher_chose_is_called_as_loaded(mixed: str) -> None:
    accelerator = SimpleNamespace(unwrap_model=lambda wrapped: wrapped, mixed_precision=mixed)
    shown = {"no": "as loaded (float32)"}.get(mixed, mixed)
    assert card_of_trainer(_trainer(accelerator=accelerator)).training["precision"] == shown


@pytest.mark.parametrize(
    ("rows", "ratio", "shown"),
    [
        ((1000, 1000), None, "1,000"),
        ((998, 1000), None, "998 an epoch, of 1,000"),
        ((12, 1000), 0.1, "12 an epoch, of 1,000 (0.1 for each labelled row)"),
        ((1500, 1000), 12.5, "1,500 an epoch, of 1,000 (12.5 for each labelled row)"),
    ],
)
def test_unlabelled_rows_that_were_passed_count_as_used(
    rows: tuple[int, int], ratio: float | None, shown: str
) -> None:
    trainer = _trainer(unlabelled_rows=rows, args={"unlabelled_ratio": ratio})
    assert card_of_trainer(trainer).training["unlabelled rows"] == f"{shown}, answered by the old model"


@pytest.mark.parametrize("urls", [[], ["Documentation, https://h.org/docs"], ["Repository, https://h.org/muscle"]])
def test_the_card_links_to_the_repository_only_where_the_package_names_one(
    urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = Message()
    for url in urls:
        metadata["Project-URL"] = url
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: metadata)
    monkeypatch.setattr("muscle_hf.card.rendering.homepage", homepage.__wrapped__)  # keeps what it found before
    text = _card().render()
    has_one = urls == ["Repository, https://h.org/muscle"]
    assert ("trained with [muscle_hf](https://h.org/muscle) after" in text) == has_one
    assert ("trained with muscle_hf after" in text) != has_one
    url = ",\n  url     = {https://h.org/muscle}" if has_one else ""
    assert text.endswith(f"  version = {{{muscle_hf.__version__}}}{url}\n}}\n```\n")
    assert "h.org/docs" not in text


@pytest.mark.slow
def test_the_whole_card_of_a_real_run(tmp_path: Path) -> None:
    update = make_update(tmp_path / "update")
    folder = tmp_path / "my-adapter"
    trainer = trainer_of(update, folder)
    trainer.train()
    for name, new in (
        ("plain update", "bbaa"),
        ("control: same steps more", "baab"),
        ("compatibility adapter", "aaab"),
    ):
        measured = compare(old=list("aaab"), new=list(new), references=list("aaaa"))
        trainer.add_comparison(name, measured, split="four questions")
    trainer.create_model_card(dataset_name="org/rows", license="apache-2.0", language="en")

    text = (folder / "README.md").read_text(encoding="utf-8")
    rounded = re.sub(r"\d+\.\d{6,}", lambda match: f"{float(match[0]):.6f}", text)
    expected = (Path(__file__).parents[1] / "data" / "card_of_a_tiny_run.md").read_text(encoding="utf-8")
    known = {
        "time": r"\d+ s",
        "versions": re.escape(library_versions()),
        "version": re.escape(muscle_hf.__version__),
    }
    pattern = re.escape(expected)
    for name, value in known.items():
        pattern = pattern.replace(f"<{name}>", value)
    assert re.fullmatch(pattern, rounded), rounded
    assert check(text) == []
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "comparison.json", "quadrants.png"]
    again = AdapterCard.read(folder)
    assert again is not None
    assert again.render() == text
    assert str(tmp_path) not in (folder / "comparison.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (BertForSequenceClassification, "text-classification"),
        (BertForTokenClassification, "token-classification"),
        (LlamaForSequenceClassification, "text-classification"),
        (LlamaForCausalLM, "text-generation"),
    ],
)
def test_the_task_is_the_one_of_the_model_below_the_adapter(kind: Any, task: str) -> None:
    model = tiny_classifier(1, tiny_tokenizer(), kind=kind)
    assert task_of(model) == task
    assert task_of(get_peft_model(model, LoraConfig(target_modules="all-linear"))) == task


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_classifier_is_not_said_to_come_from_trl_or_to_generate_text(task: str) -> None:
    text = _card(task=task).render()
    data, _ = _split(text)
    assert data["pipeline_tag"] == task
    assert "trl" not in data["tags"]
    assert "AutoModelForCausalLM" not in text


@pytest.mark.parametrize(
    ("seconds", "start", "shown"),
    [
        (3.2, 0, "3 s"),
        (400.0, 0, "7 min"),
        (9000.0, 0, "2.5 h"),
        (400.0, 50, "7 min, from step 50 on, where it was resumed"),
    ],
)
def test_the_time_of_a_resumed_run_is_not_passed_off_as_all_of_it(seconds: float, start: int, shown: str) -> None:
    handler = SimpleNamespace(callbacks=[_time(seconds, since=start)])
    assert card_of_trainer(_trainer(callback_handler=handler)).training["time"] == shown


def test_a_run_that_has_not_ended_has_no_time() -> None:
    handler = SimpleNamespace(callbacks=[TrainingTime()])
    assert "time" not in card_of_trainer(_trainer(callback_handler=handler)).training


def test_a_trainer_fills_in_what_really_happened() -> None:
    found = card_of_trainer(_trainer())
    assert (found.title, found.adapter_type, found.repository) == ("my-adapter", "lora", None)
    assert found.training["optimizer steps"] == 12
    assert found.training["seed"] == 7
    assert found.training["mask"] == "student_wrong"
    assert found.training["focal beta"] == 5.0
    assert "focal alpha" not in found.training, "a default that decides nothing"
    assert found.comparisons.keys() == {"compatibility adapter"}
    assert "somebody" not in found.render()


def test_what_the_user_says_goes_before_what_the_trainer_guesses() -> None:
    found = card_of_trainer(_trainer(), {"title": "Mine", "license": "mit", "dataset": None, "tags": ()})
    assert (found.title, found.license, found.dataset, found.tags) == ("Mine", "mit", None, ())


def test_the_repository_that_was_pushed_to_is_named_with_its_owner() -> None:
    found = card_of_trainer(_trainer(args={"hub_model_id": "task-compat"}, hub_model_id="me/task-compat"))
    assert found.repository == "me/task-compat"
    assert found.title == "task-compat"


def test_a_model_trained_as_a_whole_is_not_called_an_adapter() -> None:
    whole = AdapterCard(title="t", lineage=KNOWN, adapter_type=None, training={}, repository="org/whole")
    front, text = ModelCard(whole.render()).data.to_dict(), whole.render()
    assert (front["library_name"], front["base_model_relation"]) == ("transformers", "finetune")
    assert not [tag for tag in front["tags"] if "adapter" in tag]
    assert 'AutoModelForCausalLM.from_pretrained("org/whole")' in text
    assert "peft" not in text
    assert "this model" in text


# In the repository ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODEL_CARDS.glob("*/comparison.json")))
def test_a_card_in_the_repository_says_what_its_data_say(name: str) -> None:
    folder = MODEL_CARDS / name
    card = AdapterCard.read(folder)
    assert card is not None
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == card.render()
    assert check(text) == []
    assert f"]({name}/README.md)" in (MODEL_CARDS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("best", "loaded", "told"),
    [
        (2, "out/checkpoint-2", {"kept": "step 2, by eval_loss"}),
        # Evaluated at every step and saved at every second one.
        (3, "out/checkpoint-2", {"kept": "step 2, by eval_loss, the best of those with a checkpoint"}),
        (3, None, {}),
    ],
)
def test_the_card_names_a_step_whose_weights_were_not_loaded(
    best: int, loaded: str | None, told: dict[str, str]
) -> None:
    state = SimpleNamespace(best_global_step=best, best_model_checkpoint=loaded)
    args = SimpleNamespace(load_best_model_at_end=True, metric_for_best_model="eval_loss")
    assert _kept(SimpleNamespace(args=args, state=state, is_in_train=False)) == told
