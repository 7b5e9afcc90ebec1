"""``fastalloc scenarios``: what can be run by name."""


def scenarios() -> None:
    """List the presets and their variants."""
    from rich.console import Console
    from rich.text import Text

    from fastalloc.scenario import load_scenario, preset_names

    console = Console(highlight=False)
    for name in preset_names():
        scenario = load_scenario(name)
        console.print(Text(name, style="bold"))
        console.print(Text(" ".join(scenario.description.split())))
        for variant in scenario.variants:
            extra = "" if variant.default else " (only when asked for)"
            console.print(f"  {variant.name:18} {variant.title}{extra}", soft_wrap=True)
        console.print()
