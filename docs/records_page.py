"""A hook of the docs build: the page of all benchmark records, from the records."""

import pathlib

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
    from problems.cli.bench._report import record_facts, record_tables

    lines = [
        f"### {record.time}\n",
        f"`{record.command}`\n",
        record_facts(record) + "\n",
    ]
    rows = record.values.get("rows")
    if rows:
        lines += [table.markdown() + "\n" for table in record_tables(rows)]
    return "\n".join(lines)
