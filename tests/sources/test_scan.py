"""The scanner on raw bytes gives what expat gives, however the bytes are cut; and damage stays where it is."""

import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.sources.dump import Table, check_ranges, scan_of
from limakit.sources.opening import read_opening
from limakit.sources.scan import RowError, Scan, attributes, heads, parse_row

CHARS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\n\r\t<>&\"'|/=-?!")
TEXT = st.text(CHARS, max_size=12)
SPACE = st.sampled_from([" ", "  ", "\n", "\r\n\t", " "])
NAMES = ["Id", "PostTypeId", "ParentId", "Score", "Body", "rowId", "x-y"]
PLAIN = {"\n": "&#xA;", "\r": "&#13;", "\t": "&#x9;"}


@st.composite
def row(draw) -> str:
    """A row in any writing that XML allows."""
    parts = ["<row"]
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5)):
        quote = draw(st.sampled_from("\"'"))
        value = escape(draw(TEXT), PLAIN | {quote: "&quot;" if quote == '"' else "&apos;"})
        if draw(st.booleans()):
            value += draw(st.sampled_from(["&#65;", "&#x1F600;", ">", "/>", "a > b"]))
        equals = draw(st.sampled_from(["=", " = ", "="]))
        parts.append(f"{draw(SPACE)}{name}{equals}{quote}{value}{quote}")
    parts.append(draw(st.sampled_from(["/>", " />", "\n/>", "></row>", " ></row >", ">text</row>"])))
    return "".join(parts)


BETWEEN = st.sampled_from(
    [
        "", "  ", "\r\n", "\t", "text > text /> \" '", "<!-- <row Id='9'/> -->", "<!---->", "<!-- a > b <x/ -->\n", "<![CDATA[ <row Id='9'/> </posts> ]]>",
        "<?note <row/> ?>", "<other a='1'/>", "<rows/>", "<row.x Id='9'/>", "<other><row Id='inner'/></other>", "&amp;&#60;row&gt;",
    ]
)  # fmt: skip
HEAD = st.sampled_from(
    [
        '<?xml version="1.0" encoding="utf-8"?>\r\n<posts>', "<posts>", '\ufeff<?xml version="1.0"?>\n<!-- <posts> --><posts >', "\n<posts a='>' b=\"/posts>\">",
        "<?xml version='1.0' encoding='UTF-8' standalone='yes'?><?pi x?><!--\n--><posts>",
    ]
)  # fmt: skip
TAIL = st.sampled_from(["</posts>", "</posts>\r\n", "</posts >\n<!-- <row/> -->", "</posts><?x?>"])
DOCUMENT = st.builds(
    lambda head, parts, tail: head + "".join(b + r for b, r in parts) + tail,
    HEAD,
    st.lists(st.tuples(BETWEEN, row() | st.just("")), max_size=6),
    TAIL,
)


def pieces(data: bytes, size: int):
    return (data[i : i + size] for i in range(0, len(data), size))


def found(scan: Scan) -> list[tuple[int, dict[str, str]]]:
    return [(block.base + int(block.starts[i]), parse_row(block.row(i))) for block in scan for i in range(len(block))]


def whole(data: bytes, size: int) -> tuple[Scan, list]:
    opening, blocks = read_opening(pieces(data, size), "Posts.xml", "posts")
    scan = Scan(blocks, "Posts.xml", "posts", opening.end)
    if opening.empty:
        scan.end_at(opening.end)
    return scan, found(scan)


@settings(max_examples=300, deadline=None)
@given(DOCUMENT, st.integers(1, 80))
@example("<posts><!-- - --><row/><!----></posts>", 3)
def test_what_expat_finds_however_the_blocks_are_cut(document, size):
    data = document.encode()
    scan, rows = whole(data, size)
    assert [r for _, r in rows] == [dict(r.attrib) for r in ET.fromstring(data).iter("row")]
    assert scan.ended is not None and data[scan.ended :].startswith(b"</posts")
    assert all(data[at:].startswith(b"<row") for at, _ in rows) and scan.read == len(data)


