import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from livebot.config import (
    ConfigError,
    ReplySettings,
    Settings,
    SettingsFile,
    WebSettings,
    commented,
    load,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def write(tmp_path):
    def writing(text):
        path = tmp_path / "livebot.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return writing


def test_what_a_file_leaves_out_has_its_default(write):
    settings = load(write("[voice]\nrate = 180\n"))
    assert settings.voice.rate == 180
    assert settings.voice.workers == Settings().voice.workers
    assert settings.pipeline == Settings().pipeline


def test_the_commented_file_is_the_defaults(write):
    assert load(write(commented())) == Settings()


def test_the_commented_file_explains_every_key():
    lines = commented().splitlines()
    data = tomllib.loads(commented())
    templates = {"chat", "gift", "like", "member", "follow", "share", "fansclub"}
    for section, keys in data.items():
        for key in set(keys) - templates:
            at = next(n for n, line in enumerate(lines) if line.startswith(f"{key} ="))
            assert lines[at - 1].startswith("#"), f"{section}.{key} is not explained"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[voice]\nrate = 9000", "voice.rate: Input should be less than or equal to 450, not 9000"),
        ("[voice]\nrat = 200", "voice.rat: there is no such key; there are cache_bytes"),
        ("[web]\nport = 70000", "web.port: Input should be less than or equal to 65535, not 70000"),
        ("[web]\nhost = ''", "web.host: String should have at least 1 character, not ''"),
        ("[voise]\n", "voise: there is no such key; there are feed, model"),
        ("[feed]\nkind = 'twitch'", "'douyin', 'barrage_grab' or 'douyin_live', not 'twitch'"),
        ("[replies]\nchat = ['{nmae}']", "'{nmae}' may hold {name} and {text}"),
        (
            "[replies]\nlike = ['{count:d}']",
            "'{count:d}' may hold {name} and {count}, without a con",
        ),
        ("[replies]\nchat = ['{name!z}']", "'{name!z}' may hold {name} and {text}, without a conv"),
        ("[replies]\nchat = ['{name:{text}}']", "may hold {name} and {text}, without a conversion"),
        ("[replies]\nchat = ['{name:*^9}']", "may hold {name} and {text}, without a conversion or"),
        ("[replies]\nchat = ['{name!r}']", "may hold {name} and {text}, without a conversion or a"),
        ("[replies]\nchat = ['{name.x}']", "may hold {name} and {text}, without a conversion or a"),
        ("[replies]\nchat = ['{}']", "'{}' may hold {name} and {text}, without a conversion or a"),
        ("[replies]\nchat = ['{name']", "it may hold {name} and {text}, without a conversion or a"),
        (
            "[model]\nper_minute = -1",
            "model.per_minute: Input should be greater than or equal to 0",
        ),
        ("[model]\nbase_url = 'http://[::1'", "model.base_url: Value error, must be an address"),
        ("[model]\nbase_url = 'localhost:11434'", "such as http://127.0.0.1:11434/v1, not 'local"),
        ("[model]\nbase_url = 'http://a b/v1'", "model.base_url: "),
        ("[model]\nbase_url = 'http://a:99999/v1'", "model.base_url: "),
        ("[model]\nbase_url = ''", "model.base_url: "),
        ("voice = 3", "voice: "),
        ("[voice\n", "is not TOML"),
    ],
)
def test_a_wrong_key_is_named_with_what_may_stand_there(write, text, complaint):
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("value", ["'0123456789'", "17", "['fifteen-letters']"])
def test_a_token_that_cannot_be_used_is_told_without_showing_it(write, value):
    with pytest.raises(ConfigError, match=r"web\.token") as caught:
        load(write(f"[web]\ntoken = {value}\n"))
    assert value.strip("[']") not in str(caught.value)


def test_the_token_comes_from_the_settings_or_the_environment(write, monkeypatch):
    monkeypatch.delenv("LIVEBOT_TOKEN", raising=False)
    assert WebSettings().access_token() is None
    monkeypatch.setenv("LIVEBOT_TOKEN", "of the environment")
    assert WebSettings().access_token().get_secret_value() == "of the environment"
    own = load(write("[web]\ntoken = 'of the settings file'\n")).web
    assert own.access_token().get_secret_value() == "of the settings file"
    assert "of the settings file" not in repr(own)
    monkeypatch.setenv("LIVEBOT_TOKEN", "short")
    with pytest.raises(ConfigError, match="LIVEBOT_TOKEN must have at least 16 characters") as told:
        WebSettings().access_token()
    assert "'short'" not in str(told.value)


def test_all_mistakes_are_told_at_once(write):
    with pytest.raises(ConfigError) as caught:
        load(write("[voice]\nrate = 1\nvolume = 2\n[model]\ntimeout = 0\n"))
    assert all(key in str(caught.value) for key in ("voice.rate", "voice.volume", "model.timeout"))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"cannot read nowhere.toml: No such file"):
        load(Path("nowhere.toml"))


@pytest.mark.parametrize(
    "text", ["[replies]\nnobody = '某人'\n", "[replies]\r\nnobody = '某人'\r\n"]
)
def test_a_mark_at_the_beginning_and_windows_line_ends_are_read_over(tmp_path, text):
    path = tmp_path / "livebot.toml"
    path.write_bytes(text.encode("utf-8-sig"))
    assert load(path).replies.nobody == "某人"


