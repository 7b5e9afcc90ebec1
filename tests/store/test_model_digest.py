"""The model digest: changed with any file that can move a number, and not with one that only shows."""

import ast
import shutil

import pytest

from fastalloc.model_digest import PACKAGE, model_digest, model_files
from fastalloc.scenario import load_scenario
from fastalloc.store.provenance import provenance
from fastalloc.sweep import replays
from fastalloc.trace.replay import results

digest_of = model_digest.__wrapped__  # not kept from one call to the next


@pytest.fixture
def package(tmp_path):
    """A copy of the package in which a test may move and edit files."""
    copy = tmp_path / "fastalloc"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_a_copy_has_the_digest_of_its_original(package):
    assert digest_of(package) == model_digest()
    (package / "kernels" / "__pycache__").mkdir()
    (package / "kernels" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    assert digest_of(package) == model_digest()


@pytest.mark.parametrize(
    "source",
    [
        "batch/lane.py",
        "compiler/jit.py",
        "kernels/reclaim/vmscan.py",
        "linux/watermarks.py",
        "scenario/slab_arrays.py",
        "store/schema.py",
        "sweep/axes.py",
        "report/statistics.py",
        "report/hazard.py",
        "report/poisson.py",
        "trace/compact/convert.py",
        "trace/formats/text.py",
        "trace/order/order_search.py",
        "trace/replay/prediction.py",
    ],
)
def test_editing_moving_and_removing_a_file_change_it(package, source):
    path = package / source
    found = {digest_of(package)}
    with path.open("a") as file:
        file.write("# changed\n")
    found.add(digest_of(package))
    if not source.startswith("report/"):
        path.rename(path.with_name("moved.py"))
        found.add(digest_of(package))
        path.with_name("moved.py").rename(package / "moved.py")
        found.add(digest_of(package))
        (package / "moved.py").unlink()
        found.add(digest_of(package))
    assert len(found) == (2 if source.startswith("report/") else 5)


def test_a_new_room_is_covered(package):
    (package / "rooms").mkdir()
    (package / "rooms" / "table.csv").write_text("1,2\n")
    assert digest_of(package) != model_digest()


@pytest.mark.parametrize("source", ["cli/main.py", "report/board.py", "scenario/presets/swap-livelock.toml"])
def test_what_only_shows_and_what_is_an_input_change_nothing(package, source):
    with (package / source).open("a") as file:
        file.write("\n")
    assert digest_of(package) == model_digest()


def statements(body):
    """All of them, those inside of others too; expressions, which import nothing, are most of a file."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(node, part, ()))


def imported(path):
    """The files of the package that a file imports, relative to it."""
    for node in statements(ast.parse((PACKAGE / path).read_text()).body):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE.name:
                module = PACKAGE.joinpath(*parts[1:])
                for file in (module.with_suffix(".py"), module / "__init__.py"):
                    if file.is_file():
                        yield file.relative_to(PACKAGE)


def test_what_is_covered_imports_nothing_that_is_not():
    covered = set(model_files())
    outside = {(path, found) for path in covered if path.suffix == ".py" for found in imported(path)}
    outside = {(str(path), str(found)) for path, found in outside if found not in covered}
    # Packages' own files that hold a name alone, and the face of the library, which names the report for others.
    assert {found for _, found in outside} <= {"api.py", "replayed.py", "report/__init__.py", "sweep/sensitivity.py"}


def test_runs_sweeps_and_replays_name_one_digest(tmp_path, monkeypatch):
    scenario = load_scenario("swap-livelock").variant("rc8")
    assert provenance(scenario, 1)["model_digest"] == model_digest()
    assert results.model_digest is model_digest
    assert not hasattr(replays, "replay_digest")
