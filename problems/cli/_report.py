"""`sciml report`."""

import dataclasses
import pathlib
from typing import Annotated

import tyro

from ._common import BadData, ExitCode, print_json


@dataclasses.dataclass
class MakeReport:
    """Turn records of benchmarks (JSON lines) into one HTML page."""

    records: Annotated[tuple[str, ...], tyro.conf.Positional] = ("docs/benchmarks",)
    """Files of records, or folders with .jsonl files."""
    output: str = "runs/benchmarks.html"
    """The page."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Read, lay out, write."""
        from sciml.evaluation import Report, read_records

        from .bench._report import record_facts, record_tables

        files: list[pathlib.Path] = []
        for name in self.records:
            path = pathlib.Path(name)
            if path.is_dir():
                files += sorted(path.glob("*.jsonl"))
            elif path.is_file():
                files.append(path)
            else:
                raise BadData(f"{name}: no such file or folder.")
        if not files:
            raise BadData(f"{', '.join(self.records)}: no .jsonl file in there.")
        report = Report("Benchmark records")
        count = 0
        for file in files:
            report.add_heading(file.stem)
            try:
                records = read_records(file)
            except ValueError as error:
                raise BadData(f"{file}: {error}") from error
            for record in reversed(records):
                count += 1
                report.add_heading(f"{record.time}", 3)
                report.add_code(record.command)
                report.add_paragraph(record_facts(record))
                rows = record.values.get("rows")
                if rows:
                    for table in record_tables(rows, caption=record.name):
                        report.add_table(table)
        if not count:
            raise BadData(f"{', '.join(map(str, files))}: no records in there.")
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write(path)
        facts = {"output": str(path), "records": count}
        if self.json:
            print_json(facts)
        else:
            print(f"{count} records → {path}")
        return ExitCode.DONE
