"""What `identify` answers, for programs and for people."""

from dataclasses import asdict, dataclass
from pathlib import Path

from amg.check import one_line

CERTAIN = 1e-7  # of `chance`; a match that chance gives more often is likely


@dataclass(frozen=True)
class Match:
    """A part of the query and where it is heard; times in seconds."""

    path: str
    title: str
    artist: str
    begin_s: float  # of the query
    end_s: float
    position_s: float  # in the recording, where the query has begin_s
    score: float  # of the best window: 1 is the very sound
    chance: float  # how many as good ones chance gives, in a query and a catalogue of this size
    evidence: float  # minus the logarithms of `chance` of its windows, added up
    speed: float = 1.0  # of the query, as good a guess as 2 % allow; 1.02 is faster
    also: tuple = ()  # paths of further files that are the same, byte for byte

    @property
    def name(self) -> str:
        """Artist and title, or the file's name."""
        named = " - ".join(filter(None, (self.artist.strip(), self.title.strip())))
        return named if self.title.strip() else Path(self.path).name

    def named(self, paths) -> str:
        """The name in one line, with the path if `paths`."""
        return one_line(f"{self.name} ({self.path})" if paths else self.name)

    def line(self, paths) -> str:
        """All of it, for people."""
        odds = f"1 in {1 / max(self.chance, CERTAIN):,.0f}"
        sure = f"likely (by chance {odds})"
        if self.chance <= CERTAIN:
            sure = f"certain (by chance at most {odds})"
        if self.speed != 1:
            sure += f", about {abs(self.speed - 1):.0%} {'faster' if self.speed > 1 else 'slower'}"
        begin, end, position = map(_clock, (self.begin_s, self.end_s, self.position_s))
        also = f" (also: {one_line(', '.join(self.also))})" if self.also else ""
        return f"{begin}-{end}  {self.named(paths)}, from {position} on, {sure}{also}"


@dataclass(frozen=True)
class Answer:
    """What `identify` found: the matches, in the order of the query's time, none if the music is
    not here; and the best candidates, one per recording, best first, whether they count or not."""

    query: str
    seconds: float
    matches: list
    candidates: list

    def to_dict(self) -> dict:
        """For JSON."""
        return asdict(self)

    def text(self, paths=False) -> str:
        """For people, a line per match; paths: whether it has the files' paths."""
        query, nearest = one_line(self.query), ""
        if self.matches:
            return "\n".join([f"{query}:", *(f"  {match.line(paths)}" for match in self.matches)])
        for match in self.candidates[:1]:
            nearest = f" (nearest: {match.named(paths)}, score {match.score:.2f})"
        return f"{query}: not here{nearest}"

    def __str__(self):
        return self.text()


def _clock(seconds):
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
