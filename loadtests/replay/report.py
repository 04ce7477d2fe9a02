"""A verdict as one page of HTML that needs nothing else: no script, no network, light and dark, also on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from loadtests.replay.charts import Line, time_chart, value_chart
from loadtests.replay.histogram import Histogram
from loadtests.replay.verdict import Verdict

__all__ = ["write_report"]

_SHARES = (50.0, 75.0, 90.0, 99.0, 99.9, 100.0)
_TIMES = ("connect", "subscribe", "reply", "first_token", "inter_token", "added", "reconnect", "rest", "lag")
_FAULTS = ("lost", "doubled", "reordered", "leaked", "unfinished", "receipts_wrong", "epoch_changes", "after_terminal")
_STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5c6b7d;--line:#dfe4ea;
--a:#0b7285;--b:#d9480f;--c:#5f3dc4;--d:#2b8a3e;--e:#a61e4d;--f:#846200;--good:#2b8a3e;--bad:#c92a2a}
@media(prefers-color-scheme:dark){:root{--page:#10151b;--card:#19212a;--ink:#e6ebf1;--soft:#9aa8b8;--line:#2b3642;
--a:#3bc9db;--b:#ff922b;--c:#b197fc;--d:#69db7c;--e:#f783ac;--f:#ffd43b;--good:#69db7c;--bad:#ff8787}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px 16px 48px}h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:16px;margin:28px 0 10px}p{margin:4px 0;color:var(--soft)}.state{font-weight:650;color:var(--good)}
.state.bad{color:var(--bad)}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;
margin:16px 0}.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 12px}
.tile b{display:block;font-size:20px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tile span{color:var(--soft);font-size:13px}.tile.bad b{color:var(--bad)}.tile.good b{color:var(--good)}
.plots{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(min(330px,100%),1fr))}figure{margin:0;background:var(--card);
border:1px solid var(--line);border-radius:10px;padding:10px 12px;min-width:0}figcaption{font-weight:600;font-size:14px}
figcaption small,.legend{color:var(--soft);font-weight:400;font-size:12.5px}svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:10.5px}.grid{stroke:var(--line);stroke-width:1}
polyline{fill:none;stroke-width:1.7;stroke-linejoin:round}.legend{display:flex;flex-wrap:wrap;gap:2px 12px}
.legend i{display:inline-block;width:12px;height:3px;
margin-right:5px;vertical-align:middle;border-radius:2px}.scroll{overflow-x:auto;background:var(--card);
border:1px solid var(--line);border-radius:10px}table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;
white-space:nowrap}th:first-child,td:first-child{text-align:left;white-space:normal;min-width:8.5em;overflow-wrap:break-word}
tr:last-child td{border-bottom:0}
"""
_COLOURS = "".join(
    f"polyline.l{number}{{stroke:var(--{letter})}}i.l{number}{{background:var(--{letter})}}"
    for number, letter in enumerate("abcdef")
)


def write_report(verdict: Verdict, name: str) -> str:
    """Return the page. ``name`` is the session's; what a server has said in close reasons and the like is escaped."""
    title = f"Replay of {name}"
    state = "The figures can be trusted." if verdict.get("valid") else "Void: the figures can't be trusted."
    notes = [*(verdict.get("doubts") or ()), *(verdict.get("warnings") or ())]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{_COLOURS}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{_how(verdict)}"
        f'<p class="state{"" if verdict.get("valid") else " bad"}">{state}</p>'
        + "".join(f"<p>{escape(str(each))}</p>" for each in notes)
        + _tiles(verdict) + _plots(verdict) + _percentiles(verdict) + _servers(verdict) + _counts(verdict)
        + "</main></body></html>\n"
    )  # fmt: skip


def _how(verdict: Verdict) -> str:
    options: Mapping[str, Any] = verdict.get("options") or {}
    processes = options.get("processes", 1)
    words = [f"{options.get('clients', 0):,} clients", f"pace {options.get('pace')}", f"speed {options.get('speed')}",
             f"{processes} process{'es' if processes != 1 else ''}", f"{verdict.get('seconds', 0):.1f} s"]  # fmt: skip
    if options.get("drop_every"):
        words.append(f"a drop every {options['drop_every']:g} s for {options['offline']:g} s")
    words += [f"storm at {at:g} s" for at in options.get("storms") or ()]
    if (slow := options.get("slow")) is not None:
        words.append(f"{slow['share']:.0%} read {slow['rate']:g} bytes/s")
    return f"<p>{escape(', '.join(words))}</p><p>{escape(', '.join(options.get('urls') or ()))}</p>"


