"""Study configurations: the profiles of notebooks/profiles, validated, and where their results go."""

import difflib
import os
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    import pandas as pd

PROFILES = ("smoke", "laptop", "gpu", "paper")

# study -> the module that runs it and its config class
STUDIES = {
    "mnist_losses": ("sympo.mnist", "LossesConfig"),
    "mnist_noise": ("sympo.mnist", "NoiseConfig"),
    "gold": ("sympo.gold", "GoldConfig"),
    "hh": ("sympo.offline", "OfflineConfig"),
    "ultrafeedback": ("sympo.offline", "OfflineConfig"),
}


class StudyConfig(BaseModel):
    """Base of a study's config: frozen, strictly typed, no unknown field."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    study: str
    profile: str

    def table(self) -> "pd.DataFrame":
        """One row per field, to show at the top of a notebook."""
        import pandas as pd

        values = {field: str(value) for field, value in self.model_dump().items()}
        return pd.DataFrame.from_dict(values, orient="index", columns=["value"])


def root() -> Path:
    """The repository's folder: the one with notebooks/profiles, beside the package or above the working folder.

    Raises:
        FileNotFoundError: there is none.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, Path.cwd(), *Path.cwd().parents):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    raise FileNotFoundError("no folder notebooks/profiles here or above: run this inside a copy of the repository")


def resolve_profile(profile: str) -> str:
    """`profile` itself, with "auto" replaced by gpu where CUDA is available and laptop elsewhere.

    Raises:
        ValueError: no such profile.
    """
    if profile == "auto":
        if version("torch").endswith("+cpu"):  # no need to load it
            return "laptop"
        import torch

        return "gpu" if torch.cuda.is_available() else "laptop"
    if profile not in PROFILES:
        raise ValueError(unknown_name("profile", profile, ("auto", *PROFILES)))
    return profile


def build_folder(profile: str) -> Path:
    """Where executed notebooks and records of `profile` go; ignored by git."""
    return root() / "build" / profile


def figures_folder(profile: str) -> Path:
    """Where figures and tables of `profile` go, unless SYMPO_FIGURES names another folder.

    Smoke results mean nothing and stay under build/.
    """
    if folder := os.environ.get("SYMPO_FIGURES"):
        return root() / Path(folder).expanduser()
    return build_folder(profile) / "figures" if profile == "smoke" else root() / "figures" / profile


def read_profile(profile: str) -> dict:
    """The text of notebooks/profiles/<profile>.yaml as a dict: `minutes`, and one section per study."""
    return yaml.safe_load((root() / "notebooks" / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8"))


def study_config(study: str, profile: str = "auto", /, **overrides) -> StudyConfig:
    """The validated config of `study` in `profile`, with `overrides` in place of the profile's values.

    Raises:
        ValueError: an unknown study, profile or field, or a value that does not fit; one sentence that names it.
    """
    if study not in STUDIES:
        raise ValueError(unknown_name("study", study, STUDIES))
    module, name = STUDIES[study]
    return section_config(getattr(import_module(module), name), study, profile, **overrides)


def section_config(model: type[StudyConfig], section: str, profile: str = "auto", /, **overrides) -> StudyConfig:
    """As `study_config`, for any section of a profile and the class that validates it."""
    profile = resolve_profile(profile)
    for field in overrides:
        if field not in model.model_fields or field in ("study", "profile"):
            known = [known for known in model.model_fields if known not in ("study", "profile")]
            raise ValueError(unknown_name(f"parameter of {section}", field, known))
    values = read_profile(profile).get(section)
    if values is None:
        raise ValueError(f"profile '{profile}' has no section '{section}': add it to notebooks/profiles/{profile}.yaml")
    try:
        return model(study=section, profile=profile, **{**values, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the values together"
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{section}, profile {profile}: {field}: {message} (got {first['input']!r})") from None


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence that refuses `name`: the nearest known name, and all of them."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown {what} '{name}'.{hint} Known: {', '.join(known)}."
