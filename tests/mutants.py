"""Do the tests notice when the library is wrong? Mutants of what computes, and who kills them.

mutmut changes one thing at a time (a sign, a number, an argument) in the modules that
`pyproject.toml` names under ``tool.mutmut``, and runs the tests that reach it. A mutant that all of
them pass needs another test, or a reason in `mutants.toml` why none can or need tell it from the
library. Run by ``make mutants``; needs fork, so no Windows.
"""

import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = 90
"""Percentage of a module's mutants that must be killed."""


def mutmut(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def describe(name: str) -> str:
    """Return "module.function: the changed lines" for a name such as sepkit.stft.x_istft__mutmut_3.

    Neither line numbers nor mutmut's own, which change with every edit.
    """
    path = name.removeprefix("sepkit.").rpartition("__mutmut_")[0]
    module, _, function = path.partition(".")
    # x_name of a function, xǁClassǁname of a method
    function = ".".join(function.split("ǁ")[1:]) if "ǁ" in function else function[2:]
    lines = mutmut("show", name).splitlines()
    new = [line[1:].strip() for line in lines if line[:1] == "+" and line[:3] != "+++"]
    return f"{module}.{function}: {' '.join(new)}"


def main(modules: list[str]) -> int:
    reasons = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    explained = {mutant for mutants in reasons.values() for mutant in mutants}

    shutil.rmtree(ROOT / "mutants", ignore_errors=True)  # results of other tests
    names = [f"sepkit.{module}.*" for module in modules]
    subprocess.run(
        [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "2", *names],
        cwd=ROOT, check=True,
    )  # fmt: skip

    counts, survivors = Counter(), []
    for line in mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        if status == "not checked":
            continue
        # One that never ends is noticed too.
        killed = status in ("killed", "timeout")
        counts[name.split(".")[1], killed] += 1
        if not killed:
            survivors.append(describe(name))

    print(f"\n{'module':10}{'mutants':>9}{'killed':>9}{'survived':>9}{'killed':>9}")
    shares = []
    for module in sorted({module for module, _ in counts}):
        killed, survived = counts[module, True], counts[module, False]
        shares.append(100 * killed / (killed + survived))
        print(f"{module:10}{killed + survived:9}{killed:9}{survived:9}{shares[-1]:8.1f}%")
    unexplained = sorted({*survivors} - explained)
    print(f"\nsurvivors without a reason in tests/mutants.toml: {len(unexplained)}")
    print(*unexplained, sep="\n", end="\n" if unexplained else "")
    if not modules and (gone := sorted(explained - {*survivors})):
        print("no longer survivors, to delete there:", *gone, sep="\n")
    return int(min(shares) < LEAST or bool(unexplained))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
