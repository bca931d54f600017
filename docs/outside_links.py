"""Links from a page to files of the repository that are no pages: they lead to the repository."""

import posixpath
import re
from pathlib import Path
from typing import Any

# A link: what it says, its path, its place there. Pictures are left alone, as Sphinx copies them into the site.
LINK = re.compile(r"(?<!!)(\[[^\[\]]*\])\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def rewrite(app: Any, name: str, source: list[str], repository: str) -> None:
    """Replace ``](../path)`` in one page's text where the path leads out of the documentation.

    Raises FileNotFoundError for a path that isn't in the repository, so that a broken link stops the build.
    """
    if not str(app.env.doc2path(name)).endswith(".md"):
        return
    docs = Path(app.srcdir)

    def one(match: re.Match[str]) -> str:
        inside = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(name), match[2]))
        target = docs.parent / inside
        if inside.startswith(f"{docs.name}/"):
            return match[0]
        if not target.exists():
            raise FileNotFoundError(f"{name}: the link to {match[2]!r} leads nowhere; there is no {inside}")
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}({repository}/{kind}/main/{inside}{match[3] or ''})"

    source[0] = LINK.sub(one, source[0])
