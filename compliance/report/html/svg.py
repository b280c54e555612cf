"""Converts matplotlib's figures to inline SVG.

matplotlib writes an SVG for a separate file: it is long, has fixed colours and a style sheet
that would apply to the whole page, and its ids clash with those of other plots. Here it is
parsed and rewritten. Colours become CSS variables of the page, so they follow its light and
dark themes; coordinates are rounded to a tenth of a pixel; ids are kept only if another
element refers to them; and groups with a tooltip get a title element. An XML serialiser
writes the result, so the text of a label cannot become markup.
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
_FONT_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_FONT_SHORTHAND = re.compile(r"font: (?:[\w ]+ )?([\d.]+)px [^;]*")  # by matplotlib < 3.11
_ZERO_ROTATION = re.compile(r"rotate\(-?0 [^)]*\)")
_HEX_COLOUR = re.compile(r"#[0-9a-f]{6}")
_GEOMETRY = ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "transform", "points")
# The page's colour variables, and the placeholder colours that figures are drawn with.
VARIABLES = ("text", "muted", "grid", "surface", "good", "bad", *(f"c{i}" for i in range(8)))
COLOUR = {name: f"#01{i:02x}fe" for i, name in enumerate(VARIABLES)}
# The gid of an artist -> its tooltip, or its tooltip and one for each of its markers.
Tooltips = dict[str, "str | list[str]"]
_VARIABLE_OF_COLOUR = {value: f"var(--{name})" for name, value in COLOUR.items()}


def figure_to_svg(figure: Any, id_prefix: str, label: str, css_class: str,
                  tooltips: Tooltips) -> Markup:
    """Converts a figure into an inline `<svg role="img">`.

    Args:
      figure: The figure.
      id_prefix: The prefix of every id; unique in the page.
      label: A description of the plot for screen readers.
      css_class: The CSS class, besides "plot".
      tooltips: The tooltips by the gids of the artists.

    Returns:
      The SVG element.
    """
    stream = io.StringIO()
    figure.canvas.print_svg(stream, metadata={  # savefig would draw twice
        "Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(stream.getvalue())
    for child in root.findall(_SVG + "metadata"):
        root.remove(child)
    for child in root.findall(f"{_SVG}defs"):
        for style in child.findall(f"{_SVG}style"):  # it would apply to the whole page
            child.remove(style)
    referenced = _referenced_ids(root)
    box = root.get("viewBox", "0 0 1 1").split()
    _rewrite_element(root, id_prefix, referenced, tooltips)
    root.attrib.clear()
    root.attrib.update({
        "class": f"plot {css_class}", "role": "img", "aria-label": label,
        "viewBox": " ".join(_format_coordinate(value) for value in box),
        "width": _format_coordinate(box[2]), "height": _format_coordinate(box[3]),
        "stroke-linejoin": "round"})
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(re.sub(r">\s+<", "><", text))


def _format_coordinate(number: str) -> str:
    """Formats a number with at most one decimal."""
    text = f"{float(number):.1f}"
    text = text[:-2] if text.endswith(".0") else text
    return "0" if text == "-0" else text


def _referenced_ids(root: Any) -> set[str]:
    """Returns the ids that any attribute refers to."""
    referenced = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            referenced.update([value[1:]] if name == _LINK else _REFERENCE.findall(value))
    return referenced


def _rewrite_element(element: Any, id_prefix: str, referenced: set[str],
                     tooltips: Tooltips) -> None:
    """Rewrites an element and its children in place."""
    element.tag = element.tag.removeprefix(_SVG)
    attributes = element.attrib
    identity = attributes.pop("id", None)
    if identity in referenced:
        attributes["id"] = f"{id_prefix}-{identity}"
    elif identity in tooltips:
        texts = tooltips[identity]
        texts = [texts] if isinstance(texts, str) else texts
        markers = list(element.iter(_SVG + "use"))
        if len(markers) == len(texts) - 1:
            for marker, text in zip(markers, texts[1:]):
                _add_title(marker, text)
        _add_title(element, texts[0])
        attributes["class"] = "tip"
    if _LINK in attributes:
        attributes["href"] = f"#{id_prefix}-{attributes.pop(_LINK)[1:]}"
    if _ZERO_ROTATION.fullmatch(attributes.get("transform", "")):
        del attributes["transform"]
    for name in list(attributes):
        attributes[name] = _rewrite_attribute(name, attributes[name], id_prefix)
    children = list(element)
    for child in children:
        element.remove(child)
        _rewrite_element(child, id_prefix, referenced, tooltips)
        # A group without attributes is replaced by its children; without children it is dropped.
        is_plain_group = child.tag in ("g", "defs") and not child.attrib
        if is_plain_group and child.tag == "g":
            element.extend(child)
        elif not is_plain_group or len(child):
            element.append(child)


def _add_title(element: Any, text: str) -> None:
    """Adds a tooltip to an element."""
    title = ElementTree.Element("title")
    title.text = text
    element.insert(0, title)


def _rewrite_attribute(name: str, value: str, id_prefix: str) -> str:
    """Returns an attribute's value with rounded numbers, prefixed ids and the page's colours."""
    if name in _GEOMETRY:
        value = _NUMBER.sub(lambda m: _format_coordinate(m[0]), value)
        return " ".join(value.split()).replace("L ", "L") if name == "d" else value
    value = _REFERENCE.sub(lambda m: f"{id_prefix}-{m[0]}", value)
    if name in ("style", "fill", "stroke"):
        value = _HEX_COLOUR.sub(lambda m: _VARIABLE_OF_COLOUR.get(m[0], m[0]), value)
        value = _FONT_SHORTHAND.sub(r"font-size: \1px", _FONT_FAMILY.sub("", value))
        value = value.replace("; ", ";").replace(": ", ":")
    return value
