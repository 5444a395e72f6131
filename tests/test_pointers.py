"""Pointers of git in the place of large files: nothing reads one as if it were the file."""

from collections.abc import Callable
from pathlib import Path

import lighteval_details
import pytest
from harness_samples import generation, write
from lighteval_details import detail, run_file

from muscle_hf import InputError, compare_runs, load_adapter, read
from muscle_hf.cli import main
from muscle_hf.files import is_pointer, refuse_pointers
from muscle_hf.models.adapters import base_and_adapter
from muscle_hf.readers.plain_rows import raw_rows
from muscle_hf.runs.gates.policy import read_policy
from muscle_hf.update.models import read_adapter, read_base

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 63 + "1\nsize 42816258\n"
DATE = "2025-01-25T04-48-43.622918"
ROWS = '{"id": 1, "prediction": "A", "reference": "A"}\n'
SAMPLES = f"samples_t_{DATE}.jsonl"

READ: dict[str, tuple[str, Callable[[Path], object]]] = {
    "csv": ("v1.csv", read),
    "tsv": ("v1.tsv", read),
    "jsonl": ("v1.jsonl", read),
    "json": ("v1.json", read),
    "parquet": ("v1.parquet", read),
    "a column of a table": ("v1.csv", lambda path: read(f"{path}:gpt")),
    "a folder of samples": (f"m/{SAMPLES}", lambda path: read(path.parent)),
    "a folder of details": (str(run_file(Path(), "m", DATE)), lambda path: read(path.parent)),
    "policy": ("policy.yaml", read_policy),
    "rows of an update, jsonl": ("data.jsonl", lambda path: list(raw_rows(str(path), None, "train"))),
    "rows of an update, csv": ("data.csv", lambda path: list(raw_rows(str(path), None, "train"))),
    "rows of an update, parquet": ("data.parquet", lambda path: list(raw_rows(str(path), None, "train"))),
    "weights of an adapter": ("a/adapter_model.safetensors", lambda path: load_adapter(path.parent)),
    "base of an update": ("b/model.safetensors", lambda path: read_base(str(path.parent), {}, "--new-base")),
    "tokenizer of an update": ("b/tokenizer.json", lambda path: read_base(str(path.parent), {}, "--new-base")),
    "adapter of an update": (
        "a/adapter_model.safetensors",
        lambda path: read_adapter(str(path.parent), "--old-adapter"),
    ),
    "model of a training": (
        "b/model-00001-of-00002.safetensors",
        lambda path: base_and_adapter(str(path.parent), None, ("model", "new_adapter")),
    ),
    "adapter of a training": (
        "a/adapter_config.json",
        lambda path: base_and_adapter("org/base", path.parent, ("model", "new_adapter")),
    ),
    "config of an adapter": ("a/adapter_config.json", lambda path: load_adapter(path.parent)),
}


@pytest.mark.parametrize("case", READ)
def test_a_pointer_of_git_lfs_is_not_read_as_the_file(case: str, tmp_path: Path) -> None:
    name, reading = READ[case]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LFS)
    with pytest.raises(InputError) as caught:
        reading(path)
    message = str(caught.value)
    assert str(path) in message
    assert "is a Git LFS pointer, not the file of 42,816,258 bytes" in message
    assert "git lfs pull" in message
    assert len(message.splitlines()) == 1


