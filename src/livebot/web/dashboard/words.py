"""What the page says, in English and Chinese. The English sentence is the key."""

from __future__ import annotations

import re

__all__ = ["CHINESE", "LANGUAGES", "Words", "language_for"]

LANGUAGES = ("en", "zh")

_MINUTE = 60

CHINESE = {
    # the top of the page
    "Dashboard": "控制台",
    "not connected yet": "未连接",
    "connecting": "连接中",
    "connected": "已连接",
    "waiting to reconnect": "等待重连",
    "the broadcast is over": "直播已结束",
    "refused by the room": "被直播间拒绝",
    "disconnected": "已断开",
    "Light or dark": "浅色或深色",
    "running for {time}": "已运行 {time}",
    # what is heard
    "Now speaking": "正在播报",
    "Nothing is being spoken": "现在没有播报",
    "Paused": "已暂停",
    "for {user}": "回应 {user}",
    "Sound goes to {sink}": "声音输出：{sink}",
    "Pause": "暂停",
    "Resume": "继续",
    "Skip": "跳过",
    "Clear the queue": "清空队列",
    "Mute": "静音",
    "Sound on": "取消静音",
    "Test tone": "测试音",
    "Volume": "音量",
    "Rate": "语速",
    "Say this": "播报这句话",
    "Say": "播报",
    # figures
    "Figures": "概况",
    "received": "收到",
    "spoken": "已播报",
    "waiting now": "等待中",
    "dropped": "未播报",
    "delay, median": "延迟中位数",
    "delay, 95 of 100": "延迟 95 分位",
    "cache hits": "缓存命中",
    "reconnects": "重连次数",
    "words a minute": "语速（词/分）",
    # lists
    "Live events": "实时事件",
    "Nothing has happened yet": "还没有事件",
    "Waiting to be spoken": "等待播报",
    "Nothing waits": "没有等待的内容",
    "Dropped, by reason": "未播报的原因",
    "Nothing was dropped": "没有丢弃",
    "Seconds by stage: median, 95 of 100 dashed": "各阶段用时（秒），虚线为 95 分位",
    "Queue lengths": "队列长度",
    "Pool sizes": "线程池大小",
    "Changes of pool sizes": "线程池大小的变化",
    "No pool has changed its size": "线程池没有变化",
    "Connection": "连接",
    "Reconnect": "重新连接",
    "No connection yet": "还没有连接",
    "Errors": "错误",
    "Nothing went wrong": "没有错误",
    "the whole story": "查看详情",
    "{count} ×": "{count} 次",
    "Components": "组件",
    "Restart {name}": "重启 {name}",
    "restarted {count} times": "重启过 {count} 次",
    "Resources": "资源",
    "No readings": "没有数据",
    "full in {time}": "{time} 后用尽",
    "Templates": "模板",
    "Kinds of events that are answered": "哪些事件会被回应",
    "Blocked users": "屏蔽的用户",
    "Nobody is blocked": "没有屏蔽任何人",
    "Id or exact name": "ID 或完整昵称",
    "Block": "屏蔽",
    "Block {user}": "屏蔽 {user}",
    "Unblock {user}": "取消屏蔽 {user}",
    "priority {level}": "优先级 {level}",
    "done": "完成",
    "It was not ready in time": "未能及时就绪",
    "{count} thrown away": "已清除 {count} 条",
    "Nothing was being spoken": "当时没有播报",
    # kinds of events
    "chat": "弹幕",
    "emoji": "表情",
    "gift": "礼物",
    "like": "点赞",
    "member": "进场",
    "follow": "关注",
    "share": "分享",
    "fansclub": "粉丝团",
    "social": "互动",
    "said": "手动播报",
    # stages
    "at the door": "排队",
    "moderation and reply": "审核与回复",
    "text queue": "播报队列",
    "speech and sound": "合成与播放",
    "looked at": "处理中",
    "speaking": "播报中",
    "queued": "排队中",
    "message queue": "消息队列",
    "messages": "消息队列",
    "texts": "播报队列",
    # why something was dropped
    "the same viewer a moment ago": "同一用户刚回应过",
    "the same words a moment ago": "刚播报过同样的话",
    "a blocked word": "含屏蔽词",
    "a blocked pattern": "含屏蔽模式",
    "a blocked user": "用户已屏蔽",
    "came twice": "重复消息",
    "nothing to say": "没有可播报的内容",
    "no words": "没有文字",
    "part of a combo": "连击的一部分",
    "an unknown action": "未知的动作",
    "no template": "没有模板",
    "text queue full": "播报队列已满",
    "message queue full": "消息队列已满",
    "waited too long": "等待过久",
    "cleared by hand": "手动清空",
    "skipped": "已跳过",
    "interrupted": "被打断",
    "stopping": "正在停止",
    "an error": "出错",
    "speech failed": "合成失败",
    "came too late": "来得太迟",
    # states of components
    "new": "未启动",
    "stopped": "已停止",
    "starting": "启动中",
    "running": "运行中",
    "degraded": "降级",
    "draining": "收尾中",
    "backoff": "等待重启",
    "failed": "失败",
    "abandoned": "已放弃",
    # resources
    "memory": "内存",
    "rss": "本程序内存",
    "cpu": "处理器",
    "threads": "线程",
    "files": "打开的文件",
    "disk": "磁盘",
    "pressure": "内存压力",
    "lag": "调度延迟",
    "warn": "注意",
    "critical": "危急",
}

