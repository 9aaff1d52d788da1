"""Titles in any script: from the fonts that are installed, else said once."""

import io
import warnings

import numpy as np
import PIL.Image
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from amg.report import figures, fonts


def write_font(path, letters):
    """A font of a family Night in which each of some letters is a black square."""
    pen = TTGlyphPen(None)
    for corner, go in zip(
        ((0, 0), (0, 900), (900, 900), (900, 0)), [pen.moveTo, *3 * [pen.lineTo]]
    ):
        go(corner)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", "square"]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): "square" for letter in letters})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Night", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


@pytest.fixture
def installed(monkeypatch):
    """A list of the paths of the only fonts that are installed."""
    paths: list = []
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: paths)
    monkeypatch.setattr(fonts, "TOLD", [])
    fonts._families.cache_clear()
    yield paths
    fonts._families.cache_clear()


def black(*titles):
    """How many pixels of a bar chart with these names are black; no warning may come."""
    figure, ((axis,),) = figures.panels(figsize=(4, 2))
    axis.barh(titles, [1] * len(titles), color="#ffffff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = figures.image(figure)
    return int((np.array(PIL.Image.open(io.BytesIO(picture.data)).convert("L")) < 60).sum())


def test_an_installed_font_gives_what_the_style_s_font_lacks(installed, tmp_path, capsys):
    boxes = black("夜夜夜夜")
    fonts._families.cache_clear()
    (tmp_path / "damaged.ttf").write_text("no font")
    write_font(tmp_path / "night.ttf", "夜")
    installed += [str(tmp_path / "damaged.ttf"), str(tmp_path / "night.ttf")]
    capsys.readouterr()
    assert black("夜夜夜夜") > 1.2 * boxes
    assert black("Ωж夜") and not capsys.readouterr().out


def test_letters_that_no_font_has_are_told_once(installed, tmp_path, capsys):
    write_font(tmp_path / "night.ttf", "夜")
    installed.append(str(tmp_path / "night.ttf"))
    black("é夜に駆", "plain")
    said = capsys.readouterr().out
    assert said.startswith("No installed font has に駆: boxes stand") and said.count("\n") == 1
    black("駆ける")
    assert not capsys.readouterr().out