def test_the_command_names_the_pointer_and_what_fetches_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("v1", "v2"):
        (tmp_path / side).mkdir()
        (tmp_path / side / SAMPLES).write_text(LFS)
    assert main(["compare", str(tmp_path / "v1"), str(tmp_path / "v2")]) == 2
    assert f"{tmp_path / 'v1' / SAMPLES} is a Git LFS pointer" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_pointer_on_one_side_is_named(side: str, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.jsonl").write_text(LFS if name == side else ROWS)
    with pytest.raises(InputError, match=rf"{side}\.jsonl is a Git LFS pointer"):
        compare_runs(tmp_path / "old.jsonl", tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    ("text", "kind", "command"),
    [
        (LFS, "Git LFS", "git lfs pull"),
        (LFS.replace("\n", "\r\n"), "Git LFS", "git lfs pull"),
        ("\ufeff" + LFS, "Git LFS", "git lfs pull"),
        (LFS.replace("git-lfs", "hawser"), "Git LFS", "git lfs pull"),
        ("/annex/objects/SHA256E-s42816258--0001.csv\n", "git-annex", "git annex get"),
        ("# xet version 0\nfilesize = 42816258\nhash = '0001'\n", "git-xet", "git xet checkout"),
    ],
    ids=["lfs", "lfs with Windows line ends", "lfs with a byte order mark", "lfs of 2014", "annex", "xet"],
)
def test_every_kind_of_pointer_is_told_with_its_command(text: str, kind: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "v1.csv").write_bytes(text.encode())
    with pytest.raises(InputError, match=rf"is a {kind} pointer, .* `{command}`"):
        read(tmp_path / "v1.csv")


def test_a_link_that_git_annex_has_not_fetched_is_told(tmp_path: Path) -> None:
    name = f"details_t_{DATE}.parquet"
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / name).symlink_to(f"../.git/annex/objects/xX/zZ/SHA256E-s1--0.parquet/{name}")
    for source in (tmp_path / "v1" / name, tmp_path / "v1"):
        with pytest.raises(InputError, match=r"is a git-annex pointer, .* `git annex get`"):
            read(source)


def test_one_pointer_among_the_tasks_does_not_stop_the_others(tmp_path: Path) -> None:
    for side in ("v1", "v2"):
        for task in ("arc", "piqa"):
            write(tmp_path / side / f"samples_{task}_{DATE}.jsonl", [generation(0, "4")])
    (tmp_path / "v2" / f"samples_piqa_{DATE}.jsonl").write_text(LFS)
    result = compare_runs(tmp_path / "v1", tmp_path / "v2")
    assert [part.name for part in result.tasks] == ["arc"]
    assert "is a Git LFS pointer" in result.not_compared["piqa"]


def test_results_that_are_a_pointer_are_not_called_broken(tmp_path: Path) -> None:
    (tmp_path / SAMPLES).write_text('{"doc_id": 0, "resps": [], "filtered_resps": []}\n')
    results = tmp_path / f"results_{DATE}.json"
    results.write_text(LFS)
    with pytest.raises(InputError, match=r"results_.* is a Git LFS pointer"):
        read(tmp_path)
    results.unlink()
    results.symlink_to(".git/annex/objects/xX/zZ/SHA256E-s1--0.json/SHA256E-s1--0.json")
    with pytest.raises(InputError, match=r"results_.* is a git-annex pointer"):
        read(tmp_path)


def test_results_of_lighteval_that_are_a_pointer_are_not_passed_over(tmp_path: Path) -> None:
    path = lighteval_details.write(run_file(tmp_path, "m", DATE), [detail(0, response={"logprobs": [0, -1]}, acc=1.0)])
    (tmp_path / "results" / "m").mkdir(parents=True)
    (tmp_path / "results" / "m" / f"results_{DATE}.json").write_text(LFS)
    for source in (path, tmp_path):
        with pytest.raises(InputError, match=r"results_.* is a Git LFS pointer"):
            read(source)


def test_a_pointer_beside_the_samples_does_not_stop_them(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(LFS)
    with pytest.raises(InputError, match="holds no samples"):
        read(tmp_path)


def test_a_file_that_only_talks_of_pointers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v1.csv"
    path.write_text(f'id,prediction,reference\n1,"{LFS}",A\n')
    assert not is_pointer(path)
    assert read(path).tasks["v1"].values().tolist() == [0.0]


def test_files_that_are_not_loaded_may_be_pointers(tmp_path: Path) -> None:
    for name in ("tf_model.h5", "consolidated.safetensors", "README.md"):
        (tmp_path / name).write_text(LFS)
    refuse_pointers(tmp_path)
    (tmp_path / "tokenizer.json").write_text(LFS)
    with pytest.raises(InputError, match=r"tokenizer\.json is a Git LFS pointer"):
        refuse_pointers(tmp_path)
