"""What is made from the source is as the source is now, and means what the models mean."""

import json
import subprocess
import sys
import tomllib

import jsonschema
import pytest
from docs.schemas import DOCS, MODELS, PAGES, schema_text

from fastalloc.errors import InputError
from fastalloc.scenario.load import SCHEMAS, load_schema
from fastalloc.scenario.machines import PRESETS
from tests.sweep.conftest import SWEEP

AGAIN = "run `make schemas`"


@pytest.mark.parametrize("name", MODELS)
def test_the_schemas_in_the_package_are_current(name):
    assert load_schema(name) == schema_text(name), AGAIN


@pytest.mark.parametrize("name", PAGES)
def test_the_columns_in_the_documentation_are_current(name):
    assert PAGES[name]() in (DOCS / name).read_text(encoding="utf-8"), AGAIN


def validator(name):
    schema = json.loads(load_schema(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(("folder", "name"), [(PRESETS, "scenario"), (PRESETS / "machines", "machine")])
def test_every_preset_is_valid(folder, name):
    files = sorted(folder.glob("*.toml"))
    assert files
    for file in files:
        assert list(validator(name).iter_errors(tomllib.loads(file.read_text()))) == [], file


def test_what_the_models_refuse_is_marked():
    sweep = tomllib.loads(SWEEP)
    check = validator("sweep")
    assert check.is_valid(sweep)
    for fault in ({"lane": 3}, {"lanes": 0}, {"axes": {"host.queue_depth": []}}, {"samples": [{"method": "random"}]}):
        assert not check.is_valid(sweep | fault), fault
    scenario = tomllib.loads((PRESETS / "swap-livelock.toml").read_text())
    check = validator("scenario")
    assert check.is_valid(scenario | {"machine": "linux-2.6.25-rc8-512m"})
    for fault in ({"machine": {"from": 3}}, {"machine": {"form": "x"}}, {"disk": {"iops": "fast"}}, {"discs": {}}):
        assert not check.is_valid(scenario | fault), fault


def test_every_field_that_the_source_explains_is_explained():
    policy = json.loads(load_schema("scenario"))["$defs"]["Policy"]["properties"]
    assert policy["short_eighths"]["description"] == "of min"
    sample = json.loads(load_schema("sweep"))["$defs"]["Sample"]["properties"]
    assert sample["method"]["description"].startswith("Latin hypercube")


def test_the_command_prints_what_is_shipped():
    command = [sys.executable, "-m", "fastalloc.cli.main", "schema"]
    done = subprocess.run([*command, "sweep"], capture_output=True, text=True)
    assert done.stdout == (SCHEMAS / "sweep.json").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="none of machine, scenario, sweep"):
        load_schema("sweeps")
