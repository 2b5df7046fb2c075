"""`make book` and `make pdf`: the notebooks as they were last run, bound into a book.

The sources of the book are made first, in build/book/<profile>/source: `docs/` of the repository,
the notebooks, a page of claims, and the scripts that formulas and sliders need, so that a page asks
no other host for anything.
"""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sympo._files import write_atomically
from sympo.book import claims
from sympo.book.twins import notebooks, output
from sympo.studies import profiles

if TYPE_CHECKING:
    from nbformat import NotebookNode

VEGA_LITE = "application/vnd.vegalite.v5+json"
# what `sympo.book.explorables` draws, in the versions that Altair 5 writes for
_VEGA_LITE_VERSION = "5.20"
_EXPORT = "window.vegaEmbed = vegaEmbed;"
_MATHJAX = "tex-svg-full.js"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_HEAD = """# The claims

Every claim of the paper and of this companion, with its verdict, computed from the data behind the
figures (profile {profile}). What the verdicts mean is said in
[Start here](notebooks/00_start_here.ipynb); the last column leads to the cells or the table that
decide, and to the figure.
"""


def build(profile: str) -> Path:
    """Make the book of `profile`, from executed notebooks where there are any; its first page.

    Raises:
        RuntimeError: Sphinx could not build it, or a link leads nowhere; the message holds what it
            said.
    Check: tests/book/test_html.py.
    """
    profile = profiles.resolve_profile(profile)
    folder = profiles.root() / "build" / "book" / profile
    prepare(folder / "source", profile)
    _run_sphinx("html", folder / "source", folder / "html")
    return folder / "html" / "index.html"


def prepare(source: Path, profile: str) -> None:
    """Write the sources of the book into the folder `source`, in place of earlier ones."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(profiles.root() / "docs", source)
    for name in notebooks():
        _write_notebook(name, source, profile)
    write_atomically(source / "claims.md", _relink(_write_claims(profile), source))
    static = source / "_static"
    write_atomically(static / "explorables.js", _bundle_vega())
    shutil.copy(_find_mathjax(), static / _MATHJAX)


def build_pdf(profile: str) -> Path:
    """Print the book of `profile` into one PDF; its path.

    Raises:
        RuntimeError: there is no Chromium, or it failed; or as `build`.
    """
    profile = profiles.resolve_profile(profile)
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise RuntimeError("a PDF is printed by Chromium: install it, so that `chromium` is found")
    folder = profiles.root() / "build" / "book" / profile
    prepare(folder / "source", profile)
    _run_sphinx("singlehtml", folder / "source", folder / "single")
    target = folder / "sympo-companion.pdf"
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
    # formulas are typeset by a script: it is given this much of the page's own time, in ms
    patience = "--virtual-time-budget=10000"
    page = (folder / "single" / "index.html").as_uri()
    command = [browser, *options, patience, f"--print-to-pdf={target}", page]
    # one that an earlier run left would pass for this one's
    target.unlink(missing_ok=True)
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    if printed.returncode or not target.is_file():
        raise RuntimeError(f"{browser} could not print the book: {printed.stderr.strip()[-500:]}")
    return target


def _run_sphinx(builder: str, source: Path, target: Path) -> None:
    # a warning is a link that leads nowhere or a page that nobody finds
    options = ("-q", "-W", "--keep-going", "-j", "auto")
    # what one builder has read, another need not
    read = ("-d", str(source.parent / "read"))
    places = (*read, str(source), str(target))
    command = [sys.executable, "-m", "sphinx", "-b", builder, *options, *places]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"the book could not be built:\n{ran.stderr.strip()}")


def _write_notebook(name: str, source: Path, profile: str) -> None:
    import nbformat

    notebook = nbformat.read(_find_notebook(name, profile), as_version=4)
    cells = [cell for cell in notebook.cells if "injected-parameters" not in _tags(cell)]
    for number, cell in enumerate(cells):
        _describe_pictures(cell)
        if cell.cell_type == "markdown":
            cell.source = _relink(cell.source, source)
        for place, shown in enumerate(cell.get("outputs", [])):
            _embed(shown, f"explorable-{number}-{place}")
            if "text/markdown" in shown.get("data", {}):
                shown.data["text/markdown"] = _relink(shown.data["text/markdown"], source)
    notebook.cells = cells
    write_atomically(source / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))


def _find_notebook(name: str, profile: str) -> Path:
    """A notebook as it was last run to its end, or as it is committed if that is newer."""
    paths = [output(name, profile), profiles.root() / "notebooks" / f"{name}.ipynb"]
    return max(filter(Path.is_file, paths), key=lambda path: path.stat().st_mtime_ns)


def slug(heading: str) -> str:
    """What a link to a heading ends with, in the book."""
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _relink(text: str, source: Path) -> str:
    """Let links to headings and to figures and tables lead to their places in the book."""
    text = re.sub(
        r"(\w+\.ipynb)#([^)\s]+)", lambda link: f"{link[1]}#{slug(unquote(link[2]))}", text
    )
    # docs/ is the book's own folder
    text = text.replace("../docs/", "../")
    return re.sub(
        r"\.\./((?:figures|build)/[\w./]+\.(?:png|md))",
        lambda link: f"../{_copy_result(link[1], source)}",
        text,
    )


def _copy_result(name: str, source: Path) -> str:
    """Copy a figure into the book's sources, or of a table its data; its name there."""
    path = Path(name)
    # a Markdown file would become a page
    if path.suffix == ".md":
        path = path.parent / "data" / f"{path.stem}.csv"
    target = source / "results" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(profiles.root() / path, target)
    return target.relative_to(source).as_posix()