@settings(max_examples=250, deadline=None)
@given(DOCUMENT, st.lists(st.integers(1, 400), max_size=4), st.integers(1, 60))
def test_ranges_together_are_the_file(document, cuts, size):
    """Cut anywhere, the ranges are one pass; or, where something hides a "<" from a range, they say that they may not be. Never an error."""
    data = document.encode()
    once = whole(data, 1 << 20)[1]
    begin = read_opening([data], "", "posts")[0].end
    cuts = sorted({c for c in cuts if begin < c < len(data)})
    rows, tables = [], []
    for start, stop in zip([begin, *cuts], [*cuts, None], strict=True):
        scan = Scan(pieces(data[start:], size), "Posts.xml", "posts", start, stop, within=bool(tables))
        part = [(block.base + int(block.starts[i]), block.row(i)) for block in scan for i in range(len(block))]
        rows += part
        tables.append(pa.table({"at": [at for at, _ in part]}).replace_schema_metadata(scan.notes()))
    if check_ranges(tables, "Posts.xml", "posts"):
        assert [(at, parse_row(piece)) for at, piece in rows] == once
    else:
        assert b"<!" in data or b"<?" in data


def test_ranges_of_a_file_without_comments_are_always_taken():
    data = b"<posts>" + b"".join(b'\r\n  <row Id="%d" Body="x &gt; y" />' % i for i in range(40)) + b"\r\n</posts>"
    once = whole(data, 64)[1]
    for cut in range(8, len(data)):
        scans = [Scan([data[7:]], "", "posts", 7, cut), Scan([data[cut:]], "", "posts", cut)]
        rows = [found(scan) for scan in scans]
        assert rows[0] + rows[1] == once
        assert check_ranges(
            [pa.table({"at": [at for at, _ in r]}).replace_schema_metadata(s.notes()) for r, s in zip(rows, scans, strict=True)],
            "",
            "posts",
        )


DAMAGED = [
    b'<row Id="2" Body="a < b" />', b'<row Id="2" Body="<b>bold</b> x" />', b'<row Id="2" Body="a & b" />', b'<row Id="2" Body="&nbsp;" />',
    b'<row Id="2" Body="\xff" />', b'<row Id="2" Body="\x01" />', b'<row Id="2" Id="3" />', b'<row Id="2" Body="cut', b'<row Id="2" <!-- x', b"<row Id=2 />",
    b'<row Id="2"Score="3"/>', b"<row", b'<row Id="2" Body="&#0;"/>',
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("size", [7, 1000])
def test_a_damaged_row_takes_no_other_with_it(damage, size):
    data = b'<posts>\r\n  <row Id="1" Body="a" />\r\n  ' + damage + b'\r\n  <row Id="3" Body="c" />\r\n</posts>'
    opening, blocks = read_opening(pieces(data, size), "", "posts")
    scan = Scan(blocks, "", "posts", opening.end)
    rows, bad = [], []
    for block in scan:
        for i in range(len(block)):
            try:
                rows.append(parse_row(block.row(i))["Id"])
            except RowError as error:
                bad.append((block.base + int(block.starts[i]), str(error)))
    assert rows == ["1", "3"]
    assert [at for at, _ in bad] == [data.index(damage + b"\r\n")] and bad[0][1]
    assert scan.ended == data.index(b"</posts>")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is truncated"),
        (b'<?xml version="1.0"?>\n<!-- never', "is truncated"),
        (b"<users><row/></users>", r"its root is <users>, expected <posts> \(byte 0\)"),
        (b'<?xml version="1.0"?><!DOCTYPE posts [<!ENTITY a "aaaa">]><posts><row Id="&a;"/></posts>', "declares a document type"),
        (b'{"Id": 1, "what": "is this"}', "no element begins at byte 0"),
        (b"\xff\xd8\xff\xe0 a picture, not a dump", "no element begins at byte 0"),
        (b'<?xml version="1.0" encoding="klingon"?><posts></posts>', "declares an encoding that cannot be read"),
        (b'<?xml version="1.0" encoding="utf-16"?><posts></posts>', "declares an encoding that cannot be read"),
        (b"<posts><row/></posts><posts><row/></posts>", "goes on at byte 21 after its end </posts> at byte 13"),
        (b"<posts><row/></posts>\r\n x", "goes on at byte 24 after its end </posts> at byte 13"),
        (b"<posts><row/></posts><!-- fine --><?fine?> <!-", "goes on at byte 43 after its end </posts> at byte 13"),
        (b"<posts/></posts", "goes on at byte 8 after its end </posts> at byte 8"),
        (b"<posts/>\n<row/>", "goes on at byte 9 after its end </posts> at byte 8"),
        (b"<posts><row/><!-- <row/></posts>", "that begins at byte 13 does not end"),
        (b"<posts><row/><![CDATA[", "that begins at byte 13 does not end"),
        (b"<posts><row/></posts> <!-- ", "that begins at byte 22 does not end"),
    ],
)
def test_what_cannot_be_read_says_where(data, message):
    with pytest.raises(LimakitError, match=message) as raised:
        whole(data, 16)
    assert "Posts.xml" in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252", "us-ascii"])
