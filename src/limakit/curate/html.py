"""HTML of a post -> Markdown text: links, images and other tags go, code and lists stay (paper, section 2.1).

A link keeps its text and loses its address; a text that is itself an address goes too. Struck-out text goes with its tag, since without
it the text would say what its author took back. Code is kept to the byte: a block between fences, a span between backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

# what goes with all that is in it
_GONE = {
    "applet", "audio", "canvas", "del", "embed", "form", "frame", "frameset", "head", "iframe", "img", "link", "map", "math", "meta", "noembed",
    "noframes", "noscript", "object", "picture", "plaintext", "s", "script", "strike", "style", "svg", "template", "textarea", "title",
    "video", "xmp",
}  # fmt: skip
# what begins and ends a paragraph
_BLOCKS = {
    "address", "article", "aside", "body", "caption", "center", "dd", "details", "dialog", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "p", "section", "summary", "tr",
}  # fmt: skip
_ADDRESS = r"(?:(?:https?|ftp)://|www\.)(?:[^\s<>\"()]|\([^\s<>\"()]*\))*(?:[^\s<>\"().,;:!?'’\]}]|\([^\s<>\"()]*\))"
_ADDRESSES = re.compile(rf" ?[(\[<\"] ?{_ADDRESS} ?[)\]>\"]| ?{_ADDRESS}", re.IGNORECASE)
_PAIRS = {")": "(", "]": "[", ">": "<", '"': '"'}  # what may be left round nothing
_BLANK = " \t\n\r\f"  # what HTML takes for white space
_LINE_END = re.compile(r"\n(?!\n)")
_SPACE = re.compile(f"[{_BLANK}]+")
_DEEPEST = 60  # nesting beyond this is no document; its text is kept without structure


def to_markdown(html: str) -> str:
    """The text of a post as Markdown; "" where nothing is left. Newlines are "\n", as HTML itself reads them."""
    body = LexborHTMLParser("<body>" + html).body
    if body is None:
        return ""
    writer = _Writer(0)
    writer.children(body)
    return writer.text()


class _Writer:
    """Collects the blocks of one container (the post, a list item, a quotation, a cell); `br` is what a line break becomes."""

    def __init__(self, depth: int, br: str = "\n"):
        self.depth, self.br = depth, br
        self.blocks: list[tuple[str, str]] = []  # (kind, text): kind is "text", "list", "code", "quote" or "table"
        self.line: list[str] = []
        self.after_gap = False  # the last thing was removed: what follows must not stand after a lone space

    def text(self) -> str:
        self.flush()
        return "\n\n".join(block for _, block in self.blocks)

    def flush(self) -> None:
        self.after_gap = False
        if self.line:
            text = "".join(self.line).strip(" \n")
            self.line = []
            if text:
                self.blocks.append(("text", text))

    def block(self, kind: str, text: str) -> None:
        self.flush()
        if text:
            self.blocks.append((kind, text))

    def prose(self, text: str) -> None:
        if text and not text.strip(_BLANK):  # what stands between most tags; the same as below, without looking
            if self.line and not self.line[-1].endswith((" ", "\n")):
                self.line.append(" ")
            self.after_gap = True
            return
        had = len(text)
        if "\n" in text or "  " in text or "\t" in text or "\r" in text or "\f" in text:
            text = _SPACE.sub(" ", text)
        if "://" in text or "www." in text.lower():  # what every address has; the pattern is slow to find none
            text = _SPACE.sub(" ", _ADDRESSES.sub("", text))
        if self.after_gap and self.line:
            opening = _PAIRS.get(text[:1])
            if opening and self.line[-1].rstrip(" ").endswith(opening):
                self.line[-1], text = self.line[-1].rstrip(" ")[:-1].rstrip(" "), text[1:]
            elif text[:1] and text[0] in ".,;:!?)":
                self._trim()
        if text[:1] == " " and (not self.line or self.line[-1].endswith((" ", "\n"))):
            text = text[1:]
        if text:
            self.line.append(text)
        self.after_gap = had > 0 and not text.strip()

    def _trim(self) -> None:
        if self.line:
            self.line[-1] = self.line[-1].rstrip(" ")

    def children(self, node: LexborNode) -> None:
        self.nodes(node.iter(include_text=True))

    def nodes(self, nodes: Iterable[LexborNode]) -> None:
        for node in nodes:
            tag = node.tag or ""
            if tag == "-text":
                self.prose(node.text_content or "")
            elif tag in _GONE or not node.is_element_node:
                self.after_gap = self.after_gap or tag == "img"
            elif tag == "br":
                self._trim()
                self.line.append(self.br)
            elif tag in ("pre", "listing"):
                self.block("code", _fenced(node))
            elif tag in ("code", "tt", "samp"):
                self.code(_raw(node))
            elif self.depth >= _DEEPEST:
                self.prose(" ".join(_texts(node)))
            else:
                self.depth += 1
                self.element(node, tag)
                self.depth -= 1

    def element(self, node: LexborNode, tag: str) -> None:
        if tag in _BLOCKS:
            self.flush()
            self.children(node)
            self.flush()
        elif tag in ("ul", "ol", "menu", "dir"):
            self.block("list", self.items(node, tag))
        elif tag == "blockquote":
            inner = _Writer(self.depth)
            inner.children(node)
            text = inner.text()
            self.block("quote", "\n".join([f"> {line}" if line else ">" for line in text.split("\n")]) if text else "")
        elif tag == "table":
            self.table(node)
        elif tag == "sup":  # 10<sup>3</sup> is not 103
            inner = _Writer(self.depth)
            inner.children(node)
            self.prose(_raised(inner.text(), "".join(self.line[-1:])))
        else:
            self.children(node)

    def code(self, code: str) -> None:
        if code.strip():
            ticks = "`" * (_longest_run(code) + 1)
            pad = " " if code.startswith("`") or code.endswith("`") else ""
            self.line.append(f"{ticks}{pad}{code}{pad}{ticks}")
            self.after_gap = False

    def items(self, node: LexborNode, tag: str) -> str:
        """A list; items with more than a line of text and lists below it are set apart by blank lines."""
        items: list[list[tuple[str, str]]] = []
        for child in node.iter(include_text=True):
            own = child.tag == "li"
            if not own and child.is_text_node and not (child.text_content or "").strip(_BLANK):
                continue  # between the items
            inner = _Writer(self.depth)
            inner.nodes(child.iter(include_text=True) if own else [child])
            inner.flush()
            if inner.blocks and not own and items:
                items[-1].extend(inner.blocks)  # a list put straight into a list belongs to the item before it
            elif inner.blocks:
                items.append(inner.blocks)
        loose = any(kind != "list" for item in items for kind, _ in item[1:]) or any(item[0][0] in ("code", "quote") for item in items)
        start = (node.attributes.get("start") or "1") if tag == "ol" else ""
        number = int(start) if re.fullmatch(r"\d{1,9}", start) else 1
        lines = []
        for n, item in enumerate(items, start=number):
            marker = f"{n}. " if tag == "ol" else "- "
            text = ("\n\n" if loose else "\n").join(block for _, block in item)
            lines.append(marker + (_LINE_END.sub("\n" + " " * len(marker), text) if "\n" in text else text))
        return ("\n\n" if loose else "\n").join(lines)

    def table(self, table: LexborNode) -> None:
        """A row of plain cells is a line, "a | b"; of a row with code, lists or other blocks in it each block stands for itself."""
        self.flush()
        lines: list[str] = []
        for row in _own(table, ("tr", "caption")):
            cells = []
            for cell in [row] if row.tag == "caption" else _own(row, ("td", "th")):
                inner = _Writer(self.depth, br=" ")
                inner.children(cell)
                inner.flush()
                cells.append(inner.blocks)
            if all(kind == "text" for cell in cells for kind, _ in cell):
                lines += [" | ".join(" ".join(text for _, text in cell) for cell in cells)] if any(cells) else []
                continue
            self.block("table", "\n".join(lines))
            lines = []
            for blocks in cells:
                self.blocks += blocks
        self.block("table", "\n".join(lines))


def _own(node: LexborNode, tags: tuple[str, ...]) -> Iterator[LexborNode]:
    """The rows of a table or the cells of a row that are its own, not of a table inside it."""
    for child in node.iter():
        if child.tag in tags:
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from _own(child, tags)


def _raised(text: str, before: str) -> str:
    """A superscript as text: 10^3, x^(n+1), 5th, and a note set off by spaces."""
    if not text:
        return ""
    if text.lower() in ("st", "nd", "rd", "th") and re.search(r"\w$", before):
        return text
    if before and re.fullmatch(r"[+−-]?\w{1,4}|\w{0,3}[+−-]", text):
        return f"^{text}"
    if before and re.fullmatch(r"[\w+−*/=.,() -]{2,20}", text) and re.search(r"[+−*/=-]", text):
        return f"^({text})"
    return f" {text} "


def _texts(node: LexborNode) -> Iterator[str]:
    """The texts below a node in their order, without what goes; however deep, the work grows with the nodes alone."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        if inner.is_text_node:
            yield inner.text_content or ""
        elif inner.tag not in _GONE:
            waiting += reversed(list(inner.iter(include_text=True)))


def _raw(node: LexborNode) -> str:
    """The text below a node as it is; a line break element is a newline."""
    parts = []
    for inner in node.traverse(include_text=True):
        if inner.is_text_node:
            parts.append(inner.text_content or "")
        elif inner.tag == "br":
            parts.append("\n")
    return "".join(parts)


def _longest_run(code: str) -> int:
    return max((len(run) for run in re.findall(r"`+", code)), default=0)


def _fenced(pre: LexborNode) -> str:
    """A code block between fences longer than any run of backticks in it, with the language where the site names one."""
    code = _raw(pre)
    if not code.strip():
        return ""
    first = pre.css_first("code")
    classes = " ".join(n.attributes.get("class") or "" for n in (pre, first) if n is not None)
    named = re.search(r"(?:^|\s)lang(?:uage)?-([\w+#.-]+)", classes)
    language = named[1] if named and named[1] not in ("none", "default") else ""
    fence = "`" * max(3, _longest_run(code) + 1)
    return f"{fence}{language}\n{code}" + ("" if code.endswith("\n") else "\n") + fence
