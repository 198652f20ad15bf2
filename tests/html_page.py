"""An HTML page as tests read it."""

import html.parser
import re

VOID = {"meta", "img", "br", "hr", "link", "input", "col", "wbr"}


class Page(html.parser.HTMLParser):
    """Collects what a page shows and refers to, and that every tag is closed in turn."""

    def __init__(self, source: str):
        super().__init__()
        self.source, self.open, self.tags, self.references, self.ids = source, [], [], [], []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [
            value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)
