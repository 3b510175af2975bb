"""What becomes of an event when the parts round the answering fail."""

import pytest

from livebot.answering import Answering
from livebot.config import Settings
from livebot.ledger import Ledger
from livebot.messages import Chat, User
from livebot.replies import ModelUnavailable
from threadkit import DynamicThreadPool, ErrorLog


class Model:
    """Gives out these sentences, then fails."""

    def __init__(self, *sentences):
        self._given = sentences

    def sentences(self, *_args, **_options):
        yield from self._given
        raise ModelUnavailable("cut off")


@pytest.mark.parametrize("model", [None, Model(), Model("你好！")], ids=["none", "mute", "cut"])
def test_an_event_that_cannot_be_handed_on_is_counted_as_an_error(model):
    def refuse(entry, priority):
        raise OSError("no voice")

    ledger = Ledger()
    with DynamicThreadPool(max_workers=1) as pool:
        answering = Answering(
            Settings(),
            ledger=ledger,
            errors=ErrorLog(),
            model_pool=pool,
            expect=len,
            say=refuse,
        )
        answering.model = model
        answering.answer(ledger.admit(Chat(id="1", user=User(id="1", name="小鱼"), text="在吗")))
    assert ledger.statistics().dropped == {"error while answering": 1}
    assert ledger.statistics().pending == 0
