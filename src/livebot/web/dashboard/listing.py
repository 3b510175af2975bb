"""From what there is to see to rows of text, in one language. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from livebot.history import FeedChange, PoolChange
from livebot.view import ErrorView, EventView, ResourceView, View
from livebot.web.dashboard.rows import Row
from livebot.web.dashboard.words import Words
from threadkit import ManagerReport

__all__ = [
    "alarms",
    "component_rows",
    "drop_rows",
    "error_rows",
    "event_row",
    "feed_name",
    "feed_rows",
    "pool_rows",
    "queue_rows",
    "resource_rows",
]

_ICONS = {
    "chat": "chat_bubble_outline",
    "emoji": "sentiment_satisfied",
    "gift": "card_giftcard",
    "like": "favorite_border",
    "member": "login",
    "follow": "person_add_alt",
    "share": "share",
    "fansclub": "loyalty",
    "said": "campaign",
}
_STAGES = {"received": "queued", "processing": "looked at", "text": "queued", "speech": "speaking"}
_FEED = {
    "new": ("not connected yet", ""),
    "connecting": ("connecting", "lb-warn"),
    "connected": ("connected", "lb-good"),
    "waiting": ("waiting to reconnect", "lb-warn"),
    "ended": ("the broadcast is over", ""),
    "refused": ("refused by the room", "lb-bad"),
    "stopped": ("disconnected", ""),
}
_SEVERE = {"info": "", "warning": "warn"}
_STATES = {"running": "good", "failed": "bad", "abandoned": "bad", "degraded": "warn"}


def event_row(event: EventView, words: Words) -> Row:
    """One event, and what became of it."""
    if event.stage == "ended":
        spoken = event.fate == "spoken"
        badge, tone = words.reason(event.fate), "good" if spoken else "faded"
    else:
        badge = words(_STAGES.get(event.stage, event.stage))
        tone = "live" if event.stage == "speech" else "warn"
    return {
        "n": event.number,
        "at": event.at,
        "icon": _ICONS.get(event.kind, "bolt"),
        "title": event.user,
        "text": _words_of(event, words),
        "note": f"“{event.said}”" if event.said else "",
        "badge": badge,
        "tone": tone,
        "act": event.user_id,
        "actIcon": "block",
        "hint": words("Block {user}", user=event.user),
    }


def _words_of(event: EventView, words: Words) -> str:
    if event.kind in ("chat", "said"):
        return event.text
    text = event.text or words(event.kind)
    return f"{text} × {event.count}" if event.count > 1 else text


def queue_rows(queued: Sequence[EventView], words: Words) -> list[Row]:
    """What waits to be spoken, the next one first."""
    return [
        {
            "n": event.number,
            "icon": _ICONS.get(event.kind, "bolt"),
            "title": event.user,
            "text": _words_of(event, words),
            "badge": words("priority {level}", level=event.priority),
            "since": event.since.get("text", event.at),
        }
        for event in queued
    ]


def drop_rows(view: View, words: Words) -> list[Row]:
    """Why events were not spoken, the most frequent reason first."""
    counts: dict[str, int] = {}
    for reason, count in view.ledger.dropped.items():
        said = words.reason(reason)
        counts[said] = counts.get(said, 0) + count
    most = max(counts.values(), default=1)
    return [
        {"n": said, "text": said, "badge": f"{count:,}", "share": count / most}
        for said, count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def feed_name(state: str, words: Words) -> tuple[str, str]:
    """A state of the connection in words, and the class of its colour."""
    name, tone = _FEED.get(state, (state, ""))
    return words(name), tone


def feed_rows(changes: Sequence[FeedChange], words: Words) -> list[Row]:
    """What the connection did, the latest first."""
    return [
        {
            "n": len(changes) - index,
            "at": change.at,
            "title": feed_name(change.state.value, words)[0],
            "note": change.sentence,
            "tone": feed_name(change.state.value, words)[1].removeprefix("lb-"),
        }
        for index, change in enumerate(reversed(changes))
    ]


def pool_rows(changes: Sequence[PoolChange]) -> list[Row]:
    """How pools changed their sizes, and why, the latest first."""
    return [
        {
            "n": f"{change.at} {change.pool}",
            "at": change.at,
            "title": change.pool,
            "text": f"{change.before} → {change.after}",
            "note": change.reason,
        }
        for change in reversed(changes)
    ]


def error_rows(errors: Sequence[ErrorView], words: Words) -> list[Row]:
    """Failures that look alike, each with the story of the first."""
    return [
        {
            "n": error.fingerprint,
            "at": error.last_seen,
            "title": error.type.rpartition(".")[2],
            "text": error.message,
            "note": " · ".join(filter(None, (error.component, error.task))),
            "badge": words("{count} ×", count=error.count),
            "tone": _SEVERE.get(error.severity, "bad"),
            "story": error.story,
            "more": words("the whole story"),
        }
        for error in errors
    ]


def component_rows(report: ManagerReport, words: Words) -> list[Row]:
    """The components as a tree; those of this manager itself can be restarted."""
    return list(_component_rows(report, words, "", 0))


def _component_rows(report: ManagerReport, words: Words, path: str, indent: int) -> Iterator[Row]:
    for part in report.components:
        notes = [part.error or "", part.doing or ""]
        if part.restarts:
            notes.append(words("restarted {count} times", count=part.restarts))
        yield {
            "n": path + part.name,
            "indent": indent,
            "icon": "account_tree" if part.group is not None else "",
            "title": part.name,
            "text": "" if not part.needs else f"← {', '.join(part.needs)}",
            "note": " · ".join(filter(None, notes)),
            "badge": words(part.state.value),
            "tone": _STATES.get(part.state.value, ""),
            "act": "" if path else part.name,
            "actIcon": "restart_alt",
            "hint": words("Restart {name}", name=part.name),
        }
        if part.group is not None:
            yield from _component_rows(part.group, words, f"{path}{part.name}/", indent + 1)


def resource_rows(resources: Sequence[ResourceView], words: Words) -> list[Row]:
    """How much of what is used, what is near its end, and when."""
    rows: list[Row] = []
    for resource in resources:
        left = resource.seconds_left
        alarm = resource.level in ("warn", "critical")
        notes = [words(resource.level)] if alarm else []
        if left is not None and left < _FORESEEN:
            notes.append(words("full in {time}", time=words.duration(left)))
        rows.append(
            {
                "n": resource.metric,
                "text": words(resource.metric),
                "note": " · ".join(notes),
                "badge": _amount(resource),
                "share": min(1.0, resource.used / resource.limit) if resource.limit else None,
                "tone": {"warn": "warn", "critical": "bad"}.get(resource.level, ""),
            }
        )
    return rows


_FORESEEN = 6 * 3600.0  # seconds; an end farther away is more noise than news


def alarms(view: View, words: Words) -> list[str]:
    """What needs somebody's eyes now: resources near their end, parts that are not well."""
    found = [
        f"{words(resource.metric)}: {words(resource.level)}"
        for resource in view.resources
        if resource.level in ("warn", "critical")
    ]
    return found + [
        f"{part.name}: {words(part.state.value)}"
        for part in view.components.components
        if part.state.value in ("degraded", "backoff", "failed", "abandoned")
    ]


_BYTES = ("memory", "rss", "disk")
_SECONDS = "lag"


def _amount(resource: ResourceView) -> str:
    if resource.metric in _BYTES:
        used = f"{resource.used / 2**30:.2f}"
        return f"{used} / {resource.limit / 2**30:.1f} GiB" if resource.limit else f"{used} GiB"
    if resource.metric.startswith(_SECONDS):
        return f"{1000 * resource.used:.1f} ms"
    if resource.limit is None:
        return f"{resource.used:,.4g}"
    return f"{resource.used:.3g} / {resource.limit:,.6g}"
