"""Install this clone beside the packages that Colab brings, and change into its notebooks.

The first cell of every notebook runs this file on Colab, once it has cloned the repository. A
second run, in the same session or after a restart of it, installs nothing.

Sizes: on a T4, which Colab lends for nothing, the profile "auto" means laptop, as on a processor.
With `profile = "gpu"` in the parameters cell, 05 and 06 should fit into a session, too: they
trained for 93 and 210 seconds on an H100 (figures/gpu/data), whose memory is ten times as fast, so
that a quarter of an hour and somewhat over half an hour are to be expected on a T4; nobody has
measured it. What trains more than a hundred language models at that size (09 to 11) will not.

Token: where the notebook may read the secret HF_TOKEN (the key in Colab's sidebar), it becomes the
environment variable of that name, which commands started from here see as well. Only gated models
need it.
"""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent
REPOSITORY = NOTEBOOKS.parent

# pip must leave these alone: Colab's torch is built for its GPU, numpy and pandas may be loaded by
# now, and of the others the kernel is made, which Colab warns may not start again with newer ones.
# pyarrow is not among them, because trl needs a newer one than Colab's.
KEPT = ("torch", "numpy", "pandas", "ipykernel", "ipython", "prompt_toolkit", "pyzmq", "tornado")


def install() -> None:
    """Install the clone with what the notebooks import."""
    pins = REPOSITORY / "build" / "colab-pins.txt"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in KEPT))
    print("Installing takes a minute or two. Should pip name packages of Colab that want older")
    print("versions: the notebooks use none of them.", flush=True)

    # Not an editable installation: its finder is read only when Python starts.
    package = f"{REPOSITORY}[notebooks]"
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(pins), package]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()


def take_token() -> None:
    """Put the secret HF_TOKEN into the environment, if there is one and none is there yet."""
    from google.colab import errors, userdata

    if os.environ.get("HF_TOKEN"):
        return
    try:
        token = userdata.get("HF_TOKEN")
    # No such secret, no answer, or a person who said no: only gated models need it.
    except (errors.Error, userdata.NotebookAccessError):
        return
    if token:
        os.environ["HF_TOKEN"] = token


# Not whether it can be imported: any folder of that name can.
if not any(importlib.metadata.distributions(name="sympo")):
    install()

# Notebooks look for the clone, with its profiles and figures, from the folder they run in.
os.chdir(NOTEBOOKS)

# pandas may have loaded the old pyarrow, and one process cannot use two.
loaded = sys.modules.get("pyarrow")
if loaded is not None and loaded.__version__ != importlib.metadata.version("pyarrow"):
    sys.exit("pyarrow was replaced by a newer one: choose Runtime, Restart session, and run again")

take_token()
