"""Say where the repository lives: ``python docs/set_address.py https://github.com/NAME/prune_jax``.

The address stands in ``conf.py``, in the Colab badge of every notebook and in its first cell. Until it is set, OWNER
stands for the account. Nothing needs to be run again: no output of a notebook depends on it.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
HOST = "https://github.com/"  # Colab opens notebooks of this host alone
ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
STANDS = re.compile(rf'"{HOST}([\w.-]+/[\w.-]+)"')


def set_address(docs: Path, address: str) -> list[Path]:
    """Write the address into every file below ``docs`` that names the repository, and return those files.

    Raises ValueError for an address that isn't one of GitHub.
    """
    found = ADDRESS.fullmatch(address)
    if not found:
        raise ValueError(f"the address is {address!r}; it has the form {HOST}NAME/REPOSITORY")
    stands = STANDS.search((docs / "conf.py").read_text(encoding="utf-8"))
    if not stands:
        raise ValueError(f"{docs / 'conf.py'} names no address; write REPOSITORY = ... back into it")
    return [path for path in _files(docs) if _replaced(path, stands[1], found[1])]


def _files(docs: Path) -> list[Path]:
    notebooks = docs / "notebooks"
    return [
        docs / "conf.py",
        *sorted((notebooks / "source").glob("*.md")),
        *sorted(notebooks.glob("*.ipynb")),
    ]


def _replaced(path: Path, before: str, after: str) -> bool:
    """Whether the file named the repository. It then names the new one."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf"(?<=/){re.escape(before)}(?=[/\"\\])", after, text), encoding="utf-8")
    return before in text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python docs/set_address.py {HOST}NAME/prune_jax")
    try:
        print(*set_address(DOCS, sys.argv[1]), sep="\n")
    except ValueError as error:
        sys.exit(str(error))
