"""Profiles: the sizes of every study, validated, and the folders that results go to."""

import os
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from sympo._names import show, unknown_name

if TYPE_CHECKING:
    import pandas as pd

PROFILES = ("smoke", "laptop", "gpu", "paper")

# Study → the module that has its `run_study`, and the name of its config there. Modules are named,
# not imported: a study must not wait for what only another needs.
STUDIES = {
    "mnist_losses": ("sympo.studies.mnist", "LossesConfig"),
    "mnist_noise": ("sympo.studies.mnist", "NoiseConfig"),
    "noise_patterns": ("sympo.studies.mnist", "PatternsConfig"),
    "loss_family": ("sympo.studies.mnist.family", "FamilyConfig"),
    "finite_sample": ("sympo.studies.mnist.sizes", "SizesConfig"),
    "real_text": ("sympo.studies.text", "TextConfig"),
    "gold_grammar": ("sympo.studies.alignment.grammar", "GrammarConfig"),
    "gold": ("sympo.studies.alignment.gold", "GoldConfig"),
    "hh": ("sympo.studies.alignment.offline", "OfflineConfig"),
    "ultrafeedback": ("sympo.studies.alignment.offline", "OfflineConfig"),
}

# Section and profile of each config of this process whose values are not the profile's: a notebook
# names its overrides once, to `study_config`, and everything that it saves later depends on them.
_EXERCISES: set[tuple[str, str]] = set()


class StudyConfig(BaseModel):
    """Base of a study's config: frozen, strictly typed, no unknown field.

    Numbers are finite, and a list holds something, and nothing twice.
    """

    # Strict, since a silent conversion ("3" to 3) hides a slip in a profile or an override.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    study: str
    profile: str

    # Fields whose list may hold nothing.
    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if isinstance(value, int) and abs(value) >= 2**31:
            raise ValueError("no study is that large: give less than 2 to the power of 31")
        if isinstance(value, list | tuple):
            refuse_duplicates(name, value)
        if isinstance(value, list | tuple | dict) and not value and name not in cls.may_be_empty:
            raise ValueError("it is empty: list at least one value")
        return value

    def table(self) -> "pd.DataFrame":
        """One row per field, to show at the top of a notebook."""
        import pandas as pd

        values = {field: _describe(value) for field, value in self.model_dump().items()}
        return pd.DataFrame.from_dict(values, orient="index", columns=["value"])


def _describe(value: Any) -> str:
    """A field's value, to its last digit: commas between entries, brackets around those within."""
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{key}: {_describe_within(each)}" for key, each in value.items()) or "none"
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(_describe_within, value)) or "none"
    return str(value)


def _describe_within(value: Any) -> str:
    text = _describe(value)
    return f"({text})" if isinstance(value, Mapping | list | tuple) else text


AnyConfig = TypeVar("AnyConfig", bound=StudyConfig)


def refuse_duplicates(name: str, values: Sequence[Any]) -> None:
    """Check that a sweep names each of its values once.

    A value that is swept twice is trained once and counted twice: intervals come out too narrow.

    Raises:
        ValueError: a value that occurs more than once; the sentence names it and the field `name`.
    """
    repeated = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if repeated:
        listed = ", ".join(map(str, repeated))
        raise ValueError(f"{name} holds {listed} more than once: list each value once")


def root() -> Path:
    """The repository's folder: around the package, or else the working folder or one above it.

    Raises:
        FileNotFoundError: none of them has the folder notebooks/profiles.
    """
    # First the clone that this code belongs to: a run must not depend on the working folder.
    around_package = Path(__file__).resolve().parents[2]
    for folder in (around_package, Path.cwd(), *Path.cwd().parents):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    raise FileNotFoundError(
        "studies need a clone of the repository, for its folder notebooks/profiles: "
        "run this inside one"
    )


def resolve_profile(profile: str) -> str:
    """`profile` itself, with "auto" replaced by gpu on a recent GPU and by laptop elsewhere.

    Recent is a GPU whose hardware has bfloat16. The profile gpu is sized for an H100; a T4, which
    Colab lends, has no bfloat16 and is several times slower.

    Raises:
        ValueError: no such profile.
    Check: tests/book/test_colab.py.
    """
    if profile == "auto":
        # A build for processors has no CUDA, so torch, which takes seconds, is not even loaded.
        # Where figures are only drawn again, there may be no torch at all.
        if _lacks_cuda():
            return "laptop"
        import torch

        recent = torch.cuda.is_available() and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        return "gpu" if recent else "laptop"
    if profile not in PROFILES:
        raise ValueError(unknown_name("profile", profile, ("auto", *PROFILES)))
    return profile


