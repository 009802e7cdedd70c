"""Turns of phrase that hold a blacklisted word of step 1 and need no picture, file or browser (Q4, `quirks="fixed"` only).

    without_idioms("Explain how to file a complaint.")     # "Explain how to  ."
    without_idioms("Delete the file.")                     # as it was

What is left in doubt stays dropped, as released: to lose a good instruction costs less than to keep one that nobody can answer.
"""

from __future__ import annotations

import re

_PLAIN = r"(?!(?:images?|graphs?|pictures?|files?|maps?|plots?)\b)[\w-]+"  # any word but a blacklisted one
_WEB = r"(?:[\w-]+ ){0,3}(?:web ?(?:sites?|pages?)|sites?|links?|urls?|https?|www)\b"
_ON_A_MAP = r"[^.?!]*\b(?:routes?|roads?|way|cities|countries|locations?|places)\b"
_FINDINGS = r"(?:conclusions?|inferences?|lessons?|parallels?|distinctions?|comparisons?|analog(?:y|ies)|contrasts?)"
_FILED = (
    r"(?:complaints?|claims?|lawsuits?|suit|tax(?:es)?|tax returns?|reports?|bankruptcy|patents?|appeals?|grievances?"
    r"|charges|divorce|petitions?|motions?|unemployment|restraining order)"
)
_FOR_WHOM = r"(?:(?:an?|for|your|my|the|their|his|her|our|any) )"

IDIOMS: dict[str, tuple[str, ...]] = {
    "draw": (
        rf"draws? (?:(?:an?|any|the|some|your|up|more) )?(?:{_PLAIN} )?(?:{_FINDINGS}|attention|inspiration|lots|blood)",
        rf"{_FINDINGS}\b[^.?!]{{0,40}}\bdraw",
        r"draw (?:up)?on (?:your|his|her|its|their|our|my|past|personal|previous|experiences?|knowledge|evidence)",
        r"(?:ends?|ended|ending|finish(?:es|ed)?|result(?:s|ed)?) in an? draw",
        r"draw up (?:an?|the|your) (?:contract|agreement|will|budget|list|schedule)",
    ),
    "plot": (
        r"plot (?:twists?|summary|summaries|points?|holes?|devices?)",
        r"plot to (?:kill|murder|assassinate|overthrow|steal|rob|destroy|escape)",
        r"plot (?:against|of land)",
    ),
    "file": (
        rf"file {_FOR_WHOM}+(?:{_PLAIN} )?{_FILED}",
        r"file (?:complaints|claims|lawsuits|suit|tax(?:es)?|bankruptcy|patents|appeals|charges)",
        r"single file|rank and file|nail files?",
    ),
    "map": (
        r"map out|on the map|road maps?|hash ?maps?|tree ?maps?|map function",
        rf"(?:to|and|can|could|that|which|please|then|you|we) maps? (?!{_ON_A_MAP})(?:[\w',-]+ ){{1,6}}?(?:to|onto|into)",
        rf"(?<![\w,;:-] )map (?!{_ON_A_MAP})(?:the|each|every|these|all) (?:[\w',-]+ ){{1,5}}?(?:to|onto|into)",
    ),
    "go to": (
        rf"(?:i|we|they|he|she|people|cats|dogs|kids|children|students|don't|can't|cannot|not|never) go to(?! {_WEB})",
        rf"(?<!you )to go to(?! {_WEB})",
        r"go to (?:bed|sleep|school|work|college|university|church|war|court|jail|prison|waste)",
        r"go to the (?:gym|doctor|dentist|beach|park|store|shop|movies|bathroom|hospital)",
    ),
    "image": (r"(?:self|public|body|brand|mirror|corporate|spitting|docker|disk|container)[- ]images?",),
    "picture": (r"big(?:ger)? picture|motion pictures?|best picture|picture yourself",),
    "graph": (r"(?:knowledge|social) graphs?|graph (?:theory|databases?|algorithms?|traversals?)",),
}
_IDIOMS = re.compile("|".join(rf"\b(?:{phrase})\b" for phrases in IDIOMS.values() for phrase in phrases), re.IGNORECASE)

# "plot" is also what happens, where it is a noun in a text about stories: not in "Make a plot of movie ratings"
_STORIES = (
    r"(?:movies?|films?|series|stor(?:y|ies)|novels?|novellas?|books?|plays?|dramas?|comed(?:y|ies)|thrillers?|episodes?"
    r"|fiction|tales?|characters?|protagonist|screenplays?|scripts?|narratives?|operas?|musicals?|anime|comics?|scenes?|genre)"
)
_FIGURES = (
    r"(?:data|datasets?|ax[ei]s|charts?|histograms?|scatter|bars?|curves?|functions?|equations?|numbers?|values?|ratings?"
    r"|sales|prices?|revenues?|counts?|lengths?|temperatures?|over time|versus|vs|per (?:day|week|month|year)|matplotlib|python"
    r"|excel|distributions?|correlations?)"
)
_STORY, _FIGURE = (re.compile(rf"\b{words}\b", re.IGNORECASE) for words in (_STORIES, _FIGURES))
_PLOT_AS_NOUN = re.compile(
    rf"(?:\b(?:the|an?|its|his|her|their|your|my|our|this|that|main|new|original|central|whole)|['’]s?|\b{_STORIES}) plot\b"
    r"|\bplot of\b",
    re.IGNORECASE,
)


def without_idioms(text: str) -> str:
    """`text` with a space in place of each such turn of phrase."""
    if _STORY.search(text) and not _FIGURE.search(text):
        text = _PLOT_AS_NOUN.sub(" ", text)
    return _IDIOMS.sub(" ", text)
