"""Words that this project does not use in prose, each with the plain alternative.

tests/docs/test_plain_words.py checks the documents. The list is independent of Markdown, so it can also check messages,
comments and docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Avoided(NamedTuple):
    """`pattern` is a regular expression, case is ignored, a space may be a line break; `example` contains a match."""

    pattern: str
    instead: str
    example: str


AVOIDED = (
    # verbs
    Avoided(r"told", "said, reported, notified", "each is told `lost`"),
    Avoided(r"(?<!too few images to )(tell|tells|telling)", "say, show, report, notify", "the page tells the runtime"),
    Avoided(r"learns? of", "is notified of, notices", "the parent learns of a death"),
    Avoided(r"(ask|asks|asked|asking) for", "request, require", "computed only when asked for"),
    Avoided(r"(wish|wishes|wished)", "want, request; priority headers", "how a client wishes it"),
    Avoided(r"(stand|stands|stood)", "is, appears", "the reason stands below the table"),
    Avoided(r"spelled out", "listed, written", "so that all paths are spelled out"),
    Avoided(r"looked through", "checked", "the folder is looked through first"),
    Avoided(r"(go|goes|went|gone|going) on", "continue", "a task goes on from its last checkpoint"),
    Avoided(r"(go|goes|went|going) back to", "return to", "the run goes back to the queue"),
    Avoided(r"(give|gives|given|gave|giving)( \w+){0,4} back", "release, return", "gives all its memory back"),
    Avoided(r"(take|takes|took|taken|taking)( \w+){0,2} along", "also ends, drops", "it takes the others along"),
    Avoided(r"(come|comes|came) back", "is restored, returns", "workspaces come back after any end"),
    Avoided(r"made ready", "prepared", "nothing is made ready"),
    Avoided(r"mended", "fixed", "mended after a review"),
    # pronouns
    Avoided(r"whoever|whosoever", "clients that, users who", "whoever waits for the job"),
    Avoided(r"somebody|someone|anybody", "a client, a user", "when somebody asks"),
    Avoided(r"nobody|no one", "no client, nothing", "when nobody waits for it"),
    Avoided(r"(?<=[.:;] )who (?=[^.?!]*[.!])", "a client that, users who", "It ends. Who follows it learns it."),
    # places and manner
    Avoided(r"beside", "next to, compared with, in parallel with", "the model is loaded beside"),
    Avoided(
        r"behind(?! (a |an |the )?(common |load |reverse |TLS |authenticating )*(balancer|interface|nginx|proxy))",
        "after, next to, the reason for", "the version stands behind the name",
    ),
    Avoided(r"the door|another door", "the protocol, the port, the entry point", "behind another door"),
    Avoided(r"the house", "the code base", "in the house"),
    Avoided(r"of (its|their|his|her|one's) own accord", "automatically", "it ends of its own accord"),
    Avoided(r"for ever", "forever, indefinitely", "it tries for ever"),
    Avoided(r"anew|afresh", "again", "the graph is made anew"),
    Avoided(r"under way", "running, in progress", "jobs under way"),
    Avoided(r"now and then", "periodically", "look now and then"),
    Avoided(r"in turn", "alternately, one after another", "measured in turn"),
    # amounts
    Avoided(r"so many|as many as there are", "the number of, at most", "so many at a time"),
    Avoided(
        r"(?<!there )(is|are|was|were) no(?= [a-z])(?! (longer|better|worse|slower|faster|less|different))",
        "is not a", "bodies that are no JSON",
    ),
    Avoided(r"(is|are) (?-i:none)", "is not one, is missing", "a folder that is none"),
    Avoided(r"there is no [^.;]*; there (is|are)", "name what exists", "There is no x; there are y."),
    # nouns
    Avoided(r"pictures?", "image", "a folder of pictures"),
    Avoided(r"(an|each|every|its|no|the|their|with|first) answers?", "response, result, output", "sends each answer"),
    Avoided(r"answers? (of|to) (a|the|each|every|its)", "response to", "compares answers to the question"),
    Avoided(r"last words", "last output", "with signal and last words"),
    Avoided(r"life after death", "restart", "life after death"),
    Avoided(r"rubbish", "invalid data", "large rubbish is refused"),
    Avoided(r"our fault", "server error", "Our fault"),
    Avoided(r"no (\w+ )?file: .* are", "not a … file (expected …)", "no image file: .jpg, .jpeg and .png are"),
)  # fmt: skip

_PATTERNS = [(re.compile(rf"\b(?:{each.pattern})\b".replace(" ", r"\s"), re.IGNORECASE), each) for each in AVOIDED]
_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)


def avoided(text: str) -> Iterator[tuple[int, str, Avoided]]:
    """Each avoided word in a text: its line, from 1, the word as written, and its entry."""
    text = _INDENTATION.sub("", text)
    for pattern, each in _PATTERNS:
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, match.group(), each
