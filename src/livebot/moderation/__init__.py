"""What of a room's events is worth saying: filters, gift combos, cool-downs, ranks.

Events in, verdicts out: nothing leaves without an outcome and, where it is not spoken, a reason.

- `Moderator`: judges events, from any thread.
- `Rules`: what it goes by.
- `clean`: a viewer's text as it may be read aloud or shown to a model.
"""

from __future__ import annotations

from livebot.moderation.moderator import (
    LEVELS,
    ModerationStatistics,
    Moderator,
    Outcome,
    Verdict,
)
from livebot.moderation.rules import Rules
from livebot.moderation.text import clean

__all__ = ["LEVELS", "ModerationStatistics", "Moderator", "Outcome", "Rules", "Verdict", "clean"]
