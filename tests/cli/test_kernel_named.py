"""Every output of a run names the kernel whose rules ran."""

import json
from pathlib import Path

from fastalloc.store import open_dataset

RULES = "SLUB of 2.6.25, caches laid out and merged as of 2.6.25"


def test_terminal_json_manifest_and_page_name_the_rules(fastalloc):
    done = fastalloc("run", "swap-livelock", "--lanes", 2, "--seconds", 40, "--variant", "rc8", "--out", "d")
    assert f"rules: {RULES}" in " ".join(done.out.split())
    assert open_dataset("d").manifest["variants"][0]["rules"].startswith(RULES)
    assert RULES in Path("d/report.html").read_text()
    assert json.loads(fastalloc("report", "d", "--json").out)[0]["rules"].startswith(RULES)


def test_kernels_apart_are_named_apart(fastalloc):
    done = fastalloc("compare", "swap-livelock", "--lanes", 2, "--seconds", 40, "--policies", "6.12", "--out", "d")
    assert done.code == 0
    rules = {row["name"]: row["rules"] for row in open_dataset("d").manifest["variants"]}
    assert rules["rc8"].startswith(RULES)
    assert rules["6.12"].startswith("SLUB of 3.2 to 6.17, caches laid out and merged as of 6.12")
