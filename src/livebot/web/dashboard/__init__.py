"""The page that shows what the bot does, and why, and lets people steer it.

* `page`: puts it together, for one browser tab.
* `listing`: from what there is to see to rows of text.
* `panels`: the cards with something to press.
* `rows`, `charts`: a list and a diagram.
* `words`: English and Chinese.

Drawn by NiceGUI, which is slow to import and can be had once in a process.
"""

from livebot.web.dashboard.page import mount

__all__ = ["mount"]
