"""matplotlib's figures as SVG that belongs into a page.

What matplotlib writes is made to stand for itself: too long, with colours and a global
style of its own, and with ids that clash where a page has two of them.  Here it is parsed
and written anew: colours become the page's CSS variables (so that they follow light and
dark), coordinates are rounded to a tenth of a pixel, ids stay only where something refers
to them, and groups that were given a title carry it as a tooltip.  Since the result is
written by an XML serialiser, nothing in a label can become markup.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from markupsafe import Markup

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")
_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_FONT = re.compile(r"font: (?:[\w ]+ )?([\d.]+)px [^;]*")  # as matplotlib before 3.11 has it
_UNTURNED = re.compile(r"rotate\(-?0 [^)]*\)")
_HEX = re.compile(r"#[0-9a-f]{6}")
_GEOMETRY = ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "transform", "points")
# Stand-ins that a figure is drawn with -> the names of the page's variables.
NAMES = ("text", "muted", "grid", "surface", "good", "bad", *(f"c{i}" for i in range(8)))
COLOUR = {name: f"#01{i:02x}fe" for i, name in enumerate(NAMES)}
_VARIABLE = {value: f"var(--{name})" for name, value in COLOUR.items()}


def as_svg(figure: Any, key: str, label: str, kind: str, tips: dict[str, str]) -> Markup:
    """The figure as an inline `<svg role="img">`.

    key: begins every id, unique in the page.  label: what it shows, for those who do not
    see it.  kind: its CSS class.  tips: artists' gids -> their tooltips.
    """
    stream = io.StringIO()
    figure.canvas.print_svg(stream, metadata={  # savefig would draw twice
        "Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(stream.getvalue())
    for child in root.findall(_SVG + "metadata"):
        root.remove(child)
    for child in root.findall(f"{_SVG}defs"):
        for style in child.findall(f"{_SVG}style"):  # it would hold for the whole page
            child.remove(style)
    used = _references(root)
    box = root.get("viewBox", "0 0 1 1").split()
    _walk(root, key, used, tips)
    root.attrib.clear()
    root.attrib.update({
        "class": f"plot {kind}", "role": "img", "aria-label": label,
        "viewBox": " ".join(_short(value) for value in box), "width": _short(box[2]),
        "height": _short(box[3]), "stroke-linejoin": "round"})
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(re.sub(r">\s+<", "><", text))


def _short(number: str) -> str:
    """At most one decimal, without a zero that says nothing."""
    text = f"{float(number):.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def _references(root: Any) -> set[str]:
    used = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            used.update([value[1:]] if name == _LINK else _REFERENCE.findall(value))
    return used


def _walk(element: Any, key: str, used: set[str], tips: dict[str, str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    attributes = element.attrib
    identity = attributes.pop("id", None)
    if identity in used:
        attributes["id"] = f"{key}-{identity}"
    elif identity in tips:
        title = ElementTree.Element("title")
        title.text = tips[identity]
        element.insert(0, title)
        attributes["class"] = "tip"
    if _LINK in attributes:
        attributes["href"] = f"#{key}-{attributes.pop(_LINK)[1:]}"
    if _UNTURNED.fullmatch(attributes.get("transform", "")):
        del attributes["transform"]
    for name in list(attributes):
        attributes[name] = _attribute(name, attributes[name], key)
    children = list(element)
    for child in children:
        element.remove(child)
        _walk(child, key, used, tips)
        # A group that says nothing gives way to what is in it.
        bare = child.tag in ("g", "defs") and not child.attrib
        element.extend(child if child.tag == "g" and bare else [] if bare and not len(child)
                       else [child])


def _attribute(name: str, value: str, key: str) -> str:
    if name in _GEOMETRY:
        value = _NUMBER.sub(lambda m: _short(m[0]), value)
        return " ".join(value.split()).replace("L ", "L") if name == "d" else value
    value = _REFERENCE.sub(lambda m: f"{key}-{m[0]}", value)
    if name in ("style", "fill", "stroke"):
        value = _HEX.sub(lambda m: _VARIABLE.get(m[0], m[0]), value)
        value = _FONT.sub(r"font-size: \1px", _FAMILY.sub("", value))
        value = value.replace("; ", ";").replace(": ", ":")
    return value
