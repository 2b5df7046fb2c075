"""The HTML book: every page and link, asked of the pages themselves."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from sympo.book import claims, html
from sympo.book.twins import notebooks
from sympo.studies import profiles


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The book of the committed notebooks: every page, by its path within the book."""
    folder = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        # not what was last run in this clone, smoke runs among it
        patch.setattr(html, "output", lambda name, profile: folder / "none")
        html.prepare(folder / "source", "laptop")
    html._run_sphinx("html", folder / "source", folder / "html")
    # the theme keeps templates among its files
    rendered = (folder / "html").rglob("*.html")
    pages = [path for path in rendered if "_static" not in path.parts]
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    return {path: BeautifulSoup(text, "html.parser") for path, text in texts.items()}


def page(book, name):
    (path,) = [path for path in book if path.as_posix().endswith(f"html/{name}")]
    return book[path]


@pytest.mark.nightly
class TestBook:
    def test_every_notebook_is_a_page_of_one_part(self, book):
        contents = page(book, "index.html").select(".toctree-wrapper a.reference.internal")
        targets = [link["href"] for link in contents]
        chapters = [target for target in targets if target.startswith("notebooks/")]
        assert sorted(chapters) == sorted(f"notebooks/{name}.html" for name in notebooks())
        assert {"claims.html", "glossary.html", "references.html"} < {*targets}

    def test_links_resolve(self, book):
        """Every file and every heading that a page links to is there."""
        anchors = {
            path: {tag["id"] for tag in soup.select("[id]")} | {""} for path, soup in book.items()
        }
        broken = []
        for path, soup in book.items():
            for tag in soup.select("a[href], link[href], script[src], img[src]"):
                target = tag.get("href") or tag.get("src")
                parts = urlsplit(target)
                if parts.scheme in ("http", "https", "data"):
                    continue
                file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if not file.exists() or (
                    file in anchors and unquote(parts.fragment) not in anchors[file]
                ):
                    broken.append(f"{path.name}: {target}")
        # Sphinx writes these two when a page is asked for
        assert not [each for each in broken if "genindex" not in each and "search" not in each]

    def test_no_other_host_is_asked(self, book):
        for path, soup in book.items():
            loaded = soup.select("link[href], script[src], img[src], iframe[src]")
            places = [tag.get("src") or tag["href"] for tag in loaded if tag.get("rel") != ["next"]]
            assert not [place for place in places if re.match(r"(https?:)?//", place)], path.name

    def test_formulas_have_their_script(self, book):
        soup = page(book, "notebooks/02_noise_equivalence.html")
        assert soup.select(".math")
        (script,) = [tag for tag in soup.select("script[src]") if "tex-svg" in tag["src"]]
        root = next(iter(book)).parents
        static = next(folder / "_static" for folder in root if (folder / "_static").is_dir())
        assert (static / Path(urlsplit(script["src"]).path).name).stat().st_size > 1_000_000

    def test_a_cell_that_only_prints_is_folded(self, book):
        soup = page(book, "notebooks/05_mnist_losses.html")
        assert soup.select("details.hide")

    def test_every_picture_has_words(self, book):
        assert not [
            (path.name, tag["src"])
            for path, soup in book.items()
            for tag in soup.select("img")
            if not tag.get("alt", "").strip()
        ]

    def test_claims_are_all_there_with_links(self, book):
        rows = page(book, "claims.html").select("tbody tr")
        assert len(rows) == len(claims.read_claims())
        decided = [row for row in rows if row.select("a[href*='notebooks/']")]
        assert len(decided) == sum(claim.notebook is not None for claim in claims.read_claims())

    def test_the_library_is_explained(self, book):
        names = {tag["id"] for tag in page(book, "api/losses.html").select("dt[id]")}
        assert {"sympo.losses.get", "sympo.losses.Loss"} <= names
        names = {tag["id"] for tag in page(book, "api/trainer.html").select("dt[id]")}
        assert "sympo.trainer.SymPOTrainer" in names

    def test_references_lead_to_the_papers(self, book):
        links = page(book, "references.html").select("a.external[href]")
        assert "https://arxiv.org/abs/2505.24709" in {link["href"] for link in links}


SPEC = {"mark": "point", "title": "</script><b><!--<script>"}


def test_a_chart_is_drawn_by_the_page():
    data = {html.VEGA_LITE: SPEC, "text/plain": 'move the "slider"'}
    output = nbformat.v4.new_output("display_data", data=data)
    html._embed(output, "explorable-1-0")
    assert set(output.data) == {"text/html", "text/plain"}
    soup = BeautifulSoup(output.data["text/html"], "html.parser")
    assert soup.div["id"] == "explorable-1-0"
    assert soup.div["aria-label"] == 'move the "slider"'
    # the title ends no script, and is the same title
    (script,) = soup.select("script")
    spec = re.search(r'vegaEmbed\("#explorable-1-0", (.*), \{actions', script.string)[1]
    assert json.loads(spec) == SPEC


def test_other_outputs_stay():
    output = nbformat.v4.new_output("display_data", data={"text/plain": "1"})
    html._embed(output, "x")
    assert output.data == {"text/plain": "1"}


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("The claim, tested", "the-claim-tested"),
        (r"T8 · $\beta$ and `π`", "t8-beta-and-π"),
        ("T10 (c) · A guarantee", "t10-c-a-guarantee"),
    ],
)
def test_a_heading_has_one_name(heading, expected):
    assert html.slug(heading) == expected


def test_links_of_notebooks_become_links_of_the_book(tmp_path):
    text = "[05](05_mnist_losses.ipynb#The-claim%2C-tested), [02](02_noise_equivalence.ipynb)"
    expected = "[05](05_mnist_losses.ipynb#the-claim-tested), [02](02_noise_equivalence.ipynb)"
    assert html._relink(text, tmp_path) == expected


def test_results_come_along(tmp_path):
    figure = "![f](../figures/laptop/fig1_mnist_losses.png)"
    assert html._relink(figure, tmp_path) == f"![f](../results/{figure[8:]}"
    assert (tmp_path / "results" / "figures" / "laptop" / "fig1_mnist_losses.png").is_file()
    # a table is there as the data behind it
    table = html._relink("[t](../figures/laptop/table1_mnist_losses.md)", tmp_path)
    assert table == "[t](../results/figures/laptop/data/table1_mnist_losses.csv)"


def test_the_newer_of_two_runs_is_bound(tmp_path, monkeypatch):
    import os

    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / "build" / profile)
    committed = tmp_path / "notebooks" / "01_one.ipynb"
    executed = tmp_path / "build" / "laptop" / "01_one.ipynb"
    for path in (committed, executed, executed.with_suffix(".failed.ipynb")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    os.utime(committed, (1, 1))
    os.utime(executed, (2, 2))
    # one that failed is newer still, and is not bound
    assert html._find_notebook("01_one", "laptop") == executed
    os.utime(committed, (3, 3))
    assert html._find_notebook("01_one", "laptop") == committed


def test_a_book_that_cannot_be_built_says_why(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text("extensions = ['myst_parser']")
    (source / "index.md").write_text("# One\n\n[lost](nowhere.md)\n")
    with pytest.raises(RuntimeError, match=r"could not be built[\s\S]*nowhere"):
        html._run_sphinx("html", source, tmp_path / "html")


def test_without_chromium_a_pdf_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(html.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="printed by Chromium: install it"):
        html.build_pdf("laptop")
