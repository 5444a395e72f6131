"""The model card: only what is known, never a path of this machine, and nothing in it that hostile text can break."""

import ast
import doctest
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import muscle_hf
from muscle_hf import card
from muscle_hf.adapters import Lineage
from muscle_hf.card import AdapterCard, card_of_trainer, hub_id, library_versions
from muscle_hf.flips import Comparison, compare
from muscle_hf.report import header, table_rows
from muscle_hf.strategy import Strategy

MARKDOWN = MarkdownIt("commonmark").enable("table")
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


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


# Paths ---------------------------------------------------------------------------------------------------------------

PATHS = [
    "/home/somebody/secret/it",
    "~/secret/it",
    "~somebody/secret/it",
    "../secret/it",
    "./secret/it",
    "secret/it",
    "secret/deeper/it",
    "C:\\Users\\somebody\\secret\\it",
    "C:/Users/somebody/secret/it",
    "..\\secret\\it",
    "\\\\server\\secret\\it",
    "file:///home/somebody/secret/it",
    "FILE:/home/somebody/secret/it",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_local_path_never_reaches_the_card(somewhere: Path, path: str) -> None:
    # A relative path looks like an id of the Hub; that there is such a folder tells them apart.
    (somewhere / "secret" / "deeper" / "it").mkdir(parents=True)
    (somewhere / "secret" / "it").mkdir()
    text = _card(
        title=path,
        lineage=Lineage(new_base=path, new_adapter=path, old_base=path, old_adapter=path),
        training={"data": path, path: "x", "as a path": Path(path)},
        comparisons={path: _comparison()},
        split=path,
        dataset=path,
    ).render()
    data, body = _split(text)
    assert "secret" not in text
    assert "somebody" not in text
    assert not {"base_model", "base_model_relation", "datasets"} & data.keys()
    assert not [tag for tag in data["tags"] if ":" in tag]
    assert body.count("| a local model |") == 3
    assert 'from_pretrained("path/to/the/new/base")' in body


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("rows of /home/somebody/data.jsonl, cleaned", "rows of data.jsonl, cleaned"),
        ("rows (~/secret/data.jsonl)", "rows (data.jsonl)"),
        ("{'path': '/home/somebody/x.json'}", "{'path': 'x.json'}"),
        ("rows of C:\\Users\\somebody\\x.csv", "rows of x.csv"),
        ("rows of file:///home/somebody/x.csv", "rows of x.csv"),
        ("yes/no and a / b, https://x.org/a/b", "yes/no and a / b, https://x.org/a/b"),
    ],
)
def test_a_path_within_a_sentence_loses_its_folders_and_nothing_else_is_touched(words: str, shown: str) -> None:
    assert f"Data: {shown}." in _card(dataset=words).render()


def test_a_base_named_like_a_folder_here_is_that_folder_and_no_base_model(somewhere: Path) -> None:
    (somewhere / "gpt2").mkdir()
    lineage = Lineage(new_base="gpt2", new_adapter=None, old_base="org/base", old_adapter=None)
    data, _ = _split(_card(lineage=lineage).render())
    assert "base_model" not in data
    assert "compatible-with:org/base" in data["tags"]


def test_an_output_folder_named_like_the_repository_does_not_hide_it(somewhere: Path) -> None:
    (somewhere / "org" / "task-compat").mkdir(parents=True)
    assert 'PeftModel.from_pretrained(base, "org/task-compat")' in _card(repository="org/task-compat").render()


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        ".",
        "..",
        "~",
        "a//b",
        "/a",
        "a/",
        "a/b/c",
        "a b",
        "a\nb",
        "-a",
        "a--b",
        "a..b",
        "x.git",
        "é/b",
        "a" * 97,
        "a" * 5000,
        "\x00",
        "C:",
        "hf://a/b",
        "a:b",
    ],
)
def test_what_the_hub_would_not_take_is_no_id_and_no_traceback(name: str | None) -> None:
    assert hub_id(name) is None


@pytest.mark.parametrize("name", ["gpt2", "org/base-v2", "Org_1/Qwen2.5-0.5B", "o/n", "org/_x_"])
def test_an_id_of_the_hub_is_kept(name: str) -> None:
    assert hub_id(name) == name


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
    assert "| old model | org/base-v1 | org/task-on-v1 |\n| new model | org/base-v2 | org/task-on-v2 |\n" in body


def test_the_measured_table_holds_the_figures_of_the_comparisons() -> None:
    comparisons = {"plain | update": _comparison(), "compatibility adapter": _comparison()}
    body = _split(_card(comparisons=comparisons, split="the test set of X").render())[1]
    assert "\nOn the test set of X, n = 8.\n" in body
    assert "compared with the old model, whose accuracy is 62.5 %." in body
    table = body.split("intervals.\n\n")[1].split("\n\n")[0].split("\n")
    for line, row in zip([table[0], *table[2:]], [header(), *table_rows(comparisons)], strict=True):
        assert line.replace("\\|", "\\") == "| " + " | ".join(cell.replace("|", "\\") for cell in row) + " |"


def test_comparisons_on_different_instances_do_not_share_one_n() -> None:
    body = _split(_card(comparisons={"a": _comparison(8), "b": _comparison(4)}, split="two sets").render())[1]
    assert "n =" not in body
    assert "whose accuracy" not in body
    assert "\nOn two sets.\n" in body
    assert re.search(r"\| relative NFR ↓ \| n \| old model's accuracy, % \|\n", body)
    assert re.search(r"\| a \|.*\| 8 \| 62\.5 \|\n\| b \|.*\| 4 \| 50\.0 \|\n", body)


