"""The report as one page that opens offline: what lending won, how long owners waited, what borrowers lost.

The drawing is plotly's, and its script is in the page. Names are other people's: each is escaped where it is put in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from slurm_reserve.accounts import HOUR, ReservationAccount, Span, Statement
from slurm_reserve.evidence.collect import Report
from slurm_reserve.evidence.explain import about_wait, moment, span
from slurm_reserve.evidence.promise import Promise
from slurm_reserve.facts import WaitFact
from slurm_reserve.words import printable

COLOURS = {"owner": "#2b6cb0", "lent": "#2f9e62", "idle": "#dfe3e8", "down": "#c53030"}
WORDS = {"owner": "used by the owner", "lent": "lent", "idle": "idle", "down": "down"}
_LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
MOST_NODES = 40  # of one reservation that are drawn; the figures are of all
FINEST = 2000  # parts of the period below which nothing is drawn where there is much
MANY = 4000
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
# A browser may settle on its width after the charts are drawn.
_FIT = (
    "<script>addEventListener('load',()=>"
    "document.querySelectorAll('.js-plotly-plot').forEach(Plotly.Plots.resize))</script>"
)
_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:76rem;font:16px/1.45 system-ui,"Segoe UI",Roboto,sans-serif;color:#1a202c;
background:#f7f8fa;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:0 0 .3rem}p{margin:.3rem 0;color:#4a5568}
section{background:#fff;border:1px solid #e2e8f0;border-radius:10px;padding:1rem;margin:1rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1rem 0}
.card{background:#fff;border:1px solid #e2e8f0;border-radius:10px;padding:.7rem .9rem}
.card b{display:block;font-size:1.45rem;line-height:1.25}.card span{color:#4a5568;font-size:.86rem}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.86rem;color:#4a5568;margin:.4rem 0}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:3px;margin-right:.35rem;vertical-align:-1px}
.bar{display:flex;height:1.6rem;border-radius:6px;overflow:hidden;margin:.5rem 0;background:#edf0f3}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:right;padding:.3rem .5rem;border-bottom:1px solid #edf0f3;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}th{color:#4a5568;font-weight:600}
td:first-child{min-width:7rem;max-width:16rem}
li{margin:.3rem 0}.chart{width:100%;min-width:0;overflow:hidden}
"""


def page(cluster: str, report: Report) -> str:
    """The whole page."""
    made = report.statement
    body = [
        f"<h1>What lending won on {escape(printable(cluster))}</h1>",
        f"<p>{moment(made.since)} to {moment(made.until)}, by {escape(made.source)}.</p>",
        f"<p>{escape(printable(report.remark, 400))}</p>" if report.remark else "",
        _cards(made, report.promises),
        *(_reservation(r, made) for r in made.reservations),
        _waits(report),
        _borrowers(made),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Lending on {escape(printable(cluster))}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}{_FIT}</body></html>\n'


def _cards(made: Statement, promises: Iterable[Promise]) -> str:
    total = made.reservations
    owned, used = sum(r.owned for r in total), sum(r.used for r in total)
    lent, loans = sum(r.lent for r in total), sum(r.loans for r in total)
    unused = owned - used - sum(r.down for r in total)
    taken = [p.taken_back for p in promises if p.taken_back.count]
    breaches = sum(len(p.breaches) for p in promises)
    cards = [
        (f"{lent / HOUR:,.1f}", f"node-hours lent, {_share(lent, unused)} of what owners left unused"),
        (
            f"{_share(used, owned)} → {_share(used + lent, owned)}",
            "of the reserved time was used: by owners, with lending",
        ),
        (f"{loans:,}", "borrowed runs"),
        (span(max((s.most for s in taken), default=0.0)), "an owner's longest wait for a lent node"),
        (f"{breaches}", "waits longer than promised"),
        (f"{sum(r.credit for r in total):,.2f}", "credit earned by owners"),
    ]
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{b}</b><span>{s}</span></div>' for b, s in cards)
        + "</div>"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "none"


def _reservation(account: ReservationAccount, made: Statement) -> str:
    parts = {"owner": account.used, "lent": account.lent, "idle": account.idle, "down": account.down}
    bar = "".join(
        f'<div style="background:{COLOURS[use]};width:{100 * seconds / account.owned:.3f}%"></div>'
        for use, seconds in parts.items()
        if account.owned and seconds > 0
    )
    key = "".join(
        f'<span><i style="background:{COLOURS[use]}"></i>{WORDS[use]} {seconds / HOUR:,.1f} h</span>'
        for use, seconds in parts.items()
    )
    nodes = sorted(account.by_node, key=_natural)
    more = f"<p>{MOST_NODES} of {len(nodes)} nodes are drawn.</p>" if len(nodes) > MOST_NODES else ""
    return (
        f"<section><h2>{escape(account.name)}</h2><p>{account.owned / HOUR:,.1f} node-hours on {len(nodes)} nodes; "
        f"{account.loans} loans, {account.evictions} of them ended for others; credit {account.credit:,.2f}</p>"
        f'<div class="bar">{bar}</div><div class="key">{key}</div>'
        f"{_chart(_timeline(account, nodes[:MOST_NODES], made))}{more}</section>"
    )


def _natural(name: str) -> tuple[str, int]:
    digits = len(name) - len(name.rstrip("0123456789"))
    return (name[: len(name) - digits], int(name[len(name) - digits :] or 0)) if digits < 18 else (name, 0)


