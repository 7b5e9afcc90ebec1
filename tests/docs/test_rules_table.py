"""The table of what each rule moves is of the rules that docs/closed_loop_rules.py leaves out now."""

import json

from docs.closed_loop_rules import INPUTS, RESULTS, RULES


def test_each_rule_and_input_has_its_row_and_no_other():
    rows = json.loads((RESULTS / "rules.json").read_text(encoding="utf-8"))["rules"]
    assert {row["without"] for row in rows} == {*INPUTS, *RULES}
