"""URIAL and plain prompts as text: what stands where, where an answer ends, and that no text gets out of its fence."""

import re

from hypothesis import given
from hypothesis import strategies as st

from limakit.generate.prompting import as_text, cut, end_texts, examples_hash, reaches
from limakit.records import Turn

MARKS = ["`", "```", "````", "``````", "\n", "# Query:", "\n# Query:\n````\n", "# Answer:", "a", " ", "\r", "\u2028", "{x}", "<|eot|>", "é"]
TEXTS = st.lists(st.sampled_from(MARKS), min_size=1, max_size=12).map("".join)


def turns(*texts):
    return tuple(Turn(role="user" if i % 2 == 0 else "assistant", text=text) for i, text in enumerate(texts))


def sections(prompt):
    """As CommonMark reads it: (heading, text within the fence) for each; a fence is closed by a line of as many backticks or more."""
    found, heading, fence, body = [], None, None, []
    for line in prompt.split("\n"):
        if fence is None and (mark := re.fullmatch(r"`{3,}", line)):
            fence, body = mark[0], []
        elif fence is None:
            heading = line if line.startswith("# ") else heading
        elif len(line) >= len(fence) and not line.strip("`"):
            found.append((heading, "\n".join(body)))
            fence = None
        else:
            body.append(line)
    return found, heading, fence


def test_three_examples_of_the_papers_style_and_then_the_query():
    prompt = as_text("urial", turns("How do I keep basil fresh?"))
    found, heading, fence = sections(prompt)
    assert [heading for heading, _ in found] == ["# Query:", "# Answer:"] * 3 + ["# Query:"]
    assert found[-1][1] == "How do I keep basil fresh?"
    assert (heading, fence) == ("# Answer:", "````") and prompt.endswith("\n````\n")  # the answer comes next
    assert "won't help" in found[5][1]
    assert examples_hash() == examples_hash() and len(examples_hash()) == 64


@given(TEXTS, TEXTS, TEXTS)
def test_no_text_gets_out_of_its_fence(query, answer, second):
    dialogue = turns(query, answer, second)
    prompt = as_text("urial", dialogue)
    found, heading, fence = sections(prompt)
    assert [text for _, text in found[6:]] == [query, answer, second]
    assert heading == "# Answer:" and fence is not None
    assert not any(end.startswith("\n`") and end in f"\n{text}" for end in end_texts("urial", dialogue) for text in (query, answer, second))


def test_plain_is_the_text_and_has_no_end():
    assert as_text("plain", turns("One.", "Two.", "Three.")) == "One.\nTwo.\nThree.\n"
    assert end_texts("plain", turns("One.")) == ()
    assert cut("# Query:\n````", ()) == "# Query:\n````"


def test_an_answer_ends_where_its_fence_closes_or_a_query_begins():
    ends = end_texts("urial", turns("Show me `print` in a ```block```."))
    code = "Here:\n\n```python\nprint(1)  # Query: none\n```\n\nThat is all."
    assert cut(f"{code}\n````\n\n# Query:\n````\nAnd", ends) == code
    assert cut(f"{code}\n# Query:\nAnd", ends) == code
    assert cut(code, ends) == code and not reaches(code, ends, whole=True)
    assert cut("````\nx", ends) == cut("# Query:", ends) == ""
    assert reaches("````", ends, whole=True) and not reaches("````", ends, whole=False)  # a tail need not begin a line
    longer = end_texts("urial", turns("A fence: ``````"))
    assert cut("four ````\n````\nstill here\n```````", longer) == "four ````\n````\nstill here"


@given(TEXTS, TEXTS)
def test_what_is_cut_has_no_end_text_and_is_how_the_answer_began(query, answer):
    ends = end_texts("urial", turns(query))
    kept = cut(answer, ends)
    assert answer.startswith(kept) and not reaches(kept, ends, whole=True)
    assert (kept == answer) == (not reaches(answer, ends, whole=True))
