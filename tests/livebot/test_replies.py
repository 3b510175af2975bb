import pytest
from pydantic import ValidationError

from livebot.config import ReplySettings
from livebot.messages import Chat, Fansclub, Gift, Like, Member, Social, User
from livebot.replies import TemplateWriter

ANNA = User(id="1", name="安娜")


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (Chat(id="1", user=ANNA, text="晚上好"), "安娜说，晚上好"),
        (Member(id="1", user=ANNA), "欢迎安娜"),
        (Social(id="1", user=ANNA, action="follow"), "感谢安娜的关注"),
        (Social(id="1", user=ANNA, action="share"), "感谢安娜的分享"),
        (Fansclub(id="1", user=ANNA, action="join"), "感谢安娜支持粉丝团"),
    ],
)
def test_each_kind_has_its_sentence(event, sentence):
    assert TemplateWriter(ReplySettings()).write(event) == sentence


def test_one_of_several_templates_is_picked():
    writer = TemplateWriter(ReplySettings(), seed=1)
    gift = Gift(id="1", gift_id="1", user=ANNA, name="小心心", repeat_count=3)
    assert {writer.write(gift) for _ in range(50)} == {
        "感谢安娜送的3个小心心",
        "谢谢安娜的小心心，3个",
    }


def test_a_kind_without_templates_is_not_spoken():
    assert TemplateWriter(ReplySettings(chat=())).write(Chat(id="1", user=ANNA, text="a")) is None
    assert TemplateWriter(ReplySettings()).write(Like(id="1", user=ANNA)) is None


def test_a_viewers_text_is_never_taken_for_a_template():
    event = Chat(id="1", user=User(id="2", name="{text}"), text="{name.__class__}")
    said = TemplateWriter(ReplySettings()).write(event)
    assert said == "{text}说，{name.__class__}"


def test_somebody_without_a_name_is_somebody():
    assert TemplateWriter(ReplySettings()).write(Member(id="1")) == "欢迎有人"


@pytest.mark.parametrize("template", ["{nmae}说", "{text.__class__}", "{", "{0}"])
def test_a_template_that_cannot_be_filled_is_refused_with_what_it_may_hold(template):
    with pytest.raises(ValidationError, match=r"may hold \{name\} and \{text\}"):
        ReplySettings(chat=(template,))