def _tags(cell: "NotebookNode") -> list[str]:
    return list(cell.metadata.get("tags", []))


def _describe_pictures(cell: "NotebookNode") -> None:
    """Move width and alt text of a saved figure to where myst-nb looks for them."""
    for shown in cell.get("outputs", []):
        fields = shown.get("metadata", {}).get("image/png", {})
        image = {"alt": fields.get("alt"), "width": _in_pixels(fields.get("width"))}
        known = {key: value for key, value in image.items() if value}
        if known:
            cell.metadata["mystnb"] = {"image": known}


def _in_pixels(width: Any) -> str | None:
    return f"{width}px" if width else None


def _embed(shown: "NotebookNode", identifier: str) -> None:
    """Let a page draw a Vega-Lite chart, which only JupyterLab draws by itself."""
    data = shown.get("data", {})
    if VEGA_LITE not in data:
        return
    # `</script>` in a text would end the script, and `<!--` hide its end
    spec = json.dumps(data.pop(VEGA_LITE)).replace("<", "\\u003c")
    draw = f'vegaEmbed("#{identifier}", {spec}, {{actions: false, renderer: "svg"}})'
    wait = f'window.addEventListener("load", () => {draw})'
    data["text/html"] = (
        f'<div id="{identifier}" class="explorable" role="img" '
        f'aria-label="{_escape(data.get("text/plain", ""))}"></div><script>{wait}</script>'
    )


def _escape(text: str) -> str:
    return (
        re.sub(r"\s+", " ", text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    )


def _write_claims(profile: str) -> str:
    from sympo.book.figures import to_markdown

    verdicts = claims.judge_claims(profile)
    parts = [_HEAD.format(profile=profile)]
    for group, rows in verdicts.groupby("group", sort=False):
        shown = rows[["claim", "paper", "verdict", "evidence", "decided by"]].astype(str)
        # links are written as of the notebooks' folder
        shown["decided by"] = shown["decided by"].str.replace("](", "](notebooks/")
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n{to_markdown(shown, 'lllll')}")
    return "\n".join(parts)


def _bundle_vega() -> str:
    import vl_convert

    bundle = vl_convert.javascript_bundle(_EXPORT, vl_version=_VEGA_LITE_VERSION)
    # a function of its own: the theme's scripts use some of its short names, too
    return f"(() => {{{bundle}}})();\n"


def _find_mathjax() -> Path:
    # its folder has a hyphen in its name, and so cannot be imported
    files = importlib.metadata.files("sphinx-mathjax-offline") or []
    (path,) = [file.locate() for file in files if file.name == _MATHJAX]
    return Path(str(path))
