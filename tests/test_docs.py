"""What README and docs show runs as it is printed, and what they link to is there."""

import doctest
import importlib
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import muscle_hf
from muscle_hf.cli import COMMANDS, main
from muscle_hf.losses.divergences import DIVERGENCES
from muscle_hf.losses.masks import MASKS
from muscle_hf.losses.strategy import TEACHERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
# Their Python, and each command that has its output below it, runs in a second or two.
FAST = {"compare.md", "glossary.md"}
# What it shows needs a Hub: tests/test_ship.py runs it on one of this machine.
ON_A_HUB = {"ship.md"}
# Where pages say that an endpoint is.
_ADDRESS = "http://localhost:8000/v1"
PACKAGE = Path(muscle_hf.__file__).parent
MODULES = [
    ".".join(["muscle_hf", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]
# A fenced block of Python or of commands, with the block of its output where that follows.
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
_PROMISED = re.compile(r"  # ((?:True|False|[\[0-9']).*?)(?:: .*)?$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def _blocks(text: str) -> list[tuple[str, str, str]]:
    return _BLOCK.findall(text)


def _commands(block: str) -> Iterator[list[str]]:
    """Each `muscle-hf` command of a block, as the words after that name."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("muscle-hf "):
            yield shlex.split(line, comments=True)[1:]


def _is_run(page: Path) -> bool:
    return any(kind == "python" or output for kind, _, output in _blocks(page.read_text(encoding="utf-8")))


def _measuring_and_the_rest(text: str) -> tuple[str, str]:
    measure, train = text.split("\n## Train\n")
    return measure, train


def _models_of(page: str, folder: Path) -> None:
    """Put the models that a page names where it names them."""
    if page == "train.md":
        from muscle_hf.demo.task import BASE_V2, load_base, new_task_adapter

        new_task_adapter(load_base(BASE_V2)).save_pretrained(folder / "demo_output" / "new")
    if page == "learn-from-what-broke.md":
        from tiny_models import tiny_llama, tiny_tokenizer

        tiny_llama(seed=1, tokenizer=tiny_tokenizer()).save_pretrained(folder / "new-model")
        tiny_tokenizer().save_pretrained(folder / "new-model")
    if page == "encoder-decoders.md":
        from tiny_models import tiny_tokenizer
        from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter

        for version in (1, 2):
            base = tiny_seq2seq("t5", version, tiny_tokenizer())
            for part in (folder / f"base-v{version}", folder / f"task-on-t5-v{version}"):
                tiny_tokenizer().save_pretrained(part)
            base.save_pretrained(folder / f"base-v{version}")
            base.config.name_or_path = base.name_or_path = str(folder / f"base-v{version}")
            tiny_seq2seq_adapter(base, 10 + version).save_pretrained(folder / f"task-on-t5-v{version}")
    if page in ("classifiers.md", "missing-labels.md"):
        from tiny_classifiers import NAMES, tiny_classifier
        from tiny_models import tiny_tokenizer

        name, classes = ("classifier", NAMES) if page == "classifiers.md" else ("reranker", ("no", "yes"))
        for version in (1, 2):
            tiny_classifier(version, tiny_tokenizer(), classes).save_pretrained(folder / f"{name}-v{version}")
            tiny_tokenizer().save_pretrained(folder / f"{name}-v{version}")
    if page == "README.md":
        from tiny_updates import make_update

        made = make_update(folder / "made").folder
        for version in (1, 2):
            shutil.copytree(made / f"base-v{version}", folder / "org" / f"base-v{version}")
            shutil.copytree(made / f"task-v{version}", folder / "org" / f"task-on-v{version}")
        (folder / "org" / "task-compat").symlink_to(folder / "out" / "adapter")
        (folder / "data.jsonl").write_text('{"prompt": "my balance\\n", "completion": "balance"}\n' * 4)


@contextmanager
def _served(page: str) -> Iterator[str]:
    """Serve the model that a page asks at an address; give the one that it has here."""
    if page != "ask.md":
        yield _ADDRESS
        return
    from local_endpoint import endpoint
    from peft import PeftModel
    from transformers import AutoTokenizer

    from muscle_hf.demo.task import BASE_V1, OLD_ADAPTER, load_base

    model = PeftModel.from_pretrained(load_base(BASE_V1), OLD_ADAPTER).merge_and_unload().eval()
    with endpoint(model, AutoTokenizer.from_pretrained(BASE_V1)) as served:
        yield served.url


def _run(text: str, folder: Path, page: str, capsys: pytest.CaptureFixture[str], address: str = _ADDRESS) -> None:
    """Run the blocks of a page one after the other, in one namespace, and compare what they print."""
    for linked in ("examples", "muscle_hf"):
        (folder / linked).symlink_to(ROOT / linked)
    names: dict[str, object] = {"__name__": "page"}
    for kind, code, output in _blocks(text):
        capsys.readouterr()
        if kind == "python":
            shorter = code.replace("max_steps=20", "max_steps=2").replace(_ADDRESS, address)
            exec(compile(shorter, page, "exec"), names)  # noqa: S102 - our own pages
            shown = capsys.readouterr().out
            for promised in _PROMISED.findall(code):
                assert promised in shown
            assert not output or shown == output
        elif output:
            (command,) = _commands(code.replace(_ADDRESS, address))
            # A page whose command ends with another exit code than 0 says so below its output.
            said = re.search(r"exit code is (\d)", text[text.index(output) + len(output) :].split("\n\n")[1])
            assert main(command) == (int(said[1]) if said else 0)
            printed = capsys.readouterr()
            assert (printed.out + printed.err).replace(str(folder), "/home/ann").replace(address, _ADDRESS) == output


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, raise_on_error=True).failed == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")  # no accelerator here
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=() if page.name in FAST else pytest.mark.slow)
        for page in DOCS
        if page.name not in ON_A_HUB and _is_run(page)
    ],
)
def test_a_page_runs_from_top_to_bottom_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _models_of(page.name, tmp_path)
    with _served(page.name) as address:
        _run(page.read_text(encoding="utf-8"), tmp_path, page.name, capsys, address)


def test_the_readme_measures_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    measure, _ = _measuring_and_the_rest(README.read_text(encoding="utf-8"))
    _run(measure, tmp_path, README.name, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")  # no accelerator here
def test_the_readme_trains_and_loads_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _models_of(README.name, tmp_path)
    _, rest = _measuring_and_the_rest(README.read_text(encoding="utf-8"))
    _run(rest, tmp_path, README.name, capsys)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_the_picture_in_the_readme_is_what_the_command_above_it_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    ((command, picture),) = [
        (command, Path(word))
        for _, code, _ in _blocks(README.read_text(encoding="utf-8"))
        for command in _commands(code)
        for word in command
        if word.endswith(".png")
    ]
    assert f'<img src="{picture}"' in README.read_text(encoding="utf-8")
    assert picture.stat().st_size < 150_000
    drawn = tmp_path / picture.name
    assert main([str(drawn) if word == str(picture) else word for word in command]) == 0
    kept, new = matplotlib.image.imread(picture), matplotlib.image.imread(drawn)
    assert kept.shape == new.shape
    # Another version of matplotlib may place a letter elsewhere by a fraction of a pixel.
    assert float(np.abs(kept - new).mean()) < 0.01


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_has_the_options_that_it_names(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in COMMANDS.values():
        monkeypatch.setattr(command, "run", lambda arguments: 0)
    for _, code, _ in _blocks(page.read_text(encoding="utf-8")):
        for words in _commands(code):
            assert main(words) == 0, words


def _anchors(text: str) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "examples/README.md", "metrics/README.md"))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_link_leads_to_a_place_that_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in (link or image for link, image in _LINK.findall(text)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{page.name} links to {target}"


def test_the_readme_leads_to_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert not [page.name for page in DOCS if f"](docs/{page.name})" not in text]


def test_the_readme_fits_a_reader() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    assert "<!--" not in text


@pytest.mark.parametrize("name", [*MASKS, *DIVERGENCES, *TEACHERS])
def test_every_strategy_stands_in_the_table(name: str) -> None:
    table = (ROOT / "docs" / "train.md").read_text(encoding="utf-8").split("\n## Strategies\n")[1].split("\n## ")[0]
    assert f"| `{name}`" in table


def test_the_versions_on_the_page_are_those_of_the_suite() -> None:
    page = (ROOT / "docs" / "tested.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([\w-]+) \| `(\S+)` \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["hub"], *extras["train"], *extras["plots"], *extras["scorers"]]
    allowed = [line for line in needed if not line.startswith("muscle_hf[")]
    assert sorted(name + versions for name, versions, *_ in table) == sorted(allowed)
    for file, column in (("constraints-oldest.txt", 2), ("constraints.txt", 3)):
        lines = (ROOT / file).read_text(encoding="utf-8").replace("_", "-").splitlines()
        assert {f"{row[0].replace('_', '-')}=={row[column]}" for row in table} <= {*lines}


def test_the_version_to_cite_is_this_one() -> None:
    assert f"version = {{{muscle_hf.__version__}}}" in (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")


def test_all_citations_are_those_of_the_card() -> None:
    def entries(file: Path) -> list[str]:
        text = " ".join(file.read_text(encoding="utf-8").split())
        paper = r"@inproceedings\{.*?\} \}"
        software = r"@software\{\w+, title = \{.*?\}, author = \{.*?\}(?=,| \})"
        return re.findall(f"{paper}|{software}", text)

    card = entries(ROOT / "tests" / "data" / "card_of_a_tiny_run.md")
    assert len(card) == 2
    modules = sorted((ROOT / "metrics").glob("*/README.md"))
    assert modules
    for file in (ROOT / "docs" / "cite.md", PACKAGE / "spaces" / "metric.py", *modules):
        assert entries(file) == card, file
