"""Bundles of records: what travels, what is refused, and that nothing is overwritten."""

import hashlib
import json
import zipfile
from dataclasses import dataclass

import pytest
from toy_plan import toy

from sympo import __main__ as command
from sympo.studies import bundle, profiles, records
from sympo.studies.records import Result, Run


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / "here" / profile)
    return tmp_path / "here"


@pytest.fixture
def folder(build):
    """The records of profile gpu; it need not exist yet."""
    return build / "gpu" / "records"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "bundle.zip"


def write(folder, seed, *, metrics=None, seconds=1.0):
    records.save(
        toy(seed=seed),
        Result(metrics or {"accuracy": seed / 10}, [{"step": 1, "loss": float("nan")}]),
        folder=folder,
        version=1,
        provenance={"seconds": seconds},
    )


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def move_away(folder, build):
    """As if the bundle arrived at another clone."""
    folder.rename(build / "away")


@dataclass(frozen=True, kw_only=True)
class Hashed(Run):
    weights_sha256: str


def write_hashed(folder, seed, weights):
    run = Hashed(study="toy", method="dpo", noise="none", seed=seed, weights_sha256=weights)
    records.save(run, Result({}, []), folder=folder, version=1, provenance={})


def test_records_of_other_weights_are_refused_and_none_is_added(folder, build, file):
    write_hashed(folder, 0, "package")
    bundle.export_records("gpu", file)
    move_away(folder, build)
    write_hashed(folder, 1, "hub")
    before = read_all(folder)
    with pytest.raises(
        ValueError, match=r"weights_sha256 package\) than other records of toy \(weights_sha256 hub"
    ):
        bundle.import_records("gpu", file)
    assert read_all(folder) == before


def test_records_arrive_as_they_left(folder, build, file):
    for seed in range(3):
        write(folder, seed)
    sent = read_all(folder)
    bundle.export_records("gpu", file)
    move_away(folder, build)
    assert str(bundle.import_records("gpu", file)) == "records: 3 new (toy 3), 0 known"
    assert read_all(folder) == sent
    assert str(bundle.import_records("gpu", file)) == "records: 0 new, 3 known"


def test_equal_records_give_equal_bundles(folder, file, tmp_path):
    write(folder, 0)
    bundle.export_records("gpu", file)
    bundle.export_records("gpu", tmp_path / "again.zip")
    assert file.read_bytes() == (tmp_path / "again.zip").read_bytes()


def test_what_is_here_is_never_overwritten(folder, build, file):
    write(folder, 0, seconds=1)
    write(folder, 1)
    write(folder, 2)
    bundle.export_records("gpu", file)
    move_away(folder, build)
    write(folder, 0, seconds=2)  # the same results in another time
    write(folder, 1, metrics={"accuracy": 0.9})  # other results
    ours = read_all(folder)
    report = bundle.import_records("gpu", file)
    assert [len(names) for names in (report.new, report.known, report.retold)] == [1, 0, 1]
    (name,) = report.contradicted
    assert "seed1" in name
    assert "1 whose results DIFFER from ours, which are kept" in str(report)
    assert name in str(report)
    assert {key: value for key, value in read_all(folder).items() if key in ours} == ours


def test_a_damaged_record_does_not_travel_and_one_of_ours_is_replaced(folder, build, file):
    write(folder, 0)
    write(folder, 1)
    (empty, whole) = sorted(folder.iterdir())
    content = empty.read_bytes()
    bundle.export_records("gpu", file)
    empty.write_bytes(b"")
    assert str(bundle.import_records("gpu", file)) == "records: 1 new (toy 1), 1 known"
    assert empty.read_bytes() == content
    assert empty.with_name(f"{empty.name}.corrupt").is_file()
    empty.write_bytes(content[:-5])
    assert bundle.export_records("gpu", file).endswith(f"left out as damaged: {empty.name}")
    move_away(folder, build)
    assert bundle.import_records("gpu", file).new == [whole.name]


def test_without_records_there_is_nothing_to_export(file):
    with pytest.raises(ValueError, match="there are no records in"):
        bundle.export_records("gpu", file)
    assert not file.exists()


# What does not arrive


@pytest.fixture
def altered(folder, build, file):
    """`altered(change)` writes a bundle whose members `change` has changed."""
    write(folder, 0)
    bundle.export_records("gpu", file)
    with zipfile.ZipFile(file) as sent:
        members = {name: sent.read(name) for name in sent.namelist()}
    (name,) = set(members) - {bundle.MANIFEST}
    move_away(folder, build)

    def alter(change):
        manifest = json.loads(members[bundle.MANIFEST])
        change(members, manifest, name)
        if bundle.MANIFEST in members:
            members[bundle.MANIFEST] = json.dumps(manifest).encode()
        with zipfile.ZipFile(file, "w") as target:
            for member, content in members.items():
                target.writestr(member, content)

    return alter


def rename(members, manifest, name, new):
    members[new] = members.pop(name)
    manifest["sha256"][new] = manifest["sha256"].pop(name)


