"""Command line: `amg reproduce --profile demo`, or `python -m amg`.

A command's modules are imported when it is given: help is there at once.
"""

import argparse
import os
import pkgutil
import sys

import amg
from amg import paths
from amg.check import InputError, one_line

# commands that read notebooks or committed reports
OF_CHECKOUT = ("reproduce", "reference", "run", "plan", "sweep")


def main() -> None:
    """Run the command line; what was wrong with its input, or with a disk, ends it with one
    sentence."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # whatever the terminal cannot show
    given = vars(_parser().parse_args())
    command, run = given.pop("command"), given.pop("run")
    try:
        if command in OF_CHECKOUT and not paths.is_checkout():
            raise InputError(
                f"the command {command} needs a checkout of the repository, with its notebooks; "
                "run it there."
            )
        pkgutil.resolve_name(run)(**given)
    except InputError as error:
        sys.exit(f"amg: {one_line(error)}")
    except BrokenPipeError:  # whoever read the output, as head does, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        sys.exit(f"amg: {one_line(error)}; once this is mended, give the same command again.")
    except KeyboardInterrupt:
        sys.exit("amg: interrupted; the same command continues where it stopped.")


def _parser():
    parser = argparse.ArgumentParser(prog="amg", description=amg.__doc__.split("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"amg {amg.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True)

    def command(name, run, text, *options):
        # run: the name of a function; what is not given is left to its own default
        added = subparsers.add_parser(name, help=text, argument_default=argparse.SUPPRESS)
        added.set_defaults(run=run)
        for option, settings in options:
            added.add_argument(option, **settings)

    profile = _option("--profile", "a file of notebooks/profiles, as demo", default="demo")
    text = "run the notebooks of a profile, in order"
    command("reproduce", "amg.report.running.pipeline:reproduce", text, profile)
    text = "make the last run of a profile the one that others are compared with"
    command("reference", "amg.report.pages:make_reference", f"{text} (of committed code)", profile)

    text = "say what a profile takes before it runs: hours, disk, memory, workers"
    of_plan = _option("profile", "a file of notebooks/profiles, as demo")
    hours = _option("--hours", "say how many workers it needs for so many hours", type=float)
    command("plan", "amg.report.running.forecast:tell", text, of_plan, hours)

    sweep = _option("sweep", "a file of notebooks/sweeps, or your own", metavar="FILE")
    workers = _option("--workers", "processes", type=int, default=2)
    dask = _option("--dask", "a Dask scheduler in their place, as tcp://host:8786", default="")
    show = _option("--show", "only draw what is there so far", action="store_true")
    text = "train and evaluate all variants that a file names, and compare them"
    command("sweep", "amg.report.running.sweeps:command", text, sweep, workers, dask, show)

    notebook = _option("notebook", "a file of notebooks, as 03_train")
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE"), "action": "append", "default": []}
    given = _option(
        "-p", "a parameter, its value in YAML; as often as need be", dest="given", **pair
    )
    text = "run one notebook and show its output as it runs"
    command("run", "amg.report.running.pipeline:run", text, notebook, given)

    text = "weights of notebook 00_fingerprinter (default: the shipped ones)"
    weights = _option("--fingerprinter", text, metavar="FILE", default="")
    audio = _folder("audio", "folder of audio files")
    target = _folder("target", "folder for their .npy files")
    device = _option("--device", "auto, cpu or cuda", default="auto")
    text = "fingerprint every audio file below a folder"
    command(
        "extract", "amg.fingerprint.folder:command", text, audio, target, device, weights, workers
    )

    text = "catalogue folder (default: data/catalogue)"
    of_catalogue = (_folder("--catalogue", text, metavar="FOLDER"), weights)
    folders = _folder("folders", "folders of audio files, or such files", nargs="+")
    encoder = _option(
        "--encoder", "lift, lift1024, mean or mt (the trained AMG encoder)", default="lift"
    )
    text = "seconds of a segment: 5, 10, 15 or 30"
    duration = _option("--duration-max", text, type=int, default=10)
    text = "read all files again, even those with the same size and date"
    reread = _option("--reread", text, action="store_true")
    text = "remove missing files even if nothing of their folder is there"
    prune = _option("--prune", text, action="store_true")
    text = "add new or changed music to the catalogue"
    of_index = folders, encoder, duration, *of_catalogue, workers, reread, prune
    command("index", "amg.catalogue.indexing:command", text, *of_index)

    text = "list the files in the catalogue: length, artist, title and path"
    command("list", "amg.catalogue.library:list_command", text, of_catalogue[0])
    text = "show how much music the catalogue holds, from which folders, and what made it"
    command("stats", "amg.catalogue.library:stats_command", text, of_catalogue[0])
    places = _folder("places", "files and folders, whether they exist or not", nargs="+")
    text = "remove music from the catalogue; the files themselves stay"
    command("remove", "amg.catalogue.library:remove", text, places, of_catalogue[0])
    text = "show which files are the same, or sound the same"
    command("dedup", "amg.catalogue.library:dedup_command", text, of_catalogue[0])

    text = "audio files, folders of them, or - for standard input"
    sounds = _option("sounds", text, nargs="+", type=os.path.expanduser)
    text = "two_stage, single_stage or sequence"
    method = _option("--method", text, default="two_stage")
    text = "print a line of JSON for each file"
    as_json = _option("--json", text, action="store_true", dest="as_json")
    text = "show where files lie, too"
    with_paths = _option("--paths", text, action="store_true", dest="with_paths")
    text = "name the music in audio files"
    of_identify = sounds, method, as_json, with_paths, *of_catalogue
    command("identify", "amg.catalogue.identify:command", text, *of_identify)

    train_set = _option("--train-set", "its songs", default="open_music")
    database = _option("--database", "its database", default="database/open_music")
    n_valid = _option("--n-valid", "songs held out", type=int, default=100)
    text = "fit what identify needs to the music that a profile prepared"
    of_calibrate = train_set, database, n_valid, weights
    command("calibrate", "amg.catalogue.calibration:command", text, *of_calibrate)
    return parser


def _option(name, text, **settings):
    """Name and settings of an argument; its help tells the default, if there is one."""
    default = settings.get("default")
    return name, {"help": f"{text} (default: {default})" if default else text, **settings}


def _folder(name, text, **settings):
    return _option(name, text, type=_absolute, **settings)


def _absolute(path):
    """A path of the working directory; no shell expands the ~ of --option=~/music."""
    return os.path.abspath(os.path.expanduser(path))


if __name__ == "__main__":
    main()
