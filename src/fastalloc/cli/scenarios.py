"""``fastalloc scenarios``: what can be run by name."""


def scenarios() -> None:
    """List the presets and their variants."""
    from rich.text import Text

    from fastalloc.scenario import load_scenario, preset_names
    from fastalloc.terminal import console

    out = console(width=80)
    for name in preset_names():
        scenario = load_scenario(name)
        out.print(Text(name, style="bold"))
        out.print(Text(" ".join(scenario.description.split())))
        for variant in scenario.variants:
            extra = "" if variant.default else " (only when asked for)"
            out.print(f"  {variant.name:18} {variant.title}{extra}", soft_wrap=True)
        out.print()
