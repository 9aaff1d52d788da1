"""Command line: `python -m amg reproduce --profile demo`."""

import argparse
import os
import sys

from amg import machine, paths
from amg.catalogue import calibration, identify, indexing, windows
from amg.check import InputError
from amg.fingerprint import fingerprinters, folder
from amg.report import pages, pipeline, reads

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
    subparsers = parser.add_subparsers(dest="command", required=True)

    def command(name, run, text, *options):
        added = subparsers.add_parser(name, help=text)
        added.set_defaults(run=run)
        for option, settings in options:
            added.add_argument(option, **settings)

    known = ", ".join(pipeline.profiles()) or "those of a checkout"
    profile = _option("--profile", f"one of: {known}", default="demo")
    command("reproduce", _reproduce, "run the notebooks of a profile, in order", profile)
    command("results", _results, "print a reference run's results as Markdown", profile)
    text = "make the last run of a profile the one that others are compared with"
    command("reference", _reference, f"{text} (of committed code only)", profile)

    notebook = _option("notebook", f"one of: {', '.join(reads.NOTEBOOKS)}")
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE"), "action": "append", "default": []}
    given = _option("-p", "a parameter, its value in YAML; as often as need be", **pair)
    command("run", _run, "run one notebook, and see what it says as it says it", notebook, given)

    text = "weights of notebook 00_fingerprinter (default: the shipped ones)"
    weights = _option("--fingerprinter", text, metavar="FILE", default="")
    workers = _option("--workers", "processes", type=int, default=2)
    audio = _folder("audio", "folder of audio files")
    target = _folder("target", "folder for their .npy files")
    device = _option("--device", ", ".join(machine.DEVICES), default="auto")
    text = "fingerprint every audio file below a folder"
    command("extract", _extract, text, audio, target, device, weights, workers)

    text = f"where it lies (default: {indexing.CATALOGUE})"
    of_catalogue = (_folder("--catalogue", text, metavar="FOLDER"), weights)
    folders = _folder("folders", "folders of audio files", nargs="+")
    encoder = _option("--encoder", "lift, lift1024, mean or mt", default="lift")
    text = "seconds of a segment: 5, 10, 15 or 30"
    duration = _option("--duration-max", text, type=int, default=10)
    text = "make your music known, or what is new in it"
    command("index", indexing.command, text, folders, encoder, duration, *of_catalogue, workers)

    text = "audio files, folders of them, or - for standard input"
    sounds = _option("sounds", text, nargs="+")
    method = _option("--method", f"one of: {', '.join(windows.METHODS)}", default="two_stage")
    as_json = _option("--json", "a line of JSON for each file", action="store_true")
    text = "name the music in audio files"
    command("identify", identify.command, text, sounds, method, as_json, *of_catalogue)

    train_set = _option("--train-set", "its songs", default="open_music")
    database = _option("--database", "its database", default="database/open_music")
    n_valid = _option("--n-valid", "songs held out", type=int, default=100)
    text = "fit what identify needs, to the music that a profile prepared"
    command("calibrate", calibration.command, text, train_set, database, n_valid)
    return parser


def _option(name, text, **settings):
    """Name and settings of an argument; its help tells the default, if there is one."""
    default = settings.get("default")
    return name, {"help": f"{text} (default: {default})" if default else text, **settings}


def _folder(name, text, **settings):
    return _option(name, text, type=os.path.abspath, **settings)


def _reproduce(arguments):
    pipeline.reproduce(arguments.profile)


def _results(arguments):
    print(pages.results(arguments.profile))


def _reference(arguments):
    print(f"{paths.relative(pages.make_reference(arguments.profile))} written")


def _run(arguments):
    executed = pipeline.run(arguments.notebook, dict(arguments.p))
    print(f"executed notebook, tables and figures: {paths.relative(executed.parents[1])}/")


def _extract(arguments):
    prints = fingerprinters.find(arguments.fingerprinter)
    written, refused = folder.extract(
        arguments.audio, arguments.target, prints, arguments.workers, arguments.device
    )
    print(*refused, f"{written} files fingerprinted, {len(refused)} left out", sep="\n")


if __name__ == "__main__":
    main()