def replace(members, manifest, name, content):
    members[name] = content
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, manifest, name: m.pop(bundle.MANIFEST), "is not a whole bundle"),
        (lambda m, manifest, name: m.pop(name), "is not a whole bundle"),
        (lambda m, manifest, name: m.update({name: b"{}"}), "the sha256 of .* is not the manif"),
        (lambda m, manifest, name: manifest.update(format=2), "not of a bundle of format 1"),
        (lambda m, manifest, name: manifest.update(profile="paper"), "add --profile paper"),
        (lambda m, manifest, name: manifest.update(sha256=[]), "not of a bundle of format 1"),
        (lambda *a: rename(*a, "../../escape.json"), "is no name of a record"),
        (lambda *a: rename(*a, "/escape.json"), "is no name of a record"),
        (lambda *a: rename(*a, ".hidden.json"), "is no name of a record"),
        (lambda *a: rename(*a, "another.json"), "its config stands for toy-dpo"),
        (lambda *a: replace(*a, b"no JSON"), "is no record: JSONDecodeError"),
        (lambda *a: replace(*a, b"[" * 100_000), "is no record: RecursionError"),
        (lambda *a: replace(*a, b"[]"), "is no record: it is not a JSON object"),
        (lambda *a: replace(*a, b'{"config": {}}'), "field 'version' is missing"),
    ],
)
def test_a_bundle_with_a_defect_is_refused_whole(altered, file, tmp_path, change, message):
    altered(change)
    with pytest.raises(ValueError, match=message) as error:
        bundle.import_records("gpu", file)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("here/gpu/**/*.json"))
    assert not list(tmp_path.rglob("escape*"))


def test_a_file_that_is_cut_off_or_no_zip_is_refused(folder, file):
    write(folder, 0)
    bundle.export_records("gpu", file)
    content = file.read_bytes()
    # in the middle of what is compressed, too
    flipped = bytearray(content)
    flipped[60] ^= 0xFF
    for part in (content[: len(content) // 2], b"", b"some text", bytes(flipped)):
        file.write_bytes(part)
        with pytest.raises(ValueError, match="is not a whole bundle of records"):
            bundle.import_records("gpu", file)


@pytest.mark.parametrize("manifest", [b"[" * 100_000, b"\xff", b"no JSON", b"[]"])
def test_a_manifest_that_is_none_is_refused(file, manifest):
    with zipfile.ZipFile(file, "w") as target:
        target.writestr(bundle.MANIFEST, manifest)
    with pytest.raises(ValueError, match="bundle") as error:
        bundle.import_records("gpu", file)
    assert str(file) in str(error.value)


def test_a_member_that_claims_to_be_huge_is_refused_before_it_is_unpacked(
    altered, file, monkeypatch
):
    altered(lambda *a: replace(*a, b"0" * 5000))
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="and no record has that"):
        bundle.import_records("gpu", file)


# The command line


def test_command_line(folder, build, file, capsys):
    write(folder, 0)
    write(folder, 1)
    assert command.main(["records", "export", str(file), "--profile", "gpu"]) == 0
    assert ": 2 records, " in capsys.readouterr().out
    move_away(folder, build)
    write(folder, 1, metrics={"accuracy": 0.9})
    arguments = ["records", "import", str(file), "--profile"]
    assert command.main([*arguments, "gpu"]) == 1
    assert capsys.readouterr().out.startswith(
        "records: 1 new (toy 1), 0 known; 1 whose results DIFFER"
    )
    assert command.main([*arguments, "laptop"]) == 2
    assert capsys.readouterr().err.endswith("holds records of profile gpu: add --profile gpu\n")
    assert command.main(["records", "import", "no such file", "--profile", "gpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_one_sentence(folder, tmp_path, capsys):
    write(folder, 0)
    assert command.main(["records", "export", str(tmp_path), "--profile", "gpu"]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert error.count("\n") == 1


def test_status_passes_over_damage_and_changes_nothing(build, capsys):
    study = profiles.study_config("mnist_losses", "gpu")
    folder = build / "gpu" / "records"
    planned = bundle.import_module("sympo.studies.mnist").plan_study(study, read_only=True)
    first, second = study.runs()[:2]
    for run, text in ((first, "[" * 100_000), (second, "{")):
        path = folder / records.file_name(run.config(), planned.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "mnist_losses-a-folder.json").mkdir()
    before = sorted(folder.iterdir())
    with pytest.warns(UserWarning, match="is no record and is passed over"):
        assert "mnist_losses: 0 of 210" in bundle.describe_status("gpu")
    assert sorted(folder.iterdir()) == before


def test_status_says_which_study_has_records_of_two_data_sets(build):
    folder = build / "gpu" / "records"
    study = profiles.study_config("gold", "gpu")
    version = bundle.import_module("sympo.studies.alignment.gold").VERSION
    for digest in ("a" * 64, "b" * 64):
        run = study.runs(data_sha256=digest)[0]
        records.save(run, Result({}, []), folder=folder, version=version, provenance={})
    lines = bundle.describe_status("gpu").splitlines()
    (gold,) = [line for line in lines if line.startswith("gold: ")]
    assert "2 different sets of data and weights" in gold
    assert "data_sha256 aaaaaaaaaaaa" in gold
    assert "mnist_losses: 0 of 210" in lines


def test_status_counts_what_there_is_by_study_and_tier(build, monkeypatch):
    study = profiles.study_config("mnist_losses", "gpu")
    folder = build / "gpu" / "records"
    version = bundle.import_module("sympo.studies.mnist").plan_study(study, read_only=True).version
    headline = [run for run in study.runs() if study.tier(run) == 0]
    for run in headline[:7]:
        records.save(run, Result({}, []), folder=folder, version=version, provenance={})
    # of a version that nothing reads any more
    records.save(headline[0], Result({}, []), folder=folder, version=0, provenance={})
    # no data is asked for
    monkeypatch.setenv("SYMPO_DATA", str(build))
    monkeypatch.setenv("SYMPO_CACHE", str(build))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = bundle.describe_status("gpu").splitlines()
    at = lines.index("mnist_losses: 7 of 210")
    assert lines[at + 1] == "  headline contrasts: 7 of 40"
    assert "  of other sizes or versions: 1" in lines[at : at + 5]
    assert any(line.startswith("hh: 0 of ") for line in lines)
