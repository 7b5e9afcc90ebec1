"""Is the livelock decided before any counter shows it? The test before splitting, along the reserve of 34 MB.

    python results/rare/splitting.py      # six minutes on a core

The rarer the event, the more states it takes to tell the share that is decided. Writes splitting.json.
"""

import json
from pathlib import Path

from fastalloc.model_digest import model_digest
from fastalloc.rare.events import Event
from fastalloc.rare.splitting import splitting_test
from fastalloc.scenario import load_scenario

HERE = Path(__file__).parent
STATES = {24: 80, 48: 160, 96: 320}  # min_free_kbytes: states that are branched


def tested(reserve: int, states: int) -> dict[str, object]:
    """The decided share of rc8's livelock at a reserve."""
    own = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"machine.min_free_kbytes": reserve})
    found = splitting_test(own, Event("livelock"), states=states)
    assert found is not None
    crossed, looked = found.crossed
    return {
        "min_free_kbytes": reserve, "states": found.states, "children": found.children,
        "crossed_share": crossed / looked, "event_share": found.mean,
        "decided": found.decided, "low": found.low, "high": found.high, "could_pay": found.could_pay,
    }  # fmt: skip


def main() -> None:
    rows = [tested(reserve, states) for reserve, states in STATES.items()]
    told = {"model": model_digest()[:12], "rows": rows}
    (HERE / "splitting.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