def _lacks_cuda() -> bool:
    """Whether the torch that is installed, if there is one, was built for processors alone."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def build_folder(profile: str) -> Path:
    """Where executed notebooks, records and results of `profile` go; ignored by git."""
    return root() / "build" / profile


def own_figures(profile: str) -> Path:
    """Where a run of `profile` in this clone leaves its figures and tables; ignored by git."""
    return build_folder(profile) / "figures"


def committed_figures(profile: str) -> Path:
    """The reference: figures and tables that are committed, which no run writes unless asked."""
    return root() / "figures" / profile


def figures_folder(profile: str) -> Path:
    """Where this process writes figures and tables of `profile`: `own_figures`, as a rule.

    A run with overrides is an exercise and must not replace results: it writes to
    build/<profile>/custom, or to the folder that SYMPO_FIGURES names.

    Check: tests/book/test_execute.py.
    """
    if folder := os.environ.get("SYMPO_FIGURES"):
        return root() / Path(folder).expanduser()
    if any(place == profile for _, place in _EXERCISES):
        return build_folder(profile) / "custom"
    return own_figures(profile)


def find_result(profile: str, path: str) -> Path | None:
    """A file of the results of `profile`: this clone's own, or else the committed one.

    What an exercise wrote is never found: it is no evidence.

    Args:
        path: within the folder of figures, such as "data/table1_mnist_contrasts.csv".
    """
    places = (own_figures(profile) / path, committed_figures(profile) / path)
    return next((place for place in places if place.is_file()), None)


def caveat(profile: str) -> str:
    """What has to stand beside every number that this process makes and that is no evidence.

    Empty where the numbers are evidence.
    """
    if profile == "smoke":
        return "smoke: these numbers mean nothing"
    if figures_folder(profile) != own_figures(profile):
        return "an exercise: no evidence"
    return ""


def read_profile(profile: str) -> dict[str, Any]:
    """notebooks/profiles/<profile>.yaml: `minutes`, and one section per study.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file; one sentence that names the file, and the line if it is one.
    Check: tests/studies/test_profiles.py.
    """
    path = root() / "notebooks" / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"profile '{profile}' has no file {path}: take it from the clone")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}{_describe_place(error)}: correct it") from None
    except (UnicodeDecodeError, RecursionError) as error:
        reason = "too many brackets" if isinstance(error, RecursionError) else "it is no UTF-8 text"
        raise ValueError(f"{path}: {reason}: correct it, or take it from the clone") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it holds no sections: take it from the clone")
    for section, values in content.items():
        if not (isinstance(section, str) and isinstance(values, dict)):
            shown = show(values)
            raise ValueError(f"{path}: section {section} is {shown}: give it fields, NAME: VALUE")
    for name, minutes in content.get("minutes", {}).items():
        number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
        if not (number and minutes >= 0):
            raise ValueError(f"{path}: minutes of {name} are {show(minutes)}: no number")
    return content


def _describe_place(error: yaml.YAMLError) -> str:
    """Where an error of the parser is and what it is, as ", line 3: a reason"."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return ": " + " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    reason = " ".join(filter(None, (error.context, error.problem)))
    return f"{f', line {mark.line + 1}' if mark else ''}: {reason}"


class _Loader(yaml.SafeLoader):
    """YAML without what is read as something else than it looks like."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # Its own constructors raise what they happen to, such as for a thirteenth month.
        except Exception as error:
            reason = f"{show(node.value)} cannot be read ({type(error).__name__})"
            raise _refuse(reason, node) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if key.tag != self.DEFAULT_SCALAR_TAG:
                raise _refuse(f"{show(key.value)} is no name: a name has to be text", key)
            if key.value in names:
                raise _refuse(f"{key.value} is given twice", key)
            names.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few lines of references can stand for a file of gigabytes.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(problem="no references (*)", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float:
        # YAML 1.1 reads 12:30:45 to the base 60, and 010 and 0_10 to the base 8.
        is_int = node.tag.endswith(":int")
        if not (_INTEGER if is_int else _DECIMAL).fullmatch(node.value):
            raise _refuse(f"{show(node.value)} is no decimal number", node)
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_DECIMAL = re.compile(r"[-+]?[0-9]*[.]?[0-9]*(e[-+]?[0-9]+)?", re.IGNORECASE)


def _refuse(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_decimal)


def study_config(study: str, profile: str = "auto", /, **overrides: Any) -> StudyConfig:
    """The validated config of `study` in `profile`, with `overrides` in place of its values.

    With overrides this process runs an exercise, see `figures_folder`.

    Raises:
        ValueError: an unknown study, profile or field, or a value that does not fit; one sentence
            that names it.
    """
    if study not in STUDIES:
        raise ValueError(unknown_name("study", study, STUDIES))
    module, name = STUDIES[study]
    return section_config(getattr(import_module(module), name), study, profile, **overrides)


def section_config(
    model: type[AnyConfig], section: str, profile: str = "auto", /, **overrides: Any
) -> AnyConfig:
    """As `study_config`, for any section of a profile and the class that validates it."""
    profile = resolve_profile(profile)
    # Those two say what is asked for; the profile's section holds the rest.
    known = [field for field in model.model_fields if field not in ("study", "profile")]
    for field in overrides:
        if field not in known:
            raise ValueError(unknown_name(f"parameter of {section}", field, known))
    values = read_profile(profile).get(section)
    # A profile need not have every study.
    if values is None:
        remedy = f"add it to notebooks/profiles/{profile}.yaml"
        raise ValueError(f"profile '{profile}' has no section '{section}': {remedy}")
    # The last call counts: in JupyterLab a person may take an override back.
    (_EXERCISES.add if overrides else _EXERCISES.discard)((section, profile))
    try:
        return model(study=section, profile=profile, **{**values, **overrides})
    except ValidationError as error:
        # Pydantic lists every fault over several lines; the first, in one sentence, is enough.
        # What is there under no field's name explains why a field is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        field = ".".join(map(str, first["loc"])) or "the values together"
        message = first["msg"].removeprefix("Value error, ")
        got = show(first["input"])
        sentence = f"{section}, profile {profile}: {field}: {message} (got {got})"
        raise ValueError(sentence) from None
