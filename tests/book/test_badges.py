"""The repository's address in what leads to Colab."""

import nbformat
import pytest

from sympo.book import execute
from sympo.book.badges import write_badges


def test_badges_are_written_once(root, quick):
    (root / "README.md").write_text("# SymPO\n\nText.\n")
    for name in execute.notebooks():
        execute.run(name, "smoke")
        execute.refresh(name, "smoke")
    assert len(write_badges("some-one/sympo")) == 4
    twin = (root / "notebooks/src/01_one.py").read_text()
    assert 'repository = "some-one/sympo"  # address' in twin
    # the branch, as there is no tag before the first release
    address = "colab.research.google.com/github/some-one/sympo/blob/main/notebooks/01_one.ipynb"
    assert address in twin
    cells = nbformat.read(root / "notebooks/01_one.ipynb", as_version=4).cells
    texts = [cell.source for cell in execute.read_twin("01_one").cells]
    assert [cell.source for cell in cells] == texts
    assert cells[0].source.startswith("# 01_one\n\n[![Open in Colab]")
    assert write_badges("some-one/sympo") == []
    write_badges("other/place")
    text = (root / "README.md").read_text()
    assert "other/place" in text
    assert "some-one" not in text
    assert text.count("Open in Colab") == 1


def test_badges_keep_the_outputs(root):
    execute.run("02_two", "smoke")
    execute.refresh("02_two", "smoke")
    write_badges("some-one/sympo")
    cells = nbformat.read(root / "notebooks/02_two.ipynb", as_version=4).cells
    assert cells[-1].outputs[0].data["text/plain"] == "4"


def test_the_real_notebooks_have_the_line_that_badges_write():
    for name in execute.notebooks():
        text = execute.twin(name).read_text(encoding="utf-8")
        assert sum(line.startswith('repository = "') for line in text.splitlines()) == 1


@pytest.mark.parametrize(
    "address", ["", "owner", "https://github.com/a/b", "a/b/c", 'a/b"', "a b/c"]
)
def test_badges_refuse_what_is_no_address(root, address):
    with pytest.raises(ValueError, match="owner and name"):
        write_badges(address)
