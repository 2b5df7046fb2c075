"""Writes the repository's address into what leads to Colab: `make badges REPO=owner/name`."""

import re
from pathlib import Path

from sympo._files import write_atomically
from sympo.book.execute import write_outputs
from sympo.book.twins import notebooks, read_twin, relative, twin
from sympo.studies import profiles

# Colab opens a notebook of a public repository on GitHub, by its address there.
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github"


def write_badges(repository: str) -> list[str]:
    """Write a repository's address into the twins, the committed notebooks and the README.

    Returns:
        the paths of the twins and of the README, where they changed.
    Raises:
        ValueError: not of the form owner/name.
    Check: tests/book/test_badges.py.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", repository):
        wanted = "a repository's owner and name"
        raise ValueError(f"make badges REPO=owner/name needs {wanted}, got '{repository}'")
    # the branch and not a tag: the badge has to work before the first release
    folder = f"{COLAB}/{repository}/blob/main/notebooks"
    changed = []
    for name in notebooks():
        text = twin(name).read_text(encoding="utf-8")
        linked = _link_badge(text, f"{folder}/{name}.ipynb", prefix="# ")
        # the line of the bootstrap cell that says what Colab clones
        address = f'repository = "{repository}"'
        new = re.sub(r'^repository = "[^"]*"', address, linked, flags=re.MULTILINE)
        # an unchanged twin leaves its committed notebook alone, and a second call changes nothing
        if _replace(twin(name), new):
            changed.append(relative(twin(name)))
            _update_committed(name)
    readme = profiles.root() / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        if _replace(readme, _link_badge(text, f"{folder}/00_start_here.ipynb", prefix="")):
            changed.append(relative(readme))
    return changed


def _link_badge(text: str, url: str, *, prefix: str) -> str:
    """`text` with its Colab badge, which stands under the first heading, pointing at `url`.

    Args:
        prefix: of each line: "# " in a twin, whose Markdown is in comments.
    """
    badge = f"{prefix}[![Open in Colab]({BADGE})]({url})"
    # the first one only: later badges in the README may lead elsewhere
    old = re.compile(rf"^{prefix}\[!\[Open in Colab\].*$", re.MULTILINE)
    if old.search(text):
        return old.sub(badge, text, count=1)
    heading = re.compile(rf"^{prefix}# .*$", re.MULTILINE)
    return heading.sub(rf"\g<0>\n{prefix.strip()}\n{badge}", text, count=1)


def _update_committed(name: str) -> None:
    """Give a committed notebook the new text of its twin, and keep its outputs."""
    import nbformat

    committed = profiles.root() / "notebooks" / f"{name}.ipynb"
    if committed.is_file():
        # the text alone has changed, so the cells still belong to each other
        cells = nbformat.read(committed, as_version=4).cells
        write_outputs(name, read_twin(name), cells)


def _replace(path: Path, text: str) -> bool:
    if path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, text)
    return True
