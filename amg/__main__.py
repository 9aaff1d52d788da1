"""Command line: `python -m amg reproduce --profile demo`."""

import argparse
import os
import sys

from amg import machine, paths
from amg.check import InputError
from amg.fingerprint import fingerprinters, folder
from amg.report import pages, pipeline


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m amg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser("reproduce", help="run the notebooks of a profile, in order")
    results = commands.add_parser("results", help="print a reference run's results as Markdown")
    reference = commands.add_parser("reference", help="make the last run of a profile the one that "
                                    "others are compared with (of committed code only)")
    for command in (reproduce, results, reference):
        command.add_argument("--profile", default="demo",
                             help=f"one of: {', '.join(pipeline.profiles())} (default: demo)")
    extract = commands.add_parser("extract", help="fingerprint every audio file below a folder")
    extract.add_argument("audio", type=os.path.abspath, help="folder of audio files")
    extract.add_argument("target", type=os.path.abspath, help="folder for their .npy files")
    extract.add_argument("--fingerprinter", default="", metavar="FILE",
                         help="weights of notebook 00_fingerprinter (default: the shipped ones)")
    extract.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    extract.add_argument("--device", default="auto", help=", ".join(machine.DEVICES))
    arguments = parser.parse_args()
    try:
        if arguments.command == "reproduce":
            pipeline.reproduce(arguments.profile)
        elif arguments.command == "results":
            print(pages.results(arguments.profile))
        elif arguments.command == "reference":
            print(f"{paths.relative(pages.make_reference(arguments.profile))} written")
        else:
            written, refused = folder.extract(
                arguments.audio, arguments.target, fingerprinters.find(arguments.fingerprinter),
                arguments.workers, arguments.device)
            print(*refused, f"{written} files fingerprinted, {len(refused)} left out", sep="\n")
    except InputError as error:
        sys.exit(f"amg: {error}")
    except KeyboardInterrupt:
        sys.exit("amg: interrupted; the same command continues where it stopped.")


if __name__ == "__main__":
    main()