def test_a_file_that_is_not_utf_8_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "livebot.toml"
    path.write_bytes("[replies]\nnobody = '某人'\n".encode("gbk"))
    with pytest.raises(ConfigError, match=r"livebot\.toml is not UTF-8: save it as UTF-8"):
        load(path)


class Watched:
    """A settings file under watch, and what it told; `refusal` is raised for settings."""

    def __init__(self, path, refusal=None):
        self.told = []
        self.refusal = refusal
        self.news = threading.Semaphore(0)
        self.file = SettingsFile(path, on_change=self._tell, on_error=self._tell)

    def _tell(self, what):
        refusal = None if isinstance(what, ConfigError) else self.refusal
        self.told.append(what)
        self.news.release()
        if refusal:
            raise refusal

    def __enter__(self):
        self.file.start()
        return self

    def __exit__(self, *exc_info):
        self.file.stop()


def test_a_changed_file_is_read_again(write):
    with Watched(write("[voice]\nvolume = 0.5\n")) as watched:
        write("[voice]\nvolume = 0.25\n")
        assert watched.news.acquire(timeout=30)
    assert watched.told[-1].voice.volume == 0.25
    assert watched.file.current == watched.told[-1]


def test_a_file_is_watched_again_after_a_restart(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"))
    with watched:
        pass
    with watched:
        write("[voice]\nvolume = 0.25\n")
        assert watched.news.acquire(timeout=30)
    assert watched.file.current.voice.volume == 0.25


def test_a_change_between_the_loading_and_the_watching_is_seen(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"))
    write("[voice]\nvolume = 0.25\n")
    with watched:
        assert watched.news.acquire(timeout=30)
    assert watched.file.current.voice.volume == 0.25


def test_a_replaced_file_is_read_again(write, tmp_path):
    with Watched(write("[voice]\nvolume = 0.5\n")) as watched:
        fresh = tmp_path / "livebot.toml.new"
        fresh.write_text("[voice]\nvolume = 0.75\n", encoding="utf-8")
        fresh.rename(tmp_path / "livebot.toml")
        assert watched.news.acquire(timeout=30)
    assert watched.told[-1].voice.volume == 0.75


def test_a_change_that_cannot_be_used_changes_nothing(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"))
    write("[voice]\nvolume = 5\n")
    watched.file.reload()
    assert isinstance(watched.told[0], ConfigError)
    assert watched.file.current.voice.volume == 0.5


def test_the_same_contents_are_no_news(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"))
    watched.file.reload()
    assert watched.told == []


def test_settings_that_are_refused_are_an_error_and_change_nothing(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"), ValueError("no such pattern: ("))
    write("[voice]\nvolume = 0.25\n")
    watched.file.reload()
    refused, error = watched.told
    assert refused.voice.volume == 0.25
    assert isinstance(error, ConfigError)
    assert str(error).endswith("livebot.toml cannot be used: no such pattern: (")
    assert watched.file.current.voice.volume == 0.5


def test_settings_that_were_refused_are_offered_again(write):
    watched = Watched(write("[voice]\nvolume = 0.5\n"), ValueError("not now"))
    write("[voice]\nvolume = 0.25\n")
    watched.file.reload()
    watched.refusal = None
    watched.file.reload()
    assert watched.file.current.voice.volume == 0.25


def test_a_listener_that_fails_is_logged_and_the_file_is_still_watched(write, caplog):
    failure = RuntimeError("the player is gone")
    with Watched(write("[voice]\nvolume = 0.5\n"), failure) as watched:
        write("[voice]\nvolume = 0.25\n")
        assert watched.news.acquire(timeout=30)
        watched.refusal = None
        write("[voice]\nvolume = 0.75\n")
        while watched.told[-1].voice.volume != 0.75:
            assert watched.news.acquire(timeout=30)
    assert watched.file.current.voice.volume == 0.75
    assert "the player is gone" in caplog.text
    assert "was not taken over" in caplog.text


TAILS = ("", ":", ":d", "!z", "!", ".x", "[0]", ":{name}", "{", "}")


@given(st.lists(st.sampled_from(TAILS), max_size=2).map(lambda t: "{name" + "".join(t) + "}"))
@example("{name:}")
@example("{{{name}}} }}")
def test_what_is_accepted_as_a_template_can_be_filled_in(template):
    try:
        accepted = ReplySettings(member=(template,)).member
    except ValidationError:
        return
    accepted[0].format(name="小明")
    assert accepted == (template,)


def test_piper_needs_to_be_told_where_its_voices_are(tmp_path):
    path = tmp_path / "livebot.toml"
    path.write_text('[voice]\nengine = "piper"\n')
    with pytest.raises(ConfigError, match=r"voice: .*piper_folder must say where the voices are"):
        load(path)
    path.write_text('[voice]\nengine = "festival"\n')
    with pytest.raises(ConfigError, match=r"voice\.engine: .*'pyttsx3', 'espeak' or 'piper'"):
        load(path)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "stall", "inf"),
        ("model", "timeout", "1e300"),
        ("moderation", "combo_idle", "inf"),
        ("moderation", "cool_down", "nan"),
        ("pipeline", "text_ttl", "1e12"),
        ("voice", "rest", "1e300"),
        ("voice", "lookahead", "1000000000"),
        ("voice", "workers", "100000"),
    ],
)
def test_what_no_clock_and_no_machine_can_hold_is_refused(tmp_path, section, key, value):
    path = tmp_path / "livebot.toml"
    path.write_text(f"[{section}]\n{key} = {value}\n")
    with pytest.raises(ConfigError, match=rf"{section}\.{key}: "):
        load(path)
