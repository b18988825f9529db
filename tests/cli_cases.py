"""Running the command line inside a test."""

import json

from problems.cli import main


def run(line: str | list[str], capsys) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    code = main(line.split() if isinstance(line, str) else line)
    out, err = capsys.readouterr()
    return code, out, err


def strict_json(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