# Why something was dropped, as the pipeline counts it, and as people say it.
_REASONS = (
    (r"cool_down", "the same viewer a moment ago"),
    (r"repeat", "the same words a moment ago"),
    (r"blocked_word", "a blocked word"),
    (r"blocked_pattern", "a blocked pattern"),
    (r"blocked_user", "a blocked user"),
    (r"duplicate", "came twice"),
    (r"empty", "no words"),
    (r"combo.*", "part of a combo"),
    (r"unknown_action", "an unknown action"),
    (r"no template for .*", "no template"),
    (r"text queue: drop_.*", "text queue full"),
    (r"message queue: drop_.*", "message queue full"),
    (r"(text|message) queue: expired", "waited too long"),
    (r"voice: late", "came too late"),
    (r"voice: skipped", "skipped"),
    (r"voice: (interrupted|cleared)", "interrupted"),
    (r"speech: .*", "speech failed"),
    (r"error while answering", "an error"),
    (r"nothing to say|cleared by hand|stopping|spoken", r"\g<0>"),
)


def language_for(asked: str | None, accept_language: str) -> str:
    """The language to use: the one asked for, or the first of the browser's that there is.

    >>> language_for(None, "fr;q=0.9, zh-CN;q=0.8, en;q=0.7"), language_for("en", "zh")
    ('zh', 'en')
    """
    if asked in LANGUAGES:
        return asked
    for choice in accept_language.split(","):
        language = choice.split(";")[0].strip().lower().partition("-")[0]
        if language in LANGUAGES:
            return language
    return "en"


class Words:
    """The sentences of one language.

    >>> Words("zh")("{count} ×", count=3), Words("en")("{count} ×", count=3)
    ('3 次', '3 ×')
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._sentences = CHINESE if language == "zh" else {}

    def __call__(self, sentence: str, **facts: object) -> str:
        """The sentence in this language; one that is not in the catalogue stays as it is."""
        translated = self._sentences.get(sentence, sentence)
        return translated.format(**facts) if facts else translated

    def reason(self, reason: str) -> str:
        """Why something was dropped, as people say it. What nobody foresaw stays as it is.

        >>> Words("en").reason("text queue: drop_lowest"), Words("zh").reason("cool_down")
        ('text queue full', '同一用户刚回应过')
        """
        for pattern, sentence in _REASONS:
            if match := re.fullmatch(pattern, reason):
                return self(match.expand(sentence))
        return self(reason)

    def duration(self, seconds: float) -> str:
        """Seconds as people read them.

        >>> [Words("en").duration(seconds) for seconds in (0.25, 12, 150, 8000)]
        ['0.25 s', '12 s', '2:30', '2:13:20']
        """
        if seconds < _MINUTE:
            return f"{seconds:.3g} s"
        minutes, left = divmod(int(seconds), _MINUTE)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
