"""What mkdocs is told beside mkdocs.yml: README is the first page, and files that pages link to come along."""

import posixpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from repository import ROOT, path_of, relative_links, repository, with_links

DOCS = "docs/"


def _on_the_site(path: str) -> str:
    return "index.md" if path == "README.md" else path.removeprefix(DOCS)


def _in_the_repository(uri: str) -> str:
    if uri == "index.md":
        return "README.md"
    return f"{DOCS}{uri}" if (ROOT / DOCS / uri).exists() else uri


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link to the repository, where it has a name."""
    config.repo_url = repository()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README, and everything outside docs/ that a page leads to, page by page."""
    queue = ["README.md", *(f"{DOCS}{file.src_uri}" for file in files.documentation_pages())]
    seen = set(queue)
    while queue:
        page = queue.pop()
        if not page.startswith(DOCS):
            files.append(File.generated(config, _on_the_site(page), abs_src_path=str(ROOT / page)))
        if page.endswith(".md"):
            linked = {path_of(target, page) for target in relative_links((ROOT / page).read_text(encoding="utf-8"))}
            # What is not there is left for mkdocs to complain of.
            queue += sorted(path for path in linked - seen if (ROOT / path).is_file())
            seen |= linked
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where the files are on the site."""
    here = _in_the_repository(page.file.src_uri)

    def place(target: str) -> str:
        return posixpath.relpath(_on_the_site(path_of(target, here)), posixpath.dirname(page.file.src_uri) or ".")

    return with_links(markdown, place)
