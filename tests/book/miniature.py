"""Writes notebooks that do next to nothing, for tests of what runs them."""

from pathlib import Path

from sympo.book import execute, staleness

HEADER = """\
# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---
"""


def write_twin(root: Path, name: str, *cells: str, parameters: str = 'profile = "auto"') -> Path:
    """Write a twin: a title, the bootstrap's address, a parameters cell and `cells`."""
    title = f"# %% [markdown]\n# # {name}\n"
    bootstrap = '# %% tags=["bootstrap"]\nrepository = ""  # address\n'
    settings = f'# %% tags=["parameters"]\n{parameters}\n'
    path = root / "notebooks" / "src" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    code = [f"# %%\n{cell}\n" for cell in cells]
    path.write_text("\n".join([HEADER, title, bootstrap, settings, *code]))
    return path


def write_section(root: Path, text: str, profile: str = "smoke") -> None:
    path = root / "notebooks" / "profiles" / f"{profile}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def list_stale(profile: str = "smoke") -> list[str]:
    """The notebooks that `make paper` would run."""
    staleness.write_inputs(profile)
    return [name for name in execute.notebooks() if staleness.is_stale(name, profile)]


def run_all(profile: str = "smoke") -> None:
    """What `make paper` does where everything is out of date."""
    staleness.write_inputs(profile)
    for name in execute.notebooks():
        execute.run(name, profile)
