"""What tests of pages share: a page read back, and the law that it needs nothing but itself."""

import html.parser
import re

PNG = b"\x89PNG\r\n\x1a\n"


class Elements(html.parser.HTMLParser):
    """All elements of a page, and whether each that was opened is closed."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check_page(text):
    """Every element is closed, none is a script or comes from outside, and no two share an id."""
    elements = Elements(text)
    assert not elements.open
    assert not {tag for tag, _ in elements.found} & {"script", "link", "iframe", "object", "base", "form"}
    for _, attributes in elements.found:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            assert attributes.get(key, "#").startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
