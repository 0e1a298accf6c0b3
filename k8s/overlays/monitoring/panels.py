"""How every panel of the dashboard looks: Grafana's own types, with the choices that are the same for all."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

WIDTH = 24
"""Columns of Grafana's grid."""

SOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True)
class Query:
    """An expression, and what its series are called."""

    expr: str
    legend: str = ""


def variable(name: str, query: str) -> dashboard.QueryVariable:
    """All of them unless some are chosen; what has no such label at all counts as well."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(d.VariableOption(text="All", value="$__all"))
    )


def _targets(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        prometheus.Dataquery().ref_id(chr(ord("A") + i)).datasource(SOURCE).expr(q.expr).legend_format(q.legend).range()
        for i, q in enumerate(queries)
    ]


def _thresholds(steps: dict[float, str]) -> dashboard.ThresholdsConfig:
    levels = [d.Threshold(value=None if i == 0 else at, color=color) for i, (at, color) in enumerate(steps.items())]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(levels)


def figure(
    title: str,
    what: str,
    *queries: Query,
    steps: dict[float, str],
    unit: str = "none",
    spark: bool = False,
    bad: Sequence[str] = (),
    span: int = WIDTH // 6,
    height: int = 4,
    empty: str = "–",
) -> stat.Panel:
    """A figure; of the series called `bad` each is red from 1."""
    panel = (
        stat.Panel()
        .title(title)
        .description(what)
        .datasource(SOURCE)
        .targets(_targets(queries))
        .unit(unit)
        .span(span)
        .height(height)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(c.BigValueGraphMode.AREA if spark else c.BigValueGraphMode.NONE)
        .color_mode(c.BigValueColorMode.VALUE)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .thresholds(_thresholds(steps))
        .no_value(empty)
    )
    levels = {"mode": "absolute", "steps": [{"value": None, "color": GREEN}, {"value": 1, "color": RED}]}
    for name in bad:
        panel.override_by_name(name, [d.DynamicConfigValue(id_val="thresholds", value=levels)])
    return panel


def graph(
    title: str,
    what: str,
    *queries: Query,
    unit: str = "short",
    span: int = 8,
    stacked: bool = False,
    bars: bool = False,
    most: float | None = None,
    empty: str = "",
) -> timeseries.Panel:
    """Values over time, from zero."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(what)
        .datasource(SOURCE)
        .targets(_targets(queries))
        .unit(unit)
        .span(span)
        .height(7)
        .min(0)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .draw_style(c.GraphDrawStyle.BARS if bars else c.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(25 if stacked or bars else 8)
        .show_points(c.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(c.StackingMode.NORMAL if stacked else c.StackingMode.NONE))
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if most is not None:
        panel.max(most)
    if empty:
        panel.no_value(empty)
    return panel


def listing(title: str, what: str, expr: str, columns: Sequence[str], *, span: int, empty: str = "") -> table.Panel:
    """The labels of what there is now, in this order."""
    order = {"indexByName": {name: i for i, name in enumerate(columns)}, "excludeByName": {"Time": True, "Value": True}}
    query = prometheus.Dataquery().ref_id("A").datasource(SOURCE).expr(expr).instant().format(PromQueryFormat.TABLE)
    panel = (
        table.Panel()
        .title(title)
        .description(what)
        .datasource(SOURCE)
        .with_target(query)
        .span(span)
        .height(7)
        .with_transformation(d.DataTransformerConfig(id_val="organize", options=order))
    )
    return panel.no_value(empty) if empty else panel
