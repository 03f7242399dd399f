"""Do the tests notice when the library is wrong? Mutants of what computes, and who kills them.

mutmut changes one thing at a time (a sign, a number, an argument) in the modules that
`pyproject.toml` names under ``tool.mutmut``, and runs the tests that reach it. A mutant that all of
them pass needs another test, or a reason in `mutants.toml` why none can or need tell it from the
library. ``make mutants`` runs this; it needs fork, so not on Windows.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

# It reads its settings from the folder in which make runs.
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

LEAST = 90
"""Percentage of a module's mutants that must be killed."""


def describe(name: str, path: Path) -> str:
    """Return "module.function: the changed lines" for a name such as sepkit.stft.x_istft__mutmut_3.

    Neither line numbers nor mutmut's own, which change with every edit.
    """
    function = name.rpartition("__mutmut_")[0].split(".")[2]
    # x_name of a function, xǁClassǁname of a method
    function = function.removeprefix("x").removeprefix("_").strip("ǁ").replace("ǁ", ".")
    lines = get_diff_for_mutant(name, path=path).splitlines()
    new = [line[1:].strip() for line in lines if line[:1] == "+" and line[:3] != "+++"]
    return f"{path.stem}.{function}: {' '.join(new)}"


def main(modules: list[str]) -> int:
    reasons = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    explained = {mutant for mutants in reasons.values() for mutant in mutants}

    shutil.rmtree("mutants", ignore_errors=True)  # what other tests killed
    mutmut = Path(sys.executable).with_name("mutmut")
    names = [f"sepkit.{module}.*" for module in modules]
    subprocess.run([mutmut, "run", "--max-children", "2", *names], check=True)

    shares, survivors = [], []
    print(f"\n\n{'module':10}{'mutants':>9}{'killed':>9}{'survived':>10}{'killed':>9}")
    for path in sorted(walk_mutatable_files()):
        if modules and path.stem not in modules:
            continue
        data = SourceFileMutationData(path=path)
        data.load()
        codes = data.exit_code_by_key
        # One that never ends is noticed too.
        alive = [n for n in codes if status_by_exit_code[codes[n]] not in ("killed", "timeout")]
        killed = len(codes) - len(alive)
        shares.append(100 * killed / len(codes))
        print(f"{path.stem:10}{len(codes):9}{killed:9}{len(alive):10}{shares[-1]:8.1f}%")
        survivors += [describe(name, path) for name in alive]

    unexplained = sorted({*survivors} - explained)
    print("\nsurvivors without a reason in tests/mutants.toml:", *unexplained or ["none"], sep="\n")
    if not modules and (gone := sorted(explained - {*survivors})):
        print("\nno longer survivors, to be deleted there:", *gone, sep="\n")
    return int(min(shares) < LEAST or bool(unexplained))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
