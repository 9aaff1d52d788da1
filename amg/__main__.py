"""Command line: `python -m amg reproduce --profile demo`."""

import argparse
import sys

from amg import pages, pipeline
from amg.check import InputError


def main():
    parser = argparse.ArgumentParser(prog="python -m amg", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce = commands.add_parser("reproduce", help="run the notebooks of a profile, in order")
    results = commands.add_parser("results", help="print a report's results as Markdown")
    for command in (reproduce, results):
        command.add_argument("--profile", default="demo",
                             help=f"one of: {', '.join(pipeline.profiles())} (default: demo)")
    arguments = parser.parse_args()
    try:
        if arguments.command == "reproduce":
            pipeline.reproduce(arguments.profile)
        else:
            print(pages.results(arguments.profile))
    except InputError as error:
        sys.exit(f"amg: {error}")
    except KeyboardInterrupt:
        sys.exit("amg: interrupted; the same command continues where it stopped.")


if __name__ == "__main__":
    main()
