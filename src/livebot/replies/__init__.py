"""What the bot says to an event.

* `templates`: sentences filled in, one of several picked at random.
* `model`: sentences a language model writes, as they come.
* `sentences`: cuts a stream of text into sentences.
* `circuit`: when to leave a failing model alone, and how often it may be asked at all.
"""

from livebot.replies.circuit import Budget, Circuit
from livebot.replies.model import ModelStatistics, ModelUnavailable, ModelWriter
from livebot.replies.sentences import SentenceCutter
from livebot.replies.templates import TemplateWriter

__all__ = [
    "Budget",
    "Circuit",
    "ModelStatistics",
    "ModelUnavailable",
    "ModelWriter",
    "SentenceCutter",
    "TemplateWriter",
]
