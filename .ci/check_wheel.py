"""Build the wheel, install it away from the tree, and use it as a stranger would."""

import os
import pathlib
import subprocess
import sys
import tempfile
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("sciml", "problems")

# Run in the new environment: only the core dependencies are installed there.
IMPORT_CORE = """
import importlib.util, pathlib, sys
import sciml
found = pathlib.Path(sciml.__file__)
assert pathlib.Path(sys.prefix) in found.parents, f"imported from {found}"
extras = ("matplotlib", "rich", "tyro", "h5py", "orbax", "pyamg", "skfem")
present = [name for name in extras if importlib.util.find_spec(name)]
assert not present, f"core installation brought {present}"
assert sciml.grids.Grid((3, 3)).size == 9
assert sciml.pretrained("two-phase-2d").provenance.table, "no weights"
"""


def run(*command: str | pathlib.Path, cwd: pathlib.Path) -> str:
    """Run a command as from a clean shell; show what it said if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        shown = " ".join(str(part) for part in command)
        sys.exit(f"{done.stdout}\nwheel check: exit code {done.returncode} of: {shown}")
    return done.stdout


def check_contents(wheel: pathlib.Path) -> None:
    """The wheel has both packages, typed, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for package in PACKAGES:
        for required in ("__init__.py", "py.typed"):
            if f"{package}/{required}" not in names:
                sys.exit(
                    f"wheel check: {package}/{required} is missing in {wheel.name}"
                )
    tops = {name.split("/")[0] for name in names}
    strangers = {t for t in tops if t not in PACKAGES and not t.endswith(".dist-info")}
    if strangers:
        sys.exit(f"wheel check: {wheel.name} also installs {sorted(strangers)}")
    in_tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.safetensors")
        for path in (ROOT / package).rglob(pattern)
    }
    if missing := sorted(in_tree - set(names)):
        sys.exit(f"wheel check: {wheel.name} lacks {missing}")


def main() -> None:
    """Build, inspect, install and use."""
    with tempfile.TemporaryDirectory(prefix="sciml-wheel-") as folder:
        away = pathlib.Path(folder).resolve()
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", away, ROOT]
        run(*build, cwd=away)
        (wheel,) = away.glob("*.whl")
        check_contents(wheel)

        home = away / "environment"
        venv.create(home, with_pip=True)
        scripts = home / ("Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--no-input"]

        run(*install, wheel, cwd=away)
        run(python, "-W", "error", "-c", IMPORT_CORE, cwd=away)
        run(*install, f"sciml-solvers[cli] @ {wheel.as_uri()}", cwd=away)
        listing = run(scripts / "sciml", "list", cwd=away)
        if not listing.strip():
            sys.exit("wheel check: `sciml list` printed nothing")
        print(f"{wheel.name}: built, installed away from the tree; `sciml list` works.")


if __name__ == "__main__":
    main()
