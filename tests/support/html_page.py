"""What notebooks show, taken apart, and whether it is sound."""

from __future__ import annotations

from html.parser import HTMLParser

from typing_extensions import override


class Page(HTMLParser):
    """The text and tags of a page that is well-formed, and neither loads nor runs anything."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []
        assert not self.tags & {"script", "img", "link", "iframe", "object", "form"}
        assert {name for name, _ in self.attributes} <= {"class", "href", "rel", "open"}
        assert "url(" not in page

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes += attrs

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.text += data
