"""Install this clone beside the packages that Colab brings, and change into its notebooks.

The first cell of every notebook runs this file on Colab, once it has cloned the repository. A
second run finds everything in place and only changes the folder.
"""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent
REPOSITORY = NOTEBOOKS.parent

# Colab's torch is built for its GPU, and numpy and pandas are loaded by now: pip must leave the
# three alone. pyarrow is not among them, because trl needs a newer one than Colab's.
KEPT = ("torch", "numpy", "pandas")

if importlib.util.find_spec("sympo") is None:
    pins = REPOSITORY / "build" / "colab-pins.txt"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in KEPT))

    # Not an editable installation: its finder is read only when Python starts.
    package = f"{REPOSITORY}[paper]"
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(pins), package]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()

# Notebooks look for the clone, with its profiles and figures, from the folder they run in.
os.chdir(NOTEBOOKS)

# pandas may have loaded the old pyarrow, and one process cannot use two.
loaded = sys.modules.get("pyarrow")
if loaded is not None and loaded.__version__ != importlib.metadata.version("pyarrow"):
    sys.exit("pyarrow was replaced by a newer one: choose Runtime, Restart session, and run again")
