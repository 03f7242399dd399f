"""Fill the build's cache with executed notebooks, as many at a time as there are cores.

Jupyter Book then takes their outputs from the cache instead of executing one after the other. A
notebook that fails is left to Jupyter Book, which executes it again and reports its error.
"""

import argparse
import json
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

ROOT = Path(__file__).parents[2]
SECONDS = 600  # at most, for each notebook


def notebooks() -> list[Path]:
    """List the notebooks of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    paths = [ROOT / "book" / f"{name}.ipynb" for name in [toc["root"], *names]]
    # The largest, which mostly take longest, go first: so the cores end together.
    return sorted(filter(Path.is_file, paths), key=lambda path: -path.stat().st_size)


def has_code(path: Path) -> bool:
    """Return whether a notebook has anything to execute."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return any(cell["cell_type"] == "code" for cell in cells)


def main() -> None:
    """Execute the notebooks, or take them from a folder of executed ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", help=".jupyter_cache in the folder of the build")
    parser.add_argument("--executed", type=Path, help="folder of notebooks that have been executed")
    options = parser.parse_args()
    cache = get_cache(options.cache)
    for path in notebooks():
        if options.executed:
            executed = options.executed / path.name if has_code(path) else path
            cache.cache_notebook_file(str(executed), uri=str(path), check_validity=False)
        else:
            cache.add_nb_to_project(str(path))
    if not options.executed:
        result = load_executor("temp-parallel", cache).run_and_cache(timeout=SECONDS)
        failed = [*result.excepted, *result.errored]
        print(f"executed {len(result.succeeded)} notebooks; failed: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    main()