def test_other_encodings_give_what_expat_gives(encoding):
    body = "caf\xe9 \u2019" if encoding == "utf-16" else "caf\xe9" if encoding != "us-ascii" else "cafe"
    data = f'<?xml version="1.0" encoding="{encoding}"?>\n<posts>\n<row Id="1" Body="{body}"/>\n<row Id="2"/></posts>'.encode(encoding)
    assert [r for _, r in whole(data, 11)[1]] == [r.attrib for r in ET.fromstring(data)]


def test_a_byte_order_mark_that_comes_alone():
    data = '<?xml version="1.0" encoding="utf-16"?>\n<posts><row Id="1"/></posts>'.encode("utf-16")
    for size in (1, 2, 3):
        assert [r for _, r in whole(data, size)[1]] == [{"Id": "1"}]


TAILS = [
    b"<row/>",
    b"<other/>",
    b"</posts>",
    b"x",
    b"<!-- --> x",
    b"<posts></posts>",
    b" \r\n",
    b"<!-- </posts> <row/> -->",
    b"<?x <row/> ?>",
    b"<!-- ",
    b"<",
]


@pytest.mark.parametrize("tail", TAILS)
def test_what_comes_after_the_end_is_the_same_to_ranges_as_to_one_pass(tmp_path, tail):
    path = tmp_path / "Posts.xml"
    path.write_bytes(b'<posts><row Id="1"/></posts>\n' + b" " * 40 + tail)

    def read(*cuts: int) -> str:
        tables = []
        for start, stop in zip([0, *cuts], [*cuts, None], strict=True):
            scan = scan_of(Table(path), "posts", start, stop)
            tables.append(pa.table({"at": [at for at, _ in found(scan)]}).replace_schema_metadata(scan.notes()))
        if not check_ranges(tables, path, "posts"):
            return read()
        return str([t["at"].to_pylist() for t in tables if len(t)])

    def told(*cuts: int) -> str:
        try:
            return read(*cuts)
        except LimakitError as error:
            return str(error)

    assert all(told(cut) == told() for cut in range(8, path.stat().st_size))
    assert ("at byte" in told()) == (tail not in (b" \r\n", b"<!-- </posts> <row/> -->", b"<?x <row/> ?>"))


def test_an_encoding_that_is_not_kept_to_says_where():
    data = b'<?xml version="1.0" encoding="us-ascii"?><posts><row Body="\xe9"/></posts>'
    with pytest.raises(LimakitError, match="is not us-ascii as it says"):
        whole(data, 1000)


def test_a_file_of_one_endless_row_does_not_fill_the_memory():
    def endless():
        yield b'<posts><row Body="'
        while True:
            yield b"x" * (1 << 22)

    opening, blocks = read_opening(endless(), "Posts.xml", "posts")
    with pytest.raises(LimakitError, match="what begins at byte 7 is longer than 64 MiB"):
        found(Scan(blocks, "Posts.xml", "posts", opening.end))


def test_heads_are_the_groups_of_each_row_or_odd():
    import re

    pattern = re.compile(attributes("Id") + rb'"(\d+)" A="(\d*)"')
    for between in (b" ", b"<!-- <row Id='7' A='8'/> -->"):  # the quick way and the slow one
        data = b"<posts>" + between.join([b'<row Id="1" A="5"/>', b"<row Id='2' A='6'/>", b'<row Id="3" A=""/>']) + b"</posts>"
        opening, blocks = read_opening([data], "", "posts")
        ((groups, odd),) = [heads(block, pattern) for block in Scan(blocks, "", "posts", opening.end)]
        assert (groups, odd) == ([(b"1", b"5"), (b"", b""), (b"3", b"")], [1])
