"""Glyphs for titles in any script: from installed fonts, beside the one of all figures."""

import warnings
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

TOLD: list = []  # letters that no installed font has, when that was said


def savefig(figure, file, **options) -> None:
    """`figure.savefig`, its texts in fonts that have their characters. Where no installed font has
    them, boxes stand for them, and that is said once."""
    for axes in figure.axes:  # names of categories are written to their ticks now
        axes.get_xticklabels(), axes.get_yticklabels()
    texts = figure.findobj(Text)
    written = {ord(letter) for text in texts for letter in text.get_text() if letter.isprintable()}
    own = FT2Font(font_manager.findfont(font_manager.FontProperties())).get_charmap().keys()
    if written - own:
        families, nowhere = _families(frozenset(written - own))
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])
        if nowhere:
            _tell_once("".join(map(chr, sorted(nowhere))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, **options)


@cache
def _families(characters):
    """(families of installed fonts for these characters, a frozenset of numbers, as few as there
    may be; those that no font has)."""
    has = {}
    for path in sorted(font_manager.findSystemFonts()):
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # damaged, or of another kind
            continue
        if font.scalable and (glyphs := characters & font.get_charmap().keys()):
            font_manager.fontManager.addfont(path)  # installed since matplotlib last looked
            has.setdefault(font.family_name, set()).update(glyphs)
    families, left = [], set(characters)
    while has and (best := max(has, key=lambda name: len(has[name] & left))) and has[best] & left:
        families.append(best)
        left -= has[best]
    return families, left


def _tell_once(letters):
    if not TOLD:
        TOLD.append(letters)
        print(
            f"No installed font has {letters}: boxes stand for such letters in figures; install a "
            "font of that script, as one of the Noto family."
        )