@pytest.mark.parametrize("repository", [None, "org/task-compat"])
@pytest.mark.parametrize("lineage", [KNOWN, NOTHING])
def test_the_snippet_that_loads_the_adapter_is_python(repository: str | None, lineage: Lineage) -> None:
    text = _card(repository=repository, lineage=lineage).render()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    given = [node.value for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Constant)]
    adapter = repository or "path/to/this/folder"
    assert sorted(given) == sorted([lineage.new_base or "path/to/the/new/base", adapter, adapter])


@pytest.mark.parametrize("repository", ["task-compat", 'x")\nimport os#', "a/b/c", ""])
def test_a_repository_that_would_load_nothing_stays_out_of_the_snippet(repository: str) -> None:
    assert 'from_pretrained(base, "path/to/this/folder")' in _card(repository=repository).render()


@pytest.mark.parametrize("full", [False, True])
def test_blank_lines_stand_between_blocks_and_nowhere_twice(full: bool) -> None:
    fields = {"training": {"seed": 0, "mask": "x"}, "dataset": "d", "split": "s", "comparisons": {"a": _comparison()}}
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


def test_names_of_options_stay_readable() -> None:
    assert "- mask: student_wrong\n" in _card(training={"mask": "student_wrong"}).render()


# Hostile text --------------------------------------------------------------------------------------------------------


def _with(text: str) -> AdapterCard:
    return _card(
        title=text,
        training={text: text},
        comparisons={text: _comparison()},
        split=text,
        dataset=text,
        repository=text,
        license=text,
        tags=(text,),
        lineage=Lineage(new_base=text, new_adapter=text, old_base=text, old_adapter=text),
    )


def _check_is_whole(text: str) -> None:
    data, body = _split(text)
    assert set(data) <= {
        "base_model",
        "base_model_relation",
        "datasets",
        "library_name",
        "license",
        "pipeline_tag",
    } | {"tags"}
    assert data["library_name"] == "peft"
    assert len(data["tags"]) == len(ModelCard(text).data.tags)
    tokens = MARKDOWN.parse(body)
    assert _headings(body)[1:] == ["Lineage", "Measured", "How to load", "Training", "Limits", "Citation"]
    assert [token.info for token in tokens if token.type == "fence"] == ["python", "bibtex"]
    assert sum(token.type == "table_open" for token in tokens) == 2
    inside = {child.type for token in tokens for child in token.children or []}
    assert not {token.type for token in tokens} & {"hr", "html_block", "code_block", "blockquote_open"}
    assert not inside & {"html_inline", "image", "code_inline"}
    # The two links of the template.
    assert sum(child.type == "link_open" for token in tokens for child in token.children or []) == 2
    (snippet,) = (token.content for token in tokens if token.info == "python")
    ast.parse(snippet)
    text.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_breaks_neither_front_matter_nor_sections(text: str) -> None:
    rendered = _with(text).render()
    _check_is_whole(rendered)
    assert _split(rendered)[0].get("base_model") != "evil/model"
    assert "<script" not in _split(rendered)[1]


@settings(max_examples=40, deadline=None)
@given(text=st.text(min_size=1) | st.text(st.sampled_from("-\n|<>`#[]()*_:'\"{}%~/\\. x"), min_size=1))
def test_no_text_whatever_breaks_a_card(text: str) -> None:
    _check_is_whole(_with(text).render())


# Files and trainers --------------------------------------------------------------------------------------------------


def test_a_card_is_written_whole_over_the_draft_of_another_library(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("draft", encoding="utf-8")
    path = _card(title="Größe ↓").write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert path.read_text(encoding="utf-8") == _card(title="Größe ↓").render()


def test_versions_are_those_that_are_installed() -> None:
    import torch

    assert library_versions().startswith(f"muscle_hf {muscle_hf.__version__}, torch {torch.__version__.split('+')[0]}")
    assert re.fullmatch(r"\w+ [^ ,]+(, \w+ [^ ,]+){4}", library_versions())


def _trainer(**changes: Any) -> Any:
    """What a card reads of a trainer; a real one is trained in the tests of the trainer."""
    args = muscle_hf.CompatibilityConfig(output_dir="/home/somebody/my-adapter", use_cpu=True, bf16=False, seed=7)
    for name, value in changes.pop("args", {}).items():
        setattr(args, name, value)
    model = SimpleNamespace(active_peft_config=SimpleNamespace(peft_type=SimpleNamespace(value="LORA")))
    return SimpleNamespace(
        **{
            "args": args,
            "state": SimpleNamespace(global_step=12),
            "accelerator": SimpleNamespace(unwrap_model=lambda wrapped: wrapped),
            "model": model,
            "strategy": Strategy(focal_beta=5.0),
            "lineage": KNOWN,
            "comparisons": {"compatibility adapter": _comparison()},
            "hub_model_id": None,
        }
        | changes
    )


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


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(card).failed == 0


def test_a_model_trained_as_a_whole_is_not_called_an_adapter() -> None:
    whole = AdapterCard(title="t", lineage=KNOWN, adapter_type=None, training={}, repository="org/whole")
    front, text = ModelCard(whole.render()).data.to_dict(), whole.render()
    assert (front["library_name"], front["base_model_relation"]) == ("transformers", "finetune")
    assert not [tag for tag in front["tags"] if "adapter" in tag]
    assert 'AutoModelForCausalLM.from_pretrained("org/whole")' in text
    assert "peft" not in text
    assert "this model" in text
