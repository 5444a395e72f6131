"""The built wheel serves everything without a checkout."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import fresh
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as pip would unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_metrics_data_models_and_types(installed: Path) -> None:
    package = installed / "muscle_hf"
    for name in (
        "py.typed",
        "card/template.md",
        "spaces/style.css",
        "run_comparison.schema.json",
        "runs/page/template.html",
        "metrics/negative_flips/negative_flips.py",
        "metrics/negative_flips/README.md",
        "metrics/consistency/consistency.py",
        "metrics/negative_bias/negative_bias.py",
        *(
            f"metrics/smooth_compatibility/{file}"
            for file in ("smooth_compatibility.py", "README.md", "app.py", "requirements.txt", "tests.py")
        ),
        "demo/data/clinc150/train.jsonl",
        "demo/data/clinc150/LICENSE",
        "demo/models/base-v1/model.safetensors",
        "demo/models/base-v2/tokenizer.json",
        "demo/models/task-on-v1/adapter_model.safetensors",
    ):
        assert (package / name).is_file(), name
    assert not list(installed.rglob("*.pyc"))
    assert not (installed / "tests").exists()


@pytest.mark.slow
def test_a_wheel_is_enough_for_metrics_demo_data_and_the_command(installed: Path, tmp_path: Path) -> None:
    script = f"""
import muscle_hf, sys
assert muscle_hf.__file__.startswith({str(installed)!r}), muscle_hf.__file__
import evaluate
result = evaluate.load("negative_flips").compute(predictions=[0, 1], old_predictions=[1, 1], references=[1, 1])
assert result["negative_flips"] == 1
from muscle_hf.demo.data import read_intents
assert len(read_intents("test")) == 4500
from muscle_hf.demo.task import BASE_V1, OLD_ADAPTER
assert (BASE_V1 / "model.safetensors").exists() and (OLD_ADAPTER / "adapter_config.json").exists()
from muscle_hf.cli import main
assert main(["--version"]) == 0
"""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = fresh.run([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


def _metadata(folder: Path, repository: str) -> Message:
    """What an index would be told of a checkout whose setting names a repository."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        re.sub(r'^repository = ".*"$', f'repository = "{repository}"', project, flags=re.MULTILINE)
    )
    for name in ("README.md", "LICENSE", "build_hooks", "muscle_hf"):
        (folder / name).symlink_to(ROOT / name)
    code = "from hatchling.build import prepare_metadata_for_build_wheel as prepare; print(prepare('.'))"
    build = [sys.executable, "-c", code]
    done = subprocess.run(build, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
    return message_from_string((folder / done.stdout.strip() / "METADATA").read_text(encoding="utf-8"))


def test_no_link_leads_to_a_repository_that_has_no_name_yet(tmp_path: Path) -> None:
    metadata = _metadata(tmp_path, "OWNER/muscle_hf")
    assert metadata.get_all("Project-URL") is None
    description = metadata.get_payload()
    assert "# muscle_hf" in description
    assert "stands in the evidence." in description
    assert re.findall(r"\]\((?!https://)|<img|OWNER", description) == []


def test_one_setting_gives_the_urls_and_the_links_of_the_description(tmp_path: Path) -> None:
    metadata = _metadata(tmp_path, "team/muscle")
    assert metadata.get_all("Project-URL") == [
        "Repository, https://github.com/team/muscle",
        "Documentation, https://github.com/team/muscle/tree/main/docs",
        "Changelog, https://github.com/team/muscle/blob/main/CHANGELOG.md",
        "Issues, https://github.com/team/muscle/issues",
    ]
    description = metadata.get_payload()
    assert "(https://github.com/team/muscle/blob/main/docs/compare.md)" in description
    assert '<img src="https://github.com/team/muscle/raw/main/docs/pictures/' in description
    assert re.findall(r"\]\((?!https://)|src=\"(?!https://)", description) == []


def test_a_release_builds_with_make_dist_and_runs_no_action_that_may_change() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert "make dist" in [step.get("run") for step in steps]
    assert not [step["uses"] for step in steps if not re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40))]
    # Only the job that publishes may ask for the right to, and it runs nothing of the repository.
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert not [step for step in workflow["jobs"]["publish"]["steps"] if "run" in step]


# The ranges ----------------------------------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
RANGES = [
    Requirement(line)
    for line in dict.fromkeys([*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)])
    if not line.startswith("muscle_hf[")
]


def _bounds(requirement: Requirement) -> dict[str, Version]:
    return {part.operator: Version(part.version) for part in requirement.specifier}


def _pins(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


@pytest.mark.parametrize("requirement", RANGES, ids=str)
def test_no_range_keeps_a_minor_release_out_or_begins_with_a_version_not_tried(requirement: Requirement) -> None:
    bounds = _bounds(requirement)
    assert {*bounds} <= {">=", "<"}
    tried = _pins("constraints.txt")[canonicalize_name(requirement.name)]
    if "<" in bounds:
        assert bounds["<"] == Version(f"{bounds['<'].major}") > tried
    oldest = _pins("constraints-oldest.txt")[canonicalize_name(requirement.name)]
    # Each other torch is gigabytes more: one is tried.
    assert oldest == (tried if requirement.name == "torch" else bounds[">="])


def test_what_the_suite_installs_has_every_extra() -> None:
    within = {name for line in EXTRAS["test"] for name in Requirement(line).extras}
    within |= {name for extra in within for line in EXTRAS[extra] for name in Requirement(line).extras}
    assert within - {"python"} == {*EXTRAS} - {"test"}
