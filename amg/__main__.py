"""Command line: `python -m amg reproduce --profile demo`."""

import argparse
import os
import sys

from amg import machine, paths
from amg.catalogue import calibration, identify, indexing, windows
from amg.check import InputError
from amg.fingerprint import fingerprinters, folder
from amg.report import pages, pipeline, steps

# commands that read notebooks or committed reports
OF_CHECKOUT = ("reproduce", "results", "reference", "run")


def main() -> None:
    """Run the command line; what was wrong with its input, or with a disk, ends it with one
    sentence."""
    arguments = _parser().parse_args()
    try:
        if arguments.command in OF_CHECKOUT and not paths.is_checkout():
            raise InputError(
                f"the command {arguments.command} needs a checkout of the repository, with its "
                "notebooks; run it there."
            )
        arguments.run(arguments)
    except InputError as error:
        sys.exit(f"amg: {error}")
    except OSError as error:
        sys.exit(f"amg: {error}; once this is mended, give the same command again.")
    except KeyboardInterrupt:
        sys.exit("amg: interrupted; the same command continues where it stopped.")


def _parser():
    parser = argparse.ArgumentParser(prog="python -m amg", description=__doc__)
    commands_ = parser.add_subparsers(dest="command", required=True)

    def command(name, run, text):
        added = commands_.add_parser(name, help=text)
        added.set_defaults(run=run)
        return added

    profiles = ", ".join(pipeline.profiles()) or "those of a checkout"
    for name, run, text in (
        (
            "reproduce",
            lambda a: pipeline.reproduce(a.profile),
            "run the notebooks of a profile, in order",
        ),
        (
            "results",
            lambda a: print(pages.results(a.profile)),
            "print a reference run's results as Markdown",
        ),
        (
            "reference",
            _reference,
            "make the last run of a profile the one that others are "
            "compared with (of committed code only)",
        ),
    ):
        command(name, run, text).add_argument(
            "--profile",
            default="demo",
            help=f"one of: {profiles} (default: demo)",
        )
    run = command("run", _run, "run one notebook, and see what it says as it says it")
    run.add_argument("notebook", help=f"one of: {', '.join(steps.NOTEBOOKS)}")
    run.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter, its value in YAML; as often as need be",
    )
    extract = command("extract", _extract, "fingerprint every audio file below a folder")
    extract.add_argument("audio", type=os.path.abspath, help="folder of audio files")
    extract.add_argument("target", type=os.path.abspath, help="folder for their .npy files")
    extract.add_argument("--device", default="auto", help=", ".join(machine.DEVICES))
    index = command("index", indexing.command, "make your music known, or what is new in it")
    index.add_argument("folders", nargs="+", type=os.path.abspath, help="folders of audio files")
    index.add_argument("--encoder", default="lift", help="lift (default), lift1024, mean or mt")
    index.add_argument(
        "--duration-max",
        type=int,
        default=10,
        help="seconds of a segment: 5, 10 (default), 15 or 30",
    )
    asking = command("identify", identify.command, "name the music in audio files")
    asking.add_argument(
        "sounds", nargs="+", help="audio files, folders of them, or - for standard input"
    )
    asking.add_argument(
        "--method",
        default="two_stage",
        help=f"one of: {', '.join(windows.METHODS)} (default: two_stage)",
    )
    asking.add_argument("--json", action="store_true", help="a line of JSON for each file")
    calibrate = command(
        "calibrate",
        calibration.command,
        "fit what identify needs, to the music that a profile prepared",
    )
    calibrate.add_argument("--train-set", default="open_music", help="default: open_music")
    calibrate.add_argument(
        "--database", default="database/open_music", help="default: database/open_music"
    )
    calibrate.add_argument("--n-valid", type=int, default=100, help="songs held out (default: 100)")
    for added in (index, asking):
        added.add_argument(
            "--catalogue",
            type=os.path.abspath,
            metavar="FOLDER",
            help=f"where it lies (default: {indexing.CATALOGUE})",
        )
    for added in (extract, index, asking):
        added.add_argument(
            "--fingerprinter",
            default="",
            metavar="FILE",
            help="weights of notebook 00_fingerprinter (default: the shipped ones)",
        )
    for added in (extract, index):
        added.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    return parser


def _reference(arguments):
    print(f"{paths.relative(pages.make_reference(arguments.profile))} written")


def _run(arguments):
    executed = pipeline.run(arguments.notebook, dict(arguments.p))
    print(f"executed notebook, tables and figures: {paths.relative(executed.parents[1])}/")


def _extract(arguments):
    written, refused = folder.extract(
        arguments.audio,
        arguments.target,
        fingerprinters.find(arguments.fingerprinter),
        arguments.workers,
        arguments.device,
    )
    print(*refused, f"{written} files fingerprinted, {len(refused)} left out", sep="\n")


if __name__ == "__main__":
    main()
