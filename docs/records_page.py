"""A hook of the docs build: the page of all benchmark records, from the records."""

import pathlib
import sys

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME = "records.md"

_INTRODUCTION = """# Benchmark records

What the commands of [Benchmarks](benchmarks.md) left in `docs/benchmarks/`, the newest
first, laid out when these pages were built. The same as a page of its own:
`sciml report docs/benchmarks`.
"""


def on_files(files, config):
    """Add the page."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    files.append(File.generated(config, NAME, content=records_page()))
    return files


def records_page(folder: pathlib.Path = ROOT / "docs" / "benchmarks") -> str:
    """Every record of a folder in Markdown."""
    from sciml.evaluation import read_records

    parts = [_INTRODUCTION]
    for file in sorted(folder.glob("*.jsonl")):
        parts.append(f"## {file.stem}\n")
        parts += map(_section, reversed(read_records(file)))
    return "\n".join(parts)


def _section(record) -> str:
    from problems.cli.bench._report import record_table

    machine = record.machine
    facts = [
        str(machine.get("cpu")),
        f"{machine.get('threads')} threads",
        str(machine.get("device")),
        f"jax {machine.get('versions', {}).get('jax')}",
        f"commit {machine.get('commit')}",
    ]
    lines = [f"### {record.time}\n", f"`{record.command}`\n", f"{', '.join(facts)}.\n"]
    rows = record.values.get("rows")
    if rows:
        lines.append(record_table(rows).markdown() + "\n")
    return "\n".join(lines)
