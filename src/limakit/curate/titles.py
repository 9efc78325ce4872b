"""Does a question stand in its title alone? (paper, section 2.1: "self-contained in the title (no body needed)")

The paper's authors read; this is a heuristic that says which titles a person should read. It looks for signs that a title leans on its body,
on its page or on its site, and names the first it finds. Titles are taken to be English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 400  # no site allows longer ones; the patterns' time must not grow with what somebody put into a dump
# What is spoken of and not said: 'this' in quotation marks, in code or in a formula points at nothing.
_MENTIONED = re.compile(r"\"[^\"]*\"|“[^”]*”|``?[^`]+``?|\$\$?[^$]+\$\$?|(?<!\w)['‘][^'’]{1,80}['’](?!\w)")

_CLOSED = re.compile(r"\[(?:closed|duplicate|on hold|migrated|locked|deleted|solved)\]")
_UPDATE = re.compile(r"^\W*(?:(?:major |final |small )?(?:update|edit|modpost|mod post|follow[- ]?up|part (?:two|three|ii+|\d+))\b)")
_BREAKS_OFF = re.compile(r"(?:\.\s?\.\s?\.?|…)\s*$")
_HELP = re.compile(
    r"""^help\b(?!\s(?:with|text|desk|to|for|page|file|center|centre|system)\b) | \bhelp\s?(?:me|us)?(?:\splease)?\s?!*$ | \b(?:please|pls|plz|need|urgent)\W+help\b
    | \bhelp\splease\b | \bhelp\W*!  | \b(?:can|could)\s(?:you|reddit|anyone|anybody|someone|somebody|redditors)\s(?:\w+\s)?help\b""",
    re.VERBOSE,
)
_POINTS = re.compile(
    r"""\b(?:stor(?:y|ies)|details?|pics?|pictures?|photos?|images?|screenshots?|links?|videos?|examples?|code|letter|more|family)\s
            (?:[\w']+\s){0,3}?(?:inside|included|attached|enclosed|below|in\s(?:the\s)?(?:text|comments|body|description))\b
    | \b(?:see|shown|given|described|mentioned|listed|stated|as)\s(?:above|below|attached|inside)\b
    | \bthe\s(?:following|above|below|attached)\b | \bas\sfollows\b | (?<!\bor\s)(?<!\band\s)(?<!\bfrom\s)\b(?:above|below|attached)\W*$
    | \b(?:in|on|from|at|of)\sthe\s(?:picture|image|photo|photograph|screenshot|figure|diagram)\b
    | \b(?:i['’]?ll|let\sme)\s(?:start|begin|go\sfirst) | \bhere(?:['’]?s|\sis|\sare)\s(?:mine|my|what|some|the|an?|how)\b
    | [\[(](?:pics?|pictures?|images?|photos?|screenshots?|links?|videos?)[\])] | \bscreenshots?\W*$""",
    re.VERBOSE,
)
_HERE = re.compile(r"\bhere\b(?!\sto\sstay|\sand\sthere)(?<!\bfrom\shere)(?<!\bin\shere)")
_SITE = re.compile(
    r"""\b(?:on|off)[-\s]?topic\b | \bthis\s(?:site|community|stack|forum|subreddit|subforum)\b | \bmain\ssite\b | \bmeta\b\W*$
    | \b(?:up|down)[-\s]?vot | \bclose(?:d)?[-\s](?:votes?|reasons?|questions?)\b | \bvot(?:e|es|ed|ing)\sto\s(?:re)?(?:close|open)
    | \b(?:community|site|our|your|new)\smoderators?\b | \bmoderators?\s(?:election|nomination|candidate|announcement|q&a|tool|flag)
    | \bmoderation\s(?:strike|queue|tool|team|polic) | \bpro[-\s]?tem(?:pore)?\b | \bcommunity\swiki\b | \bcommunity\s(?:promotion\s)?ads?\b
    | \b(?:first|suggested)\sposts?\b | \b(?:accepted|deleted|migrated)\s(?:answers?|questions?|comments?)\b | \bbount(?:y|ies)\sonto?\b
    | \btag\s(?:synonym|wiki|merge|proposals?|suggestions?) | \b(?:delete|merge|remove|retag|rename)\s(?:the\s)?tags?\b
    | \btoo\s(?:broad|locali[sz]ed)\b | \bopinion[-\s]based\b
    | \b(?:my|the|an?|this|your)\s(?:[\w-]+\s)?(?:question|answer|comment|edit|flag|post|account)s?\s
        (?:\w+\s)?(?:been\s)?(?:closed|deleted|removed|rejected|migrated|declined|downvoted|edited|flagged|locked|protected|reopened)\b""",
    re.VERBOSE,
)
_SITE_TAGS = frozenset({"discussion", "support", "feature-request", "bug"})  # a question on a meta site must have one of these
_IDENTIFY_TAG = re.compile(r"identif(?:y|ication)|tip-of-the-tongue")
_IDENTIFY = re.compile(
    r"""\b(?:what|who|which|where)(?:['’]?s|\sis|\sare|\swas)\s(?:\w+\s)?(?:this|these|that(?=\W*$))\b
    | \b(?:what|which)\s(?:(?:kind|type|sort|species|model|brand|breed|variety)\sof\s)?(?:\w+\s){1,2}(?:is|are)\s(?:this|these|that(?=\W*$))\b
    | \b(?:identify|identifying|recogni[sz]e|name)\s(?:of\s)?(?:this|these|that|a|an|my)\b | \bi\.?d\.?\s(?:this|these|my)\b
    | \bidentification\W*$""",
    re.VERBOSE,
)
# this year, this way up; "and then this happened" after a sentence that says what
_POINTING = re.compile(
    r"""\b(?:this|these|those(?=\s(?:two|three|\w+s\?*$)))\b
        (?!\s(?:time|year|years|month|week|weekend|morning|evening|afternoon|century|decade|season|summer|winter|spring|autumn|fall|day|days|world|planet
            |instant|moment|country|coming|past|last|guy|girl|kid|person|quoted)\b | \s?:\s | \s(?:[\w'’-]+\s){1,4}(?:where|who|which)\b)""",
    re.VERBOSE,
)
_SENTENCE = re.compile(r"(?:[.?!:;]|,\s|\s[-–—]\s)")
_PLAIN = r"(?:how|why|what|when|where|who|which|whose|is|are|was|were|do|does|did|can|could|should|would|will|has|have|had|i|we|you|to|a|an|the|so|and|but|if|in|on|for|of|with|much|many|long|often|fix|use|make|get|solve|do|say|call|know|best|way|possible|not|n['’]?t|don['’]?t|doesn['’]?t)"
_UNNAMED = re.compile(
    rf"""^(?:{_PLAIN}\W+){{0,7}}(?:
        (?:he|she|him|her|his|hers)\b
        | (?:\w+\s)?(?:it|them)\W*$
        | (?:it|they|one)\s(?:(?:does|did|is|do|are|was|would|will|can)\s?(?:not|n['’]?t)?\s)?(?:not\s)?
            (?:so\s\w+|work|works|working|happen|happens|happening|fail|fails|failing|crash|crashes|slow|wrong)\W*$)""",
    re.VERBOSE,
)
_OWN = re.compile(
    r"""\bmy\s(?:\w+\s)?(?:code|function|program|script|query|loop|regex|proof|reasoning|solution|attempt|approach|implementation|homework|assignment
            |problem|question|answer|comment|edit|situation|case|data|results?|output)\b(?!\s?[,:;])
    | \bam\si\s(?:doing|missing|getting|being)\b | \bdid\si\s(?:do|go|get|miss)\b | \bi\s?(?:am|['’]m)\s(?:doing|missing)\b
    | \bis\s(?:it|that)\s(?:correct|right|true)\W*$""",
    re.VERBOSE,
)
_FAULT = re.compile(
    r"""^(?:\w+\s){0,2}(?:[\w.]*error|exception|warning|fatal|traceback)\s?[:\-–—]\s | ^\w+(?:\.\w+)*(?:error|exception)\b
    | \b(?:get|gets|getting|got|gives?|giving|throws?|throwing|returns?|shows?|having|have)\s(?:me\s)?(?:an?|the|some|strange|weird)\s(?:\w+\s)?
        (?:error|errors|exception|problem|issue|trouble)\b
    | (?:\bnot|n['’]?t)\s(?:be\s)?(?:work|works|working)\W*$""",
    re.VERBOSE,
)
_IDENTIFIER = re.compile(r"[\W\d_]*[\w.:/#\\-]*[\d_/\\#.][\w.:/#\\-]*\W*")

_ASKS = re.compile(
    r"""\? | (?:^|[.,;:!]\s|\s[-–—]\s)\W*(?:so|and|but|ok|hey|dear)?\W*(?:how|what|whats|why|when|where|wheres|who|whos|whose|whom|which|is|isn['’]?t|are|aren['’]?t|was|were
        |do|does|don['’]?t|doesn['’]?t|did|can|can['’]?t|could|should|shouldn['’]?t|would|will|won['’]?t|has|have|had|may|might|must|am|shall|whether|if)\b
    | \b(?:how|what|why|when|where|which|who)\s(?:to|is|are|was|were|do|does|did|can|should|would|will|the|much|many|long|you|your|has|have)\b
    | \bwhat['’]?s\b | \bor\snot\b""",
    re.VERBOSE,
)
_WISHES = re.compile(
    r"""\b(?:difference|differences|distinction|comparison|versus|vs|compared|recommend|recommended|recommendation|recommendations|recomendation|recomendations
        |suggestion|suggestions|advice|tip|tips|trick|tricks|guidelines|guide|alternative|alternatives|substitute|substitutes|replacement|options
        |example|examples|counterexample|reference|references|sources|resources|list|definition|meaning|etymology|origin|origins|pronunciation|explanation|explain
        |reason|reasons|cause|causes|purpose|advantages|disadvantages|pros|benefits|downsides|drawbacks|impact|effect|effects|influence
        |technique|techniques|procedure|method|methods|process|strategy|strategies|formula|algorithm|proof|derivation|calculation|calculator|conversion
        |ways?\sto|best|cheapest|fastest|easiest|safest|fix|cure|cleaner|tell\sme|looking\sfor|seeking|searching\sfor|in\ssearch\sof|wanted
        |similar\s\w*\s?\w*\s?to|something\slike|books?\s(?:on|about|for)|request|estimated|(?:words?|synonyms?|term|phrase|idiom)\sfor|for\s(?:the\s)?beginners?|(?:apps?|software|tools?|library|service)\s(?:for|to)|to\s(?:use|try|visit|buy|read|watch|learn))\b""",
    re.VERBOSE,
)
# a task put as one: "Convert a string to int", "Generating crema with a manual machine"
_GERUND = re.compile(
    r"^\W*(?!(?:trying|having|getting|wondering|thinking|being|going|seeing|feeling|thing|something|nothing|anything|everything|string|ring|king|wing|spring|"
    r"morning|evening|during|beijing|boeing|sibling|ceiling|wedding|broadening|introducing|announcing|surprising|missing|interesting|strange)\b)"
    r"(?:\w+ly\s)?[a-z]{2,}ing\s\w"
)
_TASK = re.compile(
    r"""^\W*(?:add|access|cent(?:er|re)|adjust|allow|apply|arrange|assign|automate|avoid|block|bind|boot|build|bypass|calculate|call|capture|cast|change|check|choose|clean|clear|clone|combine
        |compare|compile|compute|configure|connect|convert|copy|count|create|customi[sz]e|cut|debug|decode|define|delete|deploy|describe|design|detect|determine|disable
        |display|divide|download|draw|drop|edit|eliminate|embed|enable|encode|encrypt|enforce|ensure|escape|estimate|evaluate|execute|expand|export|express|extend|extract
        |factor|fetch|fill|filter|find|flatten|force|format|generate|get|give|group|handle|hide|highlight|identify|implement|import|improve|include|increase|decrease
        |insert|inspect|install|integrate|invert|iterate|join|keep|kill|limit|list|load|locate|lock|loop|make|manage|map|match|maximi[sz]e|measure|merge|minimi[sz]e|modify
        |monitor|mount|move|name|open|optimi[sz]e|order|override|parse|pass|pick|place|plot|position|predict|prepare|preserve|prevent|print|prove|pull|push|put|query|read
        |recover|redirect|reduce|refresh|remove|rename|render|repair|repeat|replace|reset|resi[sz]e|resolve|restore|restrict|retrieve|return|reverse|rotate|round|run|save
        |scale|scan|schedule|search|select|send|separate|serve|set|share|show|shrink|simplify|skip|solve|sort|specify|split|start|stop|store|style|submit|subtract|sum|swap|switch|sync
        |tell|test|toggle|trace|transfer|transform|translate|trigger|trim|turn|undo|uninstall|unlock|update|upgrade|upload|use|validate|verify|view|visuali[sz]e|wait|wrap|write)\b\s\w""",
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d_]{2,}|\b[aAI]\b|\d+")


def title_problem(title: str, tags: Sequence[str] = ()) -> str | None:
    """Why a title does not stand alone, in a few words, or None where nothing speaks against it.

    `tags` are the question's: those that a meta site demands, and those of requests to identify what a picture shows, say what a title may
    not. It is a heuristic: tests/curate/test_titles.py prints how often it agreed with a person's labels.
    """
    title = title.strip()[:_LONGEST]
    text = " ".join(_MENTIONED.sub(" quoted text ", title.lower()).split())
    words = _WORD.findall(text)
    if len(words) < 3:
        return "too short to ask anything"
    if _IDENTIFIER.fullmatch(title) or sum(map(len, words)) < 0.5 * len("".join(text.split())):
        return "code or symbols rather than words"
    for tag in tags:
        if tag in _SITE_TAGS:
            return f"about the site (tagged {tag})"
        if _IDENTIFY_TAG.search(tag):
            return f"asks to identify something (tagged {tag})"
    signs = _SIGNS + _RARER if _CLUES.search(text) else _SIGNS
    return next((reason for reason, sign in signs if sign.search(text)), None) or _pointing(text) or _silent(text)


_SIGNS = (
    ("marked as closed", _CLOSED),
    ("an update to an earlier post", _UPDATE),
    ("breaks off", _BREAKS_OFF),
    ("about the site", _SITE),
    ("asks to identify something", _IDENTIFY),
    ("speaks of something of one's own that only the body shows", _OWN),
    ("a pronoun for something not named", _UNNAMED),
)
_RARER = (  # looked for only where there is a clue, which is three times quicker
    ("a cry for help", _HELP),
    ("points to its body", _POINTS),
    ("speaks of the page as 'here'", _HERE),
    ("an error that only the body explains", _FAULT),
)
_CLUES = re.compile(
    "help|here|start|begin|go first|inside|includ|attach|enclos|below|above|follow|in (?:the )?(?:text|comm|body|desc)|the (?:pic|image|photo|screen|fig|diag)"
    "|pic[ )s]|[(\\[](?:pic|image|photo|screen|link|video)|screenshot|error|exception|warning|fatal|traceback|problem|issue|trouble|work"
)


def _pointing(text: str) -> str | None:
    """'this' or 'these' with no sentence before it that could say what is meant."""
    found = _POINTING.search(text)
    if found is None:
        return None
    before = [part for part in _SENTENCE.split(text[: found.start()])[:-1] if len(part.split()) > 4]
    return None if before else f"points at something not named: {found[0]!r}"


def _silent(text: str) -> str | None:
    """No question mark, no word that asks, wishes or sets a task: a bare topic or a statement."""
    asks = _ASKS.search(text) or _WISHES.search(text) or _GERUND.search(text) or _TASK.search(text)
    return None if asks else "asks nothing"
