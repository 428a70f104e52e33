"""What the race found: which of gramian's results compare with which peer's, as tables."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from inputs import KINDS, TIMED_AS, Judgement

# A peer's error may be exceeded by this much: what two roads to the same polynomial differ by
# through bfloat16 rounding alone.
SLACK = 1.02
CLOCKS = ("stream", "graph")


@dataclass(frozen=True)
class Comparison:
    """gramian against one peer: both times at the peer's error or better."""

    peer: str
    peer_ms: float
    ours: str | None  # None: no number of steps is that accurate
    ours_ms: float

    @property
    def ratio(self) -> float:
        return self.peer_ms / self.ours_ms if self.ours else 0.0


@dataclass
class Row:
    """Everything about one shape."""

    shape: str
    judged: int
    ours: list[str] = field(default_factory=list)
    # By the kind that was timed, then contestant, then clock.
    ms: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    quality: dict[str, dict[str, Judgement]] = field(default_factory=dict)  # by kind, contestant
    failed: dict[str, str] = field(default_factory=dict)

    def time(self, name: str, clock: str, kind: str) -> float | None:
        return self.ms.get(TIMED_AS[kind], {}).get(name, {}).get(clock)

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for by_name in self.ms.values() for name in by_name))

    def comparisons(self, kind: str, clock: str) -> list[Comparison]:
        """One for each peer that has a time and a finite error."""
        quality, found = self.quality.get(kind, {}), []
        for peer in self.names():
            peer_ms = self.time(peer, clock, kind)
            if peer in self.ours or peer_ms is None or peer not in quality:
                continue
            limit = SLACK * quality[peer].error
            if not math.isfinite(limit):
                continue
            good = [
                (ms, name)
                for name in self.ours
                if (ms := self.time(name, clock, kind)) is not None
                and name in quality
                and quality[name].error <= limit
            ]
            ms, name = min(good, default=(math.inf, None))
            found.append(Comparison(peer, peer_ms, name, ms))
        return found

    def headline(self, kind: str, clock: str) -> Comparison | None:
        """Against the fastest peer."""
        return min(self.comparisons(kind, clock), key=lambda c: c.peer_ms, default=None)

    def hardest(self, kind: str, clock: str) -> Comparison | None:
        """Against the peer that gramian leads least, or trails most."""
        return min(self.comparisons(kind, clock), key=lambda c: c.ratio, default=None)

    def to_json(self) -> dict:
        return {
            **asdict(self),
            "comparisons": {
                kind: {
                    clock: [{**asdict(c), "ratio": c.ratio} for c in self.comparisons(kind, clock)]
                    for clock in CLOCKS
                }
                for kind in self.quality
            },
        }


Table = list[list[str]]


def measured(row: Row) -> Table:
    """Times and, for each kind, the error and the range of the result's singular values."""
    table = [["", "stream ms", "graph ms", "on rank1", *KINDS]]
    for name in [*row.names(), *(n for n in row.failed if n not in row.names())]:
        cells = [name]
        for clock in CLOCKS:
            ms = row.time(name, clock, "gaussian")
            cells.append("-" if ms is None else f"{ms:.4g}")
        pairs = [
            (row.time(name, clock, "rank1"), row.time(name, clock, "gaussian")) for clock in CLOCKS
        ]
        changes = [f"{100 * (b / a - 1):+.0f}%" for b, a in pairs if a and b]
        cells.append(" ".join(changes) or "-")
        for kind in KINDS:
            q = row.quality.get(kind, {}).get(name)
            cells.append(f"{q.error:.4f} [{q.low:.3f}, {q.high:.3f}]" if q else "-")
        table.append(cells)
    return table


def against_each(row: Row) -> Table:
    """How many times as fast gramian is as each peer, at that peer's error or better."""
    table = [["peer", *(f"{kind}, {clock}" for kind in KINDS for clock in CLOCKS)]]
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for kind in KINDS:
        for clock in CLOCKS:
            fastest = row.headline(kind, clock)
            for c in row.comparisons(kind, clock):
                text = f"{c.ratio:.2f} ({c.ours.rsplit('-')[-1]})" if c.ours else "none"
                text += " *" * (fastest is not None and c.peer == fastest.peer)
                cells.setdefault(c.peer, {})[kind, clock] = text
    for peer, by in cells.items():
        table.append([peer, *(by.get((k, c), "-") for k in KINDS for c in CLOCKS)])
    return table


def summary(rows: list[Row]) -> Table:
    """The headline ratio of every row and kind, and the least over all peers in brackets."""
    table = [["shape", *(f"{kind}, {clock}" for kind in KINDS for clock in CLOCKS)]]
    for row in rows:
        cells = [row.shape]
        for kind in KINDS:
            for clock in CLOCKS:
                head, hard = row.headline(kind, clock), row.hardest(kind, clock)
                cells.append(f"{head.ratio:.2f} [{hard.ratio:.2f}]" if head and hard else "-")
        table.append(cells)
    means = ["geometric mean"]
    for kind in KINDS:
        for clock in CLOCKS:
            heads = [h.ratio for row in rows if (h := row.headline(kind, clock)) is not None]
            usable = heads and min(heads) > 0
            means.append(f"{math.prod(heads) ** (1 / len(heads)):.2f}" if usable else "-")
    return [*table, means]


def losses(rows: list[Row]) -> list[str]:
    """Every comparison that is not won, and every contestant of ours that failed."""
    found = []
    for row in rows:
        for name, reason in row.failed.items():
            if name.startswith("gramian"):
                found.append(f"{row.shape}: {name} failed: {reason}")
        for kind in row.quality:
            for clock in CLOCKS:
                for c in row.comparisons(kind, clock):
                    where = f"{row.shape}, {kind}, {clock}, {c.peer} ({c.peer_ms:.4g} ms)"
                    if c.ours is None:
                        found.append(f"{where}: no number of steps is as accurate")
                    elif c.ratio <= 1:
                        found.append(f"{where}: {c.ours} takes {c.ours_ms:.4g} ms")
    return found


def text(table: Table, markdown: bool) -> str:
    if markdown:
        lines = [
            "| " + " | ".join(cell.replace("*", "\\*") for cell in row) + " |" for row in table
        ]
        return "\n".join([lines[0], "|---|" + "--:|" * (len(table[0]) - 1), *lines[1:]]) + "\n"
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def report(rows: list[Row], title: str, markdown: bool) -> str:
    head = "## " if markdown else ""
    parts = [title + "\n"]
    for row in rows:
        parts.append(f"{head}{row.shape} (errors over the first {row.judged} of its matrices)\n")
        parts += [text(measured(row), markdown), text(against_each(row), markdown)]
        parts += [f"{name} failed: {reason}\n" for name, reason in row.failed.items()]
    parts += [
        f"{head}Against the fastest peer [least against any]\n",
        text(summary(rows), markdown),
    ]
    lost = losses(rows)
    parts.append("\n".join(["Not won:", *(f"- {line}" for line in lost)] if lost else ["All won."]))
    return "\n".join(parts) + "\n"
