"""Which commits a training was made from: told where the cache knows it, and never guessed."""

import doctest
from pathlib import Path
from types import SimpleNamespace

import pytest

from muscle_hf.card import lineage
from muscle_hf.card.lineage import Lineage, commit_of, commit_of_adapter, record_base_commit

COMMIT, OTHER = "ab" * 20, "cd" * 20


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub with one repository: its main branch and a tag."""
    folder = tmp_path / "cache"
    repository = folder / "models--org--base"
    for commit, reference in ((COMMIT, "main"), (OTHER, "v1")):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}", encoding="utf-8")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / reference).write_text(commit, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_commit_that_lies_in_the_cache_is_found(cache: Path) -> None:
    assert commit_of("org/base", "config.json") == COMMIT
    assert commit_of("org/base", "config.json", "v1") == OTHER
    assert commit_of("org/base", "config.json", OTHER) == OTHER


def test_a_folder_of_the_same_name_is_what_was_loaded_and_has_no_commit(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "org" / "base").mkdir(parents=True)
    assert commit_of("org/base", "config.json") is None


@pytest.mark.parametrize("name", [None, "org/other", "/x/y/z", "a--b/../c", "x" * 5000, "\x00"])
def test_what_is_not_in_the_cache_is_not_known(cache: Path, name: str | None) -> None:
    assert commit_of(name, "config.json") is None
    assert commit_of_adapter(name) is None


def test_a_base_that_the_user_loaded_has_no_commit_of_its_own() -> None:
    model = SimpleNamespace(config=SimpleNamespace(name_or_path="org/base"))
    found = Lineage.of(new=model, old=model, new_name=model, old_name=model)
    assert (found.new_base, found.new_base_revision, found.new_adapter) == ("org/base", None, None)


def test_the_commit_is_noted_in_the_adapter_and_replaces_none() -> None:
    configs = {"default": SimpleNamespace(revision=None), "other": SimpleNamespace(revision="v1")}
    model = SimpleNamespace(peft_config=configs)
    record_base_commit(model, None)
    assert configs["default"].revision is None
    record_base_commit(model, COMMIT)
    assert [one.revision for one in configs.values()] == [COMMIT, "v1"]
    record_base_commit(SimpleNamespace(), COMMIT)  # a model without an adapter


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(lineage).failed == 0
