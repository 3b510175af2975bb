"""Settings: frozen and validated. The only reader of files and environment.

* `settings`: every setting, its default and what may stand there.
* `files`: settings from TOML, read again when the file changes.
"""

from livebot.config.files import SettingsFile, commented, load
from livebot.config.settings import (
    FASTEST,
    SLOWEST,
    ConfigError,
    FeedSettings,
    ModelSettings,
    ModerationSettings,
    PipelineSettings,
    ReplySettings,
    Settings,
    VoiceSettings,
    WebSettings,
    waits_for_restart,
)

__all__ = [
    "FASTEST",
    "SLOWEST",
    "ConfigError",
    "FeedSettings",
    "ModelSettings",
    "ModerationSettings",
    "PipelineSettings",
    "ReplySettings",
    "Settings",
    "SettingsFile",
    "VoiceSettings",
    "WebSettings",
    "commented",
    "load",
    "waits_for_restart",
]
