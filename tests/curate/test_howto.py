"""A wikiHow article as prompt and response."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.howto import bare_title, clean, prompt_of, response_of, rewrite_opening, speaks_of_itself
from limakit.sources.wikihow import Article, Section, Step


@pytest.mark.parametrize(
    ("opening", "rewritten"),
    [
        ("This article will show you how to knit.", "The following answer will show you how to knit."),
        ("This wikiHow teaches you how to knit.", "The following answer teaches you how to knit."),
        ("This wikiHow article gives tips.", "The following answer gives tips."),
        ("Knitting is fun. This short how-to article explains it.", "Knitting is fun. The following answer explains it."),
        ("In this article, you'll learn to knit.", "In the following answer, you'll learn to knit."),
        ("In this wikiHow, we cover stitches.", "In the following answer, we cover stitches."),
        ("If you want to knit, this guide is for you.", "If you want to knit, the following answer is for you."),
        ("The following tutorial is simple.", "The following answer is simple."),
        ("Follow this article's steps.", "Follow the following answer's steps."),
        ("Read the article below.", "Read the following answer."),
        ("This step-by-step guide, like this tutorial, helps.", "The following answer, like the following answer, helps."),
        ("Follow these steps.", None),
        ("This articleship is long. This guidebook too.", None),
        ("The article of clothing in question is this page-boy hat.", None),
    ],
)
def test_openings_that_speak_of_the_article(opening, rewritten):
    assert rewrite_opening(opening) == (rewritten or opening, rewritten is not None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("See the wikiHow on knitting.", "names_site"),
        ("Ask at wikihow.com", "names_site"),
        ("as this article says", "this_article"),
        ("These helpful articles tell more", "this_article"),
        ("This article of clothing", "this_article"),  # read by a person it would pass; dropped all the same
        ("The article is long.", None),
        ("Read articles.", None),
    ],
)
def test_what_is_left_of_the_site_and_the_article_is_found(text, reason):
    found = speaks_of_itself(text)
    assert (found and found[0]) == reason


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Boil it.[1]XResearch source Then pour.", "Boil it. Then pour."),
        ("Boil it.[12]XTrustworthy SourceMayo ClinicEducational websiteGo to source Then pour.[3]", "Boil it. Then pour."),
        ("It works [citation needed].", "It works."),
        ("See [[Knit a Scarf|knitting]] and [[Purl]].[[Image:Knit.jpg|thumb]]", "See knitting and Purl."),
        ("{{whatthis}} A '''bold''' and ''slanted'' word on a 6'' by 8'' pan", "A bold and slanted word on a 6'' by 8'' pan"),
        ('Use <b>two</b> <a href="https://x.org">needles</a>.<br><img src="a.jpg">Cast on.', "Use two needles.\nCast on."),
        ("Fish &amp; chips &lt; 5", "Fish & chips < 5"),
        ("Go to https://example.org/a now.", "Go to now."),
        ("Needed if x < 3 and y > 4.", "Needed if x < 3 and y > 4."),
        ("a\r\n\r\n b  c \rd", "a\nb c\nd"),
        ("One.<ref>A book</ref>", "One."),
        ("<ul><li>One</li><li>Two</li></ul>", "- One\n- Two"),
        ("Run: <pre>a\n  b</pre>", "Run:\n\n```\na\n  b\n```"),
    ],
)
def test_cleaning(raw, plain):
    assert clean(raw) == plain


def article(*sections, title="How to Brew Tea", opening=""):
    return Article(title, opening, "", sections, None, "a@byte0")


POT = Section("In a Pot", (Step("Boil water", "Fresh water is best.\n\nNot too hot.\n• Nor cold."), Step("Pour.", ""), Step("", "Wait.")))
TIPS = Section("Tips", (Step("Warm the pot.", ""),), numbered=False)


def test_one_method_needs_no_heading_and_sections_go_by_name():
    body, changes = response_of(article(POT, TIPS, opening="This article is about tea.\nIt is short."), {"tips"})
    assert body == (
        "The following answer is about tea.\n\nIt is short.\n\n1. **Boil water.** Fresh water is best.\n   - Not too hot.\n   - Nor cold.\n2. Pour.\n3. Wait."
    )
    assert changes == ['opening rewritten to "the following answer"', "1 section left out (Tips)"]


def test_methods_are_headings_where_there_are_several():
    cup = Section("", (Step("Use a bag.", ""), Step("Run it.", "Like this:\n<pre>tea\n  --hot</pre>")))
    body, changes = response_of(article(POT, cup, TIPS), set())
    assert body.startswith("## In a Pot\n\n1. **Boil water.**") and changes == []
    assert "\n\n## Section 2\n\n1. Use a bag.\n2. **Run it.**\n\n   Like this:\n\n   ```\n   tea\n     --hot\n   ```\n\n" in body
    assert body.endswith("## Tips\n\n- Warm the pot.")


@pytest.mark.parametrize(
    ("title", "body", "prompt"),
    [
        ("How to Cook an Omelette", "Beat the eggs for the omelette.", "How to cook an omelette?"),
        ("How to Add a Poll to Instagram", "Open Instagram and add a poll to it.", "How to add a poll to Instagram?"),
        ("Cook an Omelette", "An omelette is quick, the omelette.", "How to cook an omelette?"),
        ("3 Easy Ways to Cook an Omelette - wikiHow", "Fold the omelette.", "How to cook an omelette?"),
        ("How to Cook an Omelette (with Pictures)", "Fold the omelette.", "How to cook an omelette?"),
        ("How to Use iTunes on a PC", "", "How to use iTunes on a PC?"),
        ("What to Wear to a Wedding", "You can wear a suit to a wedding.", "What to wear to a wedding?"),
        ("Can Dogs Eat Cheese?", "Most dogs eat cheese.", "Can dogs eat cheese?"),
        ("Can Tomatoes", "Wash the tomatoes.", "How to can tomatoes?"),
        ("How to Do Yoga?", "", "How to do Yoga?"),
        ("how to", "", ""),
        ("How To", "", ""),
    ],
)
def test_the_title_is_a_question(title, body, prompt):
    assert prompt_of(title, body) == prompt


def test_the_sites_own_name_of_a_page():
    assert bare_title("5 Ways to Cook an Omelette - wikiHow") == bare_title("How to Cook an Omelette") == "Cook an Omelette"


texts = st.lists(
    st.sampled_from(["a", " ", "\n", "<b>", "</b>", "<script>x</script>", "[1]", "http://x.org/y", "[[a|b]]", "{{c}}", "''", "&lt;i&gt;", "<img src=x>", "1. ", "- "]), max_size=12
).map("".join)  # fmt: skip


@settings(max_examples=60)
@given(texts, texts, texts)
def test_no_tag_link_or_mark_is_left_and_the_list_counts_its_steps(one, two, three):
    steps = (Step("Begin.", one), Step(two, three), Step("End.", ""))
    body, _ = response_of(article(Section("", steps)), set())
    assert not re.search(r"<(?:b|script|img)\b|https?://|\[\d+\]|\{\{c", body)
    numbers = [int(n) for n in re.findall(r"(?m)^(\d+)\. ", body)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) in (2, 3)


@pytest.mark.parametrize("part", ["<ref>", " ", "[[a", "{{a", "''a", "[1]X", "this ", "a ,", "<b", "&lt", "http://", "[", "- "])
def test_time_grows_with_the_text_and_no_faster(part):
    text = part * 40_000 + "."
    began = time.process_time()
    clean(text)
    rewrite_opening(text)
    speaks_of_itself(text)
    assert time.process_time() - began < 5  # about 0.1 s; what grows with the square takes minutes
