"""Text made fit to be read aloud."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebot.speech import language_of, normalised


@pytest.mark.parametrize(
    ("typed", "spoken"),
    [
        ("谢谢小明[玫瑰][玫瑰]😀😀", "谢谢小明"),
        ("哈哈哈哈哈哈哈哈哈", "哈哈哈"),
        ("好！！！！！！", "好!"),
        ("6666666666", "六六六"),
        ("主播厉害主播厉害主播厉害主播厉害主播厉害", "主播厉害主播厉害"),
        ("[[h@l'oU]]你好", "你好"),
        ("［［h@l'oU］］你好", "你好"),
        ("你好[[h@l'oU", "你好"),
        ("看 https://example.com/x?y=1 这里", "看 这里"),
        ("꧁༺小明༻꧂来了", "小明 来了"),
        ("z̸͓̈a̷l̴g̵o", "zalgo"),
        ("小\u200b明\u202e", "小明"),
        ("海の女儿", "海的女儿"),
        ("今天25℃", "今天25度"),
        ("我爱你520", "我爱你五二零"),
        ("打100分", "打100分"),
        ("电话13812345678", "电话一三八一二三四五六七八"),
        ("编号007", "编号零零七"),
        ("主播PK吗", "主播 P K 吗"),
        ("yyds主播", "Y Y D S 主播"),
        ("来自Beijing的朋友", "来自Beijing的朋友"),
        ("Ｈｅｌｌｏ", "Hello"),
        ("😀😀😀", ""),
        ("!!!???", ""),
        ("[玫瑰]", ""),
        ("", ""),
    ],
)
def test_what_is_typed_becomes_what_is_spoken(typed, spoken):
    assert normalised(typed) == spoken


def test_a_long_text_is_cut_at_a_pause():
    assert normalised("第一句话在这里。第二句话也在这里", limit=12) == "第一句话在这里"
    assert normalised("一" + "二三四五六七八九十" * 5, limit=10) == "一二三四五六七八九十"


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        normalised("x", limit=0)


@given(st.text(max_size=300))
def test_nothing_unspeakable_is_left(text):
    spoken = normalised(text, limit=100)
    assert len(spoken) <= 100
    assert not set("[]<>{}\\\n\r\t\x00") & set(spoken)
    assert spoken == "" or any(map(str.isalnum, spoken))


@given(st.text(alphabet="哈6![]a 😀\u200d０P", max_size=60))
def test_walls_are_broken(text):
    spoken = normalised(text)
    assert not any(character * 5 in spoken for character in "哈6!aP")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("你好", "zh"),
        ("主播say hello", "zh"),
        ("海の女儿", "zh"),
        ("こんにちは世界", "ja"),
        ("안녕하세요", "ko"),
        ("hello", "en"),
        ("666", "zh"),
    ],
)
def test_the_language_of_a_text(text, language):
    assert language_of(text) == language