def _timeline(account: ReservationAccount, nodes: list[str], made: Statement) -> go.Figure:
    figure = go.Figure()
    finest = (made.until - made.since).total_seconds() / FINEST
    for use, colour in COLOURS.items():
        drawn: list[tuple[str, Span]] = [(node, s) for node in nodes for s in account.by_node[node].get(use, ())]
        if len(drawn) > MANY:
            drawn = [(node, s) for node, s in drawn if s[1] - s[0] >= finest]
        figure.add_bar(
            y=[escape(node) for node, _ in drawn],
            base=[_local(s[0]) for _, s in drawn],
            x=[(s[1] - s[0]) * 1000 for _, s in drawn],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            name=WORDS[use],
            customdata=[span(s[1] - s[0]) for _, s in drawn],
            hovertemplate="%{y}: " + WORDS[use] + ", %{customdata} from %{base}<extra></extra>",
        )
    figure.update_layout(barmode="overlay", bargap=0.18, height=90 + 26 * max(len(nodes), 2), showlegend=False)
    figure.update_xaxes(type="date", range=[_local(made.since.timestamp()), _local(made.until.timestamp())], nticks=6)
    figure.update_yaxes(
        autorange="reversed", type="category", categoryorder="array", categoryarray=list(map(escape, nodes))
    )
    return figure


def _waits(report: Report) -> str:
    started = [wait for wait in report.waits if wait.started is not None]
    if not started:
        return "<section><h2>Owners' waits</h2><p>No owner's job was seen to start.</p></section>"
    figure = go.Figure()
    for needed, colour, words in ((False, "#a0aec0", "nobody had to go"), (True, "#dd6b20", "lent nodes came back")):
        some = [wait for wait in started if wait.needed is needed]
        figure.add_scatter(
            x=[_local(wait.started.timestamp()) for wait in some if wait.started],
            y=[wait.seconds for wait in some],
            mode="markers",
            marker={"color": colour, "size": 9, "line": {"color": "#fff", "width": 1}},
            name=words,
            customdata=[_of_wait(wait) for wait in some],
            hovertemplate="%{customdata}: %{y:.1f} s<extra></extra>",
        )
    for bound, names in sorted(_bounds(started).items()):
        figure.add_hline(
            y=bound,
            line={"color": COLOURS["down"], "dash": "dot", "width": 1.5},
            annotation_text=f"promised: {escape(', '.join(names))}",
            annotation_font={"size": 11, "color": COLOURS["down"]},
        )
    figure.update_layout(height=300, legend=_LEGEND)
    figure.update_yaxes(title_text="seconds", rangemode="tozero")
    made = report.statement
    figure.update_xaxes(type="date", range=[_local(made.since.timestamp()), _local(made.until.timestamp())], nticks=6)
    rows = []
    for p in report.promises:
        figures = (p.taken_back.median, p.taken_back.p95, p.taken_back.most)
        waits = [span(x) if p.taken_back.count else "-" for x in figures]
        rows.append([p.reservation, str(p.starts.count), str(p.taken_back.count), *waits, str(len(p.breaches))])
    late = "".join(f"<li>{escape(about_wait(w))}</li>" for p in report.promises for w in p.breaches[:20])
    titles = ("reservation", "starts", "took nodes back", "median", "p95", "longest", "too long")
    return f"<section><h2>Owners' waits</h2>{_chart(figure)}{_table(titles, rows)}<ul>{late}</ul></section>"


def _bounds(waits: Iterable[WaitFact]) -> dict[float, list[str]]:
    """What is promised now, and for which reservations."""
    latest = {wait.reservation: wait.bound for wait in sorted(waits, key=lambda wait: wait.eligible)}
    found: dict[float, list[str]] = {}
    for name, bound in sorted(latest.items()):
        found.setdefault(bound, []).append(name)
    return found


def _of_wait(wait: WaitFact) -> str:
    return escape(f"job {wait.job} of {printable(wait.user, 40)}")


def _borrowers(made: Statement) -> str:
    if not made.borrowers:
        return "<section><h2>Borrowers</h2><p>Nothing was lent.</p></section>"
    most = sorted(made.borrowers, key=lambda each: -each.received)[:20]
    users = [escape(printable(each.user, 24)) for each in most]
    figure = go.Figure()
    kept = [(each.received - each.lost) / HOUR for each in most]
    figure.add_bar(y=users, x=kept, orientation="h", name="kept", marker={"color": COLOURS["lent"]})
    lost = [each.lost / HOUR for each in most]
    figure.add_bar(y=users, x=lost, orientation="h", name="lost at most", marker={"color": "#dd6b20"})
    height = 110 + 30 * len(most)
    figure.update_layout(barmode="stack", height=height, legend=_LEGEND)
    figure.update_xaxes(title_text="node-hours", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", type="category")
    rows = [
        [printable(b.user, 40), str(b.loans), f"{b.received / HOUR:,.2f}", f"{b.lost / HOUR:,.2f}", str(b.evictions)]
        for b in most
    ]
    titles = ("borrower", "runs", "node-hours", "lost at most", "evicted")
    why = "<p>What was lost is at most the run that was ended for others: a job that saves its work loses less.</p>"
    return f"<section><h2>Borrowers</h2>{why}{_chart(figure)}{_table(titles, rows)}</section>"


def _table(titles: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _chart(figure: go.Figure) -> str:
    figure.update_layout(
        template="plotly_white", margin={"l": 8, "r": 8, "t": 24, "b": 8}, autosize=True, dragmode=False,
        font={"family": "system-ui, Segoe UI, Roboto, sans-serif", "size": 12},
    )  # fmt: skip
    figure.update_yaxes(automargin=True)
    figure.update_xaxes(automargin=True)
    config = {"responsive": True, "displayModeBar": False, "displaylogo": False}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=config, default_width="100%")
    return f'<div class="chart">{drawn}</div>'


def _local(seconds: float) -> str:
    """As plotly takes a time: without a zone, here this machine's."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
