"""The console script: hand over to the command line, or say what it needs."""

import sys

from bulkfetch.cli.process import set_up


def main() -> None:
    """Run the command line; exit with 2 and one sentence where its extra is not installed."""
    set_up()
    try:
        from bulkfetch.cli.app import run  # noqa: PLC0415 - core installs without Typer
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "bulkfetch":
            raise
        sys.stderr.write(
            f"The command line needs {error.name}, which is not installed: "
            "pip install 'bulkfetch[cli]'.\n"
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
