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
    position_s: float  # in the recording, where the query has begin_s; see within_s
    score: float  # of the best window: 1 is the very sound
    # how many as good ones chance gives, in a query and a catalogue of this size: may exceed 1
    chance: float
    evidence: float  # minus the logarithms of `chance` of its windows, added up
    speed: float = 1.0  # of the query, as good a guess as 2 % allow; 1.02 is faster
    also: tuple = ()  # paths of further files that are the same, byte for byte
    within_s: float = 0.0  # all that is known is that it lies so far behind position_s at most

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
        sure = "certain"
        if self.chance > CERTAIN:
            sure = (
                f"likely (about 1 in {float(f'{1 / self.chance:.1g}'):,.0f} by chance, nominally)"
            )
        if self.speed != 1:
            sure += f", about {abs(self.speed - 1):.0%} {'faster' if self.speed > 1 else 'slower'}"
        begin, end = clock(self.begin_s), clock(self.end_s)
        place = f"from {clock(self.position_s)} on"
        if self.within_s:
            first, last = self.position_s, self.position_s + self.within_s
            place = f"somewhere in {clock(first, 0)}-{clock(last, 0)}"
        also = f" (also: {one_line(', '.join(self.also))})" if self.also else ""
        return f"{begin}-{end}  {self.named(paths)}, {place}, {sure}{also}"


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


def clock(seconds, digits=1) -> str:
    """Minutes and seconds, as 0:07.5; digits: of the seconds, behind the point."""
    seconds = round(seconds, digits)
    return f"{int(seconds // 60)}:{seconds % 60:0{digits + 3 if digits else 2}.{digits}f}"
