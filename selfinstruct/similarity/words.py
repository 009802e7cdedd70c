"""The words of a text: rouge_score's, those of any script, and how many there are where no spaces part them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from ..files import ParameterError

ASCII_WORD = re.compile("[a-z0-9]+")
# what the tokenizer takes character by character; a dot parts the syllables of Tibetan, so those are its tokens
_TOKENS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
# scripts written without spaces. Here a character is about a word: kana, bopomofo and Han
_CHARACTER_WORDS = (
    "\u3005-\u3007\u3021-\u3029\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# here about three letters are one: Thai, Lao, Tibetan, Burmese, Khmer, and their smaller neighbours
_LETTER_WORDS = "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
LETTERS_A_WORD = 3
PIECE = 2000  # characters
UNSPACED = re.compile(f"[{_CHARACTER_WORDS}{_LETTER_WORDS}]")
_CHARACTER_WORD = re.compile(f"[{_CHARACTER_WORDS}]")


def split_ascii(text: str) -> list[str]:
    """rouge_score's tokens: runs of a-z and 0-9 in the lower-cased text; accents, CJK and the rest separate them."""
    return ASCII_WORD.findall(text.lower())


class _WordCharacters(dict):
    """A `str.translate` table that learns: letters, marks and digits stay, unspaced scripts are spaced out."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character if unicodedata.category(character)[0] in "LMN" else " "
        self[code] = f" {kept} " if _TOKENS.match(character) else kept
        return self[code]


_WORD_CHARACTERS = _WordCharacters()


def split_unicode(text: str) -> list[str]:
    """Words of any script; of scripts written without spaces, characters. On ASCII text equal to `split_ascii`."""
    return _normalise(text).lower().translate(_WORD_CHARACTERS).split()


def _normalise(text: str) -> str:
    """NFKC; of a long text word by word, and PIECE characters at a time, since marks out of order take the square of their number."""
    if len(text) <= PIECE:
        return unicodedata.normalize("NFKC", text)
    words = ((word[start : start + PIECE] for start in range(0, len(word), PIECE)) for word in text.split())
    return " ".join("".join(unicodedata.normalize("NFKC", piece) for piece in pieces) for pieces in words)


TOKENIZERS = {"rouge_score": split_ascii, "unicode": split_unicode}


def choose_tokenizer(quirks: str, tokenizer: str | Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """The function that splits texts: "rouge_score", the only one as published, "unicode", or the caller's own."""
    if quirks not in ("published", "fixed"):
        raise ParameterError(f'quirks={quirks!r}; use "published" or "fixed"')
    if quirks == "published" and tokenizer != "rouge_score":
        raise ParameterError(f'tokenizer={tokenizer!r} changes published scores; ask for it with quirks="fixed"')
    if not callable(tokenizer) and tokenizer not in TOKENIZERS:
        raise ParameterError(f"tokenizer={tokenizer!r}; use one of {sorted(TOKENIZERS)} or a function str -> list")
    return tokenizer if callable(tokenizer) else TOKENIZERS[tokenizer]


def count_words(text: str, quirks: str = "published") -> int:
    """What stands between white space, as the paper counts. Fixed also counts the words of scripts that set no spaces.

    There a Chinese or Japanese character is a word, and three letters of Thai, Lao, Tibetan, Burmese or Khmer are one.

    >>> count_words("写一首短诗。"), count_words("写一首短诗。", "fixed"), count_words("Write a poem - now", "fixed")
    (1, 5, 5)
    """
    unspaced = UNSPACED.findall(text) if quirks == "fixed" else ()
    if not unspaced:
        return len(text.split())
    characters = sum(_is_letter(one) for one in _CHARACTER_WORD.findall(text))
    letters = sum(map(_is_letter, unspaced)) - characters
    others = sum(any(map(str.isalnum, piece)) for piece in UNSPACED.sub(" ", text).split())
    return characters - (-letters // LETTERS_A_WORD) + others


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"
