"""livebot: a Douyin live room, spoken. The reference application of threadkit."""

__version__ = "0.1.0"
