"""Tables of the pages on studies, from what each study of results/ wrote. ``make tables`` runs this."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import polars as pl
from benchmarks.tables import replaced

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
FIGURES = ("new", "peak", "end")


def study(name: str) -> ModuleType:
    """results/NAME/study.py, which knows what its columns mean."""
    spec = importlib.util.spec_from_file_location(f"study_{name}", RESULTS / name / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> pl.DataFrame:
    """results/NAME.csv."""
    return pl.read_csv(RESULTS / f"{name}.csv", infer_schema_length=None)


def predicted(kernels: str) -> str:
    """Predicted against real pages of each recorded run, its lists known."""
    lines = ["| run | probes | new pages | peak | end | exact at the peak |", "|---|---|---:|---:|---:|---:|"]
    for row in read(f"replay/accuracy-{kernels}").iter_rows(named=True):
        figures = " | ".join(
            f"{row[name]:,} for {row[f'{name}_real']:,} ({row[f'{name}_error']:+.2f} %)" for name in FIGURES
        )
        probes = "yes" if row["probes"] else "no"
        lines.append(f"| {row['run']} | {probes} | {figures} | {row['exact']:.0f} % of {row['caches']} |")
    return "\n".join(lines)


def withheld(kernels: str) -> str:
    """Errors in per cent with the lists known, and with what sysfs said in their place."""
    lines = ["| run | lists known: new / peak / end, % | lists withheld | caches within one slab at the end |"]
    lines.append("|---|---:|---:|---:|")
    for row in read(f"replay/accuracy-{kernels}").iter_rows(named=True):
        both = (" / ".join(f"{row[f'{name}_{what}']:+.2f}" for name in FIGURES) for what in ("error", "withheld"))
        lines.append(f"| {row['run']} | {' | '.join(both)} | {row['near_withheld']:.0f} % of {row['caches']} |")
    return "\n".join(lines)


def guests() -> str:
    """Guests recorded by the script: pages at their end against what sysfs said afterwards."""
    lines = ["| guest | events | pages at the end | predicted | caches within one slab |", "|---|---:|---:|---:|---:|"]
    for row in read("replay/guests").iter_rows(named=True):
        guest = row["guest"].replace("--shrink", "`--shrink`")
        cells = (guest, f"{row['events']:,}", f"{row['pages_end']:,}", f"{row['error']:+.2f} %")
        lines.append(f"| {' | '.join(cells)} | {row['near']} % of {row['caches']} |")
    return "\n".join(lines)


def merging() -> str:
    """Pages at the end of each group of caches that one of two kernels merges, real and predicted."""
    lines = ["| group, by the name it is shown under | kernels: apart, merged | predicted: apart, merged |"]
    lines.append("|---|---|---|")
    table = read("replay/merging")
    rows = table.select("group", "pages", "real_merged", "apart", "merged").rows()
    for name, *pages in [*rows, ("all", *table.select("pages", "real_merged", "apart", "merged").sum().row(0))]:
        cells = [
            f"{apart}, {joined}" + (f" ({100 * (joined / apart - 1):.0f} %)" if name == "all" else "")
            for apart, joined in (pages[:2], pages[2:])
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ladders() -> str:
    """Each ladder with and without its last decade."""
    lines = ["| ladder | rungs, events of lanes | line, no parabola, last decade: p | without the last decade |"]
    lines.append("|---|---|---|---|")
    for name, ladder in json.loads((RESULTS / "rare" / "ladders.json").read_text())["ladders"].items():
        rungs = ", ".join(f"{rung['setting']}: {rung['events']} of {rung['lanes']:,}" for rung in ladder["rungs"])
        tests = ", ".join(f"{ladder[f'{test}_p']:.2g}" for test in ("fit", "curvature", "decade"))
        told = [f"refused: {ladder['refused']}"] if ladder.get("refused") else []
        told += [
            f"{rung['setting']}: {rung['share']:.2g} ({rung['low']:.2g} to {rung['high']:.2g}), "
            f"found {rung['events'] / rung['lanes']:.2g}"
            for rung in ladder["foretold"]
        ]
        if not told:
            told = [f"nothing: {ladder['without_the_last_decade']}"]
        where = f"{name} (`{ladder['setting']}`, {ladder['seconds']:.0f} s)"
        lines.append(f"| {where} | {rungs} | {tests} | {'; '.join(told)} |")
    return "\n".join(lines)


def tables() -> dict[str, dict[str, str]]:
    """Of each page its marks, and what stands between them."""
    livelock, refill, tuning, rare = (
        study(name) for name in ("swap-livelock-7.3", "mempool-refill", "sheaf-tuning", "rare")
    )
    on_sheaves = livelock.tables(*(read(f"swap-livelock-7.3/{name}") for name in ("outcomes", "ledger", "stock")))
    freed = refill.tables(read("mempool-refill/mempool-refill"))
    sizes = tuning.tables(read("sheaf-tuning/sheaf-tuning"))
    return {
        "swap-livelock-7.3": dict(zip(("outcomes", "ledger", "stock"), on_sheaves.split("\n\n"), strict=True)),
        "mempool-refill": dict(zip(("freed", "pool"), freed.split("\n\n"), strict=True)),
        "sheaf-tuning": dict(zip(("tuning", "classes"), sizes.split("\n\n"), strict=True)),
        "rare": {"ladders": ladders()},
        "rare-study": {"rates": rare.tables(read("rare/rates"))},
        "replay-7x": {"accuracy": predicted("7.x"), "withheld": withheld("7.x")},
        "replay-trust": {
            "accuracy": predicted("6.x"),
            "withheld": withheld("6.x"),
            "guests": guests(),
            "merging": merging(),
        },
    }


def page(name: str, made: dict[str, str]) -> str:
    """A page with its tables."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for mark, content in made.items():
        text = replaced(text, mark, content + "\n")
    return text


if __name__ == "__main__":
    for name, made in tables().items():
        (DOCS / f"{name}.md").write_text(page(name, made), encoding="utf-8")
