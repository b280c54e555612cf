"""Reads an HTML page without a browser: elements, texts, tables, references."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID_TAGS = frozenset(("meta", "link", "br", "hr", "img", "input", "wbr", "path", "use", "rect"))


@dataclass
class Node:
    """An element with its attributes and its content (elements and texts)."""

    tag: str
    attributes: dict[str, str]
    children: list["Node | str"] = field(default_factory=list)

    def find_all(self, *tags: str) -> list["Node"]:
        """Returns the descendants with these tags, in order; without tags, all descendants."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if not tags or child.tag in tags:
                    found.append(child)
                found += child.find_all(*tags)
        return found

    def find_id(self, identity: str) -> "Node":
        """Returns the only element with this id."""
        (found,) = [n for n in self.find_all() if n.attributes.get("id") == identity]
        return found

    @property
    def text(self) -> str:
        """All text in the element, with single spaces."""
        return " ".join("".join(c if isinstance(c, str) else f" {c.text} "
                                for c in self.children).split())

    def rows(self) -> list[list[str]]:
        """Returns the cells of a table, row by row, the header first."""
        return [[cell.text for cell in row.find_all("th", "td")] for row in self.find_all("tr")]


class _PageParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open_nodes = [self.root]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs})
        assert len(node.attributes) == len(attrs), f"duplicate attribute in <{tag}>"
        self.open_nodes[-1].children.append(node)
        if tag not in VOID_TAGS:
            self.open_nodes.append(node)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self.open_nodes.pop()

    def handle_endtag(self, tag):
        if tag in VOID_TAGS:
            return
        assert self.open_nodes[-1].tag == tag, f"</{tag}> ends <{self.open_nodes[-1].tag}>"
        self.open_nodes.pop()

    def handle_data(self, data):
        self.open_nodes[-1].children.append(data)


def parse_page(text: str) -> Node:
    """Parses a page; fails if elements are not properly nested."""
    reader = _PageParser()
    reader.feed(text)
    reader.close()
    assert reader.open_nodes == [reader.root], f"<{reader.open_nodes[-1].tag}> is never closed"
    return reader.root
