"""HTML by construction: a type for it, and functions that make it of plain text.

What is not of the type `Html` is plain text, and is escaped where it is put into something that is.
So the text of a data set, a config or a stranger's file cannot become markup, and HTML that lost
its type on the way, in an f-string for instance, shows on the page as what it is.
"""

from __future__ import annotations

from functools import partial
from html import escape


class Html(str):
    """A piece of HTML. ``+`` escapes what is added; other operations of strings give plain text."""

    __slots__ = ()

    def __add__(self, other: object) -> Html:
        return join(self, other)

    def __radd__(self, other: object) -> Html:
        return join(other, self)


def html(value: object) -> Html:
    """A value as HTML: unchanged where it is HTML, else as escaped text.

    >>> html("a < b")
    'a &lt; b'
    """
    return value if isinstance(value, Html) else Html(escape(str(value)))


def join(*parts: object, between: object = "") -> Html:
    """Parts one after the other.

    >>> join(b("R&D"), " < ", 3)
    '<b>R&amp;D</b> &lt; 3'
    """
    return Html(html(between).join(map(html, parts)))


def element(tag: str, *parts: object, kind: str = "", **attributes: object) -> Html:
    """An element with its content; ``kind`` is its CSS class.

    >>> element("span", "x", kind="warn", title='"')
    '<span class="warn" title="&quot;">x</span>'
    """
    return Html(f"{opening(tag, kind=kind, **attributes)}{join(*parts)}</{tag}>")


def opening(tag: str, kind: str = "", **attributes: object) -> Html:
    """An element's opening tag, which is all there is to some: ``br`` and ``img``."""
    given = ({"class": kind} if kind else {}) | attributes
    pairs = "".join(f' {name}="{html(value)}"' for name, value in given.items())
    return Html(f"<{tag}{pairs}>")


b, code, p, pre = (partial(element, tag) for tag in ("b", "code", "p", "pre"))
h1, h2, h3 = (partial(element, tag) for tag in ("h1", "h2", "h3"))
warn = partial(element, "span", kind="warn")
BREAK = opening("br")