def _tiles(verdict: Verdict) -> str:
    get = verdict.get
    tiles = [("delivered", f"{get('delivered', 0):,}", ""), ("expected", f"{get('expected', 0):,}", "")]
    tiles += [(name.replace("_", " "), f"{get(name, 0):,}", "bad" if get(name, 0) else "good") for name in _FAULTS]
    tiles += [
        ("receipts right", f"{get('receipts_right', 0):,}", ""),
        (f"resumes right, of {get('resumes', 0):,}", f"{get('resumes_right', 0):,}",
         "bad" if get("resumes", 0) > get("resumes_right", 0) else ""),
        ("gaps announced", f"{get('gaps', 0):,}", ""),
        ("drops", f"{get('drops', 0):,}", ""),
        ("closed by the server", f"{get('lost_sockets', 0):,}", ""),
        ("messages/s", f"{get('messages_per_second', 0):,.0f}", ""),
        ("bytes/message", f"{get('bytes_per_message', 0):,.0f}", ""),
    ]  # fmt: skip
    inside = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for label, value, kind in tiles
    )
    return f'<div class="tiles">{inside}</div>'


def _plots(verdict: Verdict) -> str:
    series: Mapping[str, Mapping[str, float]] = verdict.get("series") or {}
    last = max((int(at) for each in series.values() for at in each), default=0)

    def full(name: str, label: str) -> Line:
        values = series.get(name) or {}
        return label, [(at, float(values.get(str(at), 0))) for at in range(last + 1)] if values else []

    added = [(int(at), Histogram.from_json(each)) for at, each in (verdict.get("added_by_second") or {}).items()]
    added.sort(key=lambda item: item[0])
    by_share: list[Line] = [
        (f"p{share:g}", [(float(at), each.percentile(share) / 1000) for at, each in added]) for share in (50.0, 99.0)
    ]
    servers: Mapping[str, Mapping[str, Any]] = verdict.get("servers") or {}
    curves = {
        name.replace("_", " "): _curve(verdict, name) for name in ("first_token", "added", "reconnect", "connect")
    }
    plots = [
        time_chart("Received", "per second", [full("messages", "messages"), full("tokens", "events with text")]),
        time_chart("Sockets", "open", [full("open", "open")]),
        time_chart("Added latency", "ms, by second", by_share),
        time_chart("Broken and mended", "per second",
                   [full("drops", "drops"), full("resumes", "back"), full("lost", "lost offsets")]),
        value_chart("Latency by percentile", "ms, logarithmic", curves),
        time_chart("Server CPU", "% of a core", _of_servers(servers, "cpu_by_second", 100)),
        time_chart("Server memory", "MB", _of_servers(servers, "memory_by_second", 1e-6)),
    ]  # fmt: skip
    return f'<h2>Over time</h2><div class="plots">{"".join(plots)}</div>'


def _curve(verdict: Verdict, name: str) -> list[tuple[str, float]]:
    told = (verdict.get("histograms") or {}).get(name)
    if not told or not told.get("buckets"):
        return []
    values = Histogram.from_json(told).percentiles(_SHARES)
    return [(f"{share:g}", value / 1000) for share, value in zip(_SHARES, values, strict=True)]


def _of_servers(servers: Mapping[str, Mapping[str, Any]], name: str, factor: float) -> list[Line]:
    return [(server, _by_second(each[name], factor)) for server, each in servers.items()]


def _by_second(values: Mapping[str, float], factor: float) -> list[tuple[float, float]]:
    return [(float(at), value * factor) for at, value in sorted(values.items(), key=lambda item: int(item[0]))]


def _percentiles(verdict: Verdict) -> str:
    rows = []
    for name in _TIMES:
        told = (verdict.get("histograms") or {}).get(name)
        if told and told.get("buckets"):
            histogram = Histogram.from_json(told)
            values = histogram.percentiles(_SHARES)
            label = "this program's own lag" if name == "lag" else name.replace("_", " ")
            rows.append([label, f"{histogram.count:,}", *(f"{value / 1000:,.1f}" for value in values)])
    heads = ("ms", "count", *(f"p{share:g}" if share < 100 else "most" for share in _SHARES))
    return _section("Times", heads, rows)


def _servers(verdict: Verdict) -> str:
    rows = []
    for name, each in (verdict.get("servers") or {}).items():
        memory = (f"{each[which] / 1e6:,.1f}" for which in ("memory_first", "memory_last", "memory_most"))
        rows.append([name, f"{each['cpu_share']:.0%}", *memory])
    for number, each in enumerate(verdict.get("generator") or ()):
        lag = f"own lag p99 {each['lag_p99']:.1f} ms"
        rows.append(
            [f"load process {number}, {lag}", f"{each['cpu_share']:.0%}", "", "", f"{each['memory'] / 1e6:,.1f}"]
        )
    return _section("Processes", ("", "CPU", "MB at first", "at last", "most"), rows)


def _counts(verdict: Verdict) -> str:
    titles = {"close_codes": "Closed by the server", "gap_reasons": "Gaps announced",
              "refusals": "Connections refused", "errors": "Error answers",
              "divergences": "Other than recorded"}  # fmt: skip
    found = ""
    for name, title in titles.items():
        counts = sorted((verdict.get(name) or {}).items(), key=lambda item: -item[1])
        found += _section(title, ("what", "how often"), [[what, f"{count:,}"] for what, count in counts])
    return found


def _section(title: str, heads: Iterable[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<h2>{escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
