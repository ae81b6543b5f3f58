"""Draws the results as an SVG with bars for each scenario. Its colours fit light and dark pages."""

from html import escape

from benchmarks.plan import SCENARIOS, Scenario
from benchmarks.report import number
from benchmarks.results import OURS, Results, is_floor

COLUMNS, WIDTH, BAR, GAP, LABEL = 2, 430, 15, 4, 150  # pixels
HEAD = 34  # above the bars of a scenario
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}.ours{fill:#1f6feb}.other{fill:#8c959f}"
    ".floor{fill:#bf8700}@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}"
)


def chart(results: Results) -> str:
    """One panel for each scenario of the first table; shorter bars are better."""
    panels = [_panel(results, scenario) for scenario in SCENARIOS]
    height = HEAD + len(results.names) * (BAR + GAP) + 12
    rows = -(-len(panels) // COLUMNS)
    placed = [
        f'<g transform="translate({place % COLUMNS * WIDTH + 8},{place // COLUMNS * height})">{panel}</g>'
        for place, panel in enumerate(panels)
    ]
    size = f'width="{COLUMNS * WIDTH}" height="{rows * height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>\n' + "\n".join(placed) + "\n</svg>\n"


def _panel(results: Results, scenario: Scenario) -> str:
    values = {name: found.value for name in results.names if (found := results.typical(name, scenario.name))}
    longest = max(values.values(), default=1) or 1
    space = WIDTH - LABEL - 70
    parts = [f'<text class="title" y="20">{escape(scenario.title)}, {escape(scenario.unit)}</text>']
    for place, (name, value) in enumerate(values.items()):
        top, kind = (
            HEAD + place * (BAR + GAP),
            "ours" if name.startswith(OURS) else "floor" if is_floor(name) else "other",
        )
        length = max(1, space * value / longest)
        parts.append(f'<text x="{LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{LABEL}" y="{top}" width="{length:.0f}" height="{BAR}"/>')
        parts.append(f'<text x="{LABEL + length + 6:.0f}" y="{top + 12}">{number(value)}</text>')
    return "".join(parts)
