"""What the package index is told beside pyproject.toml: where the repository is, and a README that links there."""

import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# hatchling loads this file alone.
sys.path.insert(0, str(Path(__file__).parent))

from repository import ROOT, repository, with_links, without_links


class RepositoryMetadata(MetadataHookInterface):
    """Fills in the URLs and the description, which the index shows without the files beside it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme` and, where the repository has a name, `urls`."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        page = repository()
        if page:
            metadata["urls"] = {
                "Repository": page,
                "Documentation": f"{page}/tree/main/docs",
                "Changelog": f"{page}/blob/main/CHANGELOG.md",
                "Issues": f"{page}/issues",
            }
            text = with_links(text, lambda path: f"{page}/{'raw' if path.endswith('.png') else 'blob'}/main/{path}")
        else:
            text = without_links(text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
