"""`make docs` builds a site without a warning, whose links all lead somewhere, and which names what is public."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import muscle_hf

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@dataclass
class Page(HTMLParser):
    """What a page of the site links to, what it loads, and the places on it."""

    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                (self.links if tag == "a" else self.loaded).add(value)
            if value and name in ("id", "name"):
                self.places.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(  # noqa: S603
        build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_place_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {}
    for file in site.rglob("*.html"):
        pages[file] = Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    assert site / "index.html" in pages and site / "reference.html" in pages
    # The page for what is not found stands anywhere, so that its links begin at the top.
    for file, page in pages.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                assert link in page.links, f"{file.name} loads {link}"
                continue
            path = unquote(parts.path)
            target = (site / path.lstrip("/") if path.startswith("/") else file.parent / path) if path else file
            target = Path(os.path.normpath(target))
            if target.is_dir():
                target /= "index.html"
            assert target.is_file(), f"{file.name} leads to {link}"
            if parts.fragment and target in pages:
                assert parts.fragment in pages[target].places, f"{file.name} leads to {link}"


@pytest.mark.slow
def test_the_site_has_the_docstrings_of_public_names(site: Path) -> None:
    reference = (site / "reference.html").read_text(encoding="utf-8")
    for name in muscle_hf.__all__:
        assert f'id="muscle_hf.{name}"' in reference, name
    assert 'id="muscle_hf.CompatibilityTrainer.add_comparison"' in reference
    # A reference between brackets, and arguments or examples, that the page shows as they were typed.
    assert re.findall(r"\[<code>|Args:|Example:|&gt; Parameters", reference) == []


def test_the_reference_lists_every_public_name_once() -> None:
    assert sorted(re.findall(r"^::: muscle_hf\.(\w+)$", REFERENCE, re.MULTILINE)) == sorted(muscle_hf.__all__)


def test_the_reference_asks_for_methods_that_there_are() -> None:
    asked = re.findall(
        r"^::: muscle_hf\.(\w+)\n    options:\n(?:      .*\n)*?      members: \[(.*)\]$", REFERENCE, re.M
    )
    assert asked
    for name, members in asked:
        assert all(hasattr(getattr(muscle_hf, name), member) for member in members.split(", "))
