"""What of names and texts may be read by everybody: no path, user name or token of this machine, on any card."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.card import AdapterCard, hub_id
from muscle_hf.card.lineage import Lineage
from muscle_hf.card.public import NO_TOKEN, NO_USER, leaks, leaks_of_values, public, public_text
from muscle_hf.flips.comparison import Comparison, compare
from muscle_hf.runs.outcomes import Instance

KNOWN = Lineage(
    new_base="org/base-v2", new_adapter="org/task-on-v2", old_base="org/base-v1", old_adapter="org/task-on-v1"
)


@pytest.fixture(autouse=True, scope="module")
def _pictures_are_not_drawn() -> Iterator[None]:
    """Of a picture nothing is read here, and drawing it takes most of the time of a card."""

    def draw(path: Path, *_: Any) -> bool:
        path.touch()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("muscle_hf.card.files.draw", draw)
        yield


def _card(**fields: Any) -> AdapterCard:
    return AdapterCard(**({"title": "my adapter", "lineage": KNOWN, "adapter_type": "lora", "training": {}} | fields))


def _split(text: str) -> tuple[dict[str, Any], str]:
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def _comparison() -> Comparison:
    return compare(old=list("aabb"), new=list("aaba"), references=["a"] * 4)


def _everywhere(text: str) -> AdapterCard:
    """A card with a text in every place that takes one."""
    instance = Instance(text, text, "negative_flip", text, text, text, text, 1.0, 0.0, {text: text})
    return AdapterCard(
        title=text,
        lineage=Lineage(text, text, text, text, text, text, text, text),
        adapter_type="lora",
        training={text: text, "as a path": Path(text.replace("\x00", ""))},
        comparisons={text: _comparison(), "plain update": _comparison()},
        name_of_this=text,
        p_values={text: {"accuracy": 0.5}},
        slices={text: {text: _comparison()}},
        examples=(instance,),
        split=text,
        dataset=text,
        repository=text,
        license=text,
        language=(text,),
        tags=(text,),
        evaluated_on=text,
        evaluated_split=text,
        caveats=(text,),
    )


def _published(card: AdapterCard, folder: Path) -> str:
    """All that is written of a card, and that stays the same when it is read again."""
    text = card.write(folder).read_text(encoding="utf-8")
    again = AdapterCard.read(folder)
    assert again is not None
    assert again.render() == text
    record = (folder / "comparison.json").read_text(encoding="utf-8")
    return text + json.dumps(json.loads(record), ensure_ascii=False)


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


# Whatever is put in, wherever ----------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{5,12}", fullmatch=True)


@pytest.fixture
def ann(monkeypatch: pytest.MonkeyPatch) -> str:
    """The user, with a home folder that has a space in it."""
    monkeypatch.setattr("getpass.getuser", lambda: "annika.q")
    monkeypatch.setattr(Path, "home", lambda: Path("/srv/our people/annika.q"))
    return "annika.q"


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    folders=st.lists(NAMES.map(lambda name: f"q{name}q"), min_size=2, max_size=4, unique=True),
    form=st.sampled_from(
        [
            "/home/{}/x.txt",
            "~/{}/x.txt",
            "C:\\Users\\{}\\x.txt",
            "file:///mnt/{}/x.txt",
            "/tmp/{}",  # noqa: S108 - only a text
            "in:/home/{}/x.txt",
        ]
    ),
    words=st.sampled_from(["{}", "rows of {}, cleaned", "({})", '"{}"', "path={}"]),
)
def test_no_folder_of_a_path_reaches_card_or_data(
    folders: list[str], form: str, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    separator = "\\" if "\\" in form else "/"
    text = words.format(form.format(separator.join(folders)))
    found = _published(_everywhere(text), tmp_path_factory.mktemp("card"))
    assert not [folder for folder in folders[:-1] if folder in found]


def test_a_short_working_directory_is_not_found_in_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    # In containers it is often /app, /project or /abs.
    for folder, text in (
        ("/app", "made for apple/model, see a/apple"),
        ("/project", "https://pypi.org/project/muscle_hf/"),
        ("/abs", "[arXiv](https://arxiv.org/abs/2407.09435)"),
    ):
        monkeypatch.setattr(Path, "cwd", lambda folder=folder: Path(folder))
        assert (public(text), public_text(text), leaks(text)) == (text, text, [])
        assert leaks(f"in {folder}/it") and leaks(f"in {folder}")
        assert folder not in public(f"rows of {folder}/secret/it.jsonl")
        assert folder not in public_text(f"rows of {folder}/secret/it.jsonl")


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    token=st.from_regex(r"hf_[A-Za-z0-9]{34}", fullmatch=True),
    words=st.sampled_from(
        ["{}", "read with {}.", "https://user:{}@huggingface.co/a/b", "org/{}", "/home/x/{}/y", "{}\n"]
    ),
)
def test_no_token_reaches_card_or_data(token: str, words: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = _published(_everywhere(words.format(token)), tmp_path_factory.mktemp("card"))
    assert token not in found


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_value_of_a_token_variable_reaches_nothing_whatever_it_looks_like(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, "secret-of-ann")
    found = _published(_everywhere("org/secret-of-ann"), tmp_path) + _published(
        _everywhere("a secret-of-ann b"), tmp_path
    )
    assert "secret-of-ann" not in found
    assert NO_TOKEN in found


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "annika.q",
        "by annika.q, today",
        "/srv/our people/annika.q",
        "/srv/our people/annika.q/run 3/x",
        "rows of /srv/our people/annika.q/secret folder/x.jsonl",
        "a/annika.q/b",
        "annika.q's machine",
    ],
)
def test_the_user_reaches_neither_card_nor_data(text: str, ann: str, tmp_path: Path) -> None:
    found = _published(_everywhere(text), tmp_path)
    assert ann not in found
    assert "our people" not in found


def test_a_user_who_is_named_as_on_the_hub_may_still_push(ann: str) -> None:
    text = _card(repository=f"{ann}/task-compat", dataset=f"{ann}/rows").render()
    assert f'PeftModel.from_pretrained(base, "{ann}/task-compat")' in text
    assert _split(text)[0]["datasets"] == [f"{ann}/rows"]


@pytest.mark.parametrize("name", ["root", "train", "a"])
def test_the_name_of_an_account_of_a_machine_is_an_ordinary_word(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: name)
    assert public(f"the {name} set of org/{name}") == f"the {name} set of org/{name}"


def test_a_machine_without_a_user_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no entry")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert public("annika.q") == "annika.q"


def test_what_is_left_out_is_said_and_stays_left_out(ann: str) -> None:
    text = public(f"by {ann} with hf_{'a1' * 17}")
    assert text == f"by {NO_USER} with {NO_TOKEN}"
    assert public(text) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("/\\~.:ah_-' \nC"), max_size=30))
def test_what_is_public_stays_as_it_is_when_it_is_read_again(text: str) -> None:
    once = public(text)
    assert public(once) == once
    once = public_text(text)
    assert public_text(once) == once


@pytest.mark.parametrize(
    "text", ["1/2/3 and /3/4", "/ 2 = 5", "see /usr/bin/env", "~5 of 7", "and/or", "../..", "a\\b"]
)
def test_an_answer_that_only_looks_like_a_path_is_shown_as_it_is(text: str) -> None:
    assert public_text(text) == text


def test_rows_whose_names_become_the_same_are_not_lost() -> None:
    card = _card(comparisons={"/home/a/x": _comparison(), "/home/b/x": _comparison()}).public()
    assert list(card.comparisons) == ["x", "x (2)"]


def test_an_id_stays_one_wherever_the_card_is_read_again(somewhere: Path) -> None:
    card = _card(repository="org/task-compat", dataset="org/rows")
    text = card.write(somewhere).read_text(encoding="utf-8")
    (somewhere / "org" / "base-v2").mkdir(parents=True)
    (somewhere / "org" / "rows").mkdir()
    again = AdapterCard.read(somewhere)
    assert again is not None
    assert again.render() == text


# A text that is there already ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "trained in /home/bob/runs/3",
        "`/Users/bob/x`",
        "see file:///home/bob/x",
        "(~/runs/3/out)",
        "C:\\Users\\bob\\x",
        "path:/tmp/pytest-of-bob/x",
        f"hf_{'a1B2' * 8}xy",
        "from /data/priv/x",
        "from /srv/models/x",
        "/opt/models/x",
        '{"a": "C:\\\\Users\\\\bob\\\\x"}',
        "in ~/x",
        "/data2/bob/x",
    ],
)
def test_a_leak_in_an_edited_card_is_found(text: str) -> None:
    assert len(leaks(f"# A card\n\n{text}\n")) == 1
    assert "a1B2" not in leaks(text)[0]


def test_the_folder_that_one_works_in_is_found(somewhere: Path, ann: str) -> None:
    assert leaks(f"in {somewhere}/x")
    assert leaks("in /srv/our people/annika.q/x")


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/home/x",
        "[x](https://example.org/tmp/a)",
        "/usr/bin/python and GET /data/items",
        "path/to/this/folder",
        "a/b, and/or, 1/2",
        "~5 of 7",
        "hf_hub_download",
        "https://example.org/data/a/b and //cdn.example.org/opt/a/b",
        "GET /data/items/3 and POST /content/a/b",
        "org/data/x, a ~ b, ~/ and s/data/model/g",
    ],
)
def test_an_edited_card_without_leaks_is_not_suspected(text: str) -> None:
    assert leaks(text) == []


def test_a_path_is_found_however_deep_it_lies_and_whatever_it_begins_with() -> None:
    for path in (
        "/nas/bob/x",
        "/data/x",
        "~/x",
        "./out/base",
        "../base",
        "C:\\Users\\bob\\x",
        "C:/runs",
        "\\\\host\\share\\x",
    ):
        assert leaks_of_values({"a": {"b": [{"c": path}]}}) == [f"a path of a machine: {path}"]
        assert leaks_of_values({path: 1})
    assert "a1B2" not in str(leaks_of_values(["hf_" + "a1B2" * 8])) != "[]"


@pytest.mark.parametrize(
    "value",
    [
        "org/name",
        "and/or",
        "</s>",
        "/",
        "a/b/c.json",
        r".*\.layers\.\d+",
        r".\d+",
        r"\w+",
        "https://example.org/data/a/b",
        3,
        None,
    ],
)
def test_what_a_configuration_needs_is_no_path(value: Any) -> None:
    assert leaks_of_values({"a": [value]}) == []


def test_a_card_of_ours_never_leaks() -> None:
    assert leaks(_everywhere("/home/bob/secret/x and hf_abcdefghijklmnopqrstuvwxyz").render()) == []
