# make test, make book: all that is needed on a machine with python3 (3.11 to 3.13) and make.
#   PYTHON=/path/to/python3.12   another interpreter for .venv
#   BOOK_REPOSITORY=https://...  where the book's launch buttons lead; default: the git remote

PYTHON ?= python3
BIN := .venv/bin
AUDIO := $(CURDIR)/book/_static/audio

# What the chapters read.
WEIGHTS := $(foreach n,1 2 3,weights/experiment$(n).weights.h5 weights/experiment$(n).json)

# Figures are drawn twice: for the light and for the dark theme.
NOTEBOOKS := SEPKIT_PLAYER_DIRECTORY="$(AUDIO)" BOOK_DARK_FIGURES="$(CURDIR)/book/_static/dark" \
	PYTHONSTARTUP="$(CURDIR)/book/_extensions/dark_figures.py" TF_CPP_MIN_LOG_LEVEL=3

# What npm brings into the site, at the versions of the lock file.
NPM := book/_extensions/node_modules/.package-lock.json

# Warnings are errors, and so is a reference that leads nowhere. Notebooks call what is in .venv.
JUPYTER_BOOK = PATH="$(CURDIR)/$(BIN):$$PATH" $(NOTEBOOKS) \
	jupyter-book build book -W -n --keep-going --config _config.yml --toc "$(CURDIR)/_toc.yml"

# The oldest versions are tried on what computes, and on the notebooks.
LOWEST := files decoding encoding audio tracks datasets stft weights network masks model report_network losses batches remix \
	objectives oracles engine separation bsseval metrics evaluation studio

# What measures the tests: not needed to run them.
MEASURES := mutmut==3.8.1 pytest-cov==7.1.0
# The core, whose tests cover it.
CORE := errors files decoding encoding audio tracks datasets stft weights network masks model losses \
	batches training separation bsseval metrics cli

.PHONY: test trust mutants coverage measures book book-alone site pdf lint linkcheck test-lowest notebooks lowest \
	bench rehearsal bench-peers constraints clean ffmpeg weights

# Two processes, each of which computes in one thread: what is tested is short, and compiling is not.
# Browsers play and draw by themselves: beside other work their clock would run away from what a test
# expects. A site that an earlier `make book` left has had its tests.
test: .venv/installed ffmpeg $(NPM)
	SEPKIT_SITE=none OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 \
		--dist worksteal --ignore tests/browser
	SEPKIT_SITE=none OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

# What is too slow for every change: damaged files, kills, full disks, long songs. A quarter of an
# hour, 15 GB of disk; ends with a table. TRUST=tests/trust/test_full_disks.py runs one part alone.
TRUST ?= tests/trust
trust: .venv/installed ffmpeg
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup \
		--tb=short $(TRUST)

# Every build is a fresh one: all notebooks run, and no page or sound of an older build stays.
book: weights .venv/installed ffmpeg
	rm -rf _build book/_static
	mkdir -p "$(AUDIO)"
	$(NOTEBOOKS) PATH="$(CURDIR)/$(BIN):$$PATH" \
		$(BIN)/python book/_extensions/execute.py _build/.jupyter_cache
	$(MAKE) --no-print-directory site

# The book as a reader without songs gets it, from notebooks that each ran alone, at the oldest versions.
book-alone: weights
	rm -rf _build book/_static
	mkdir -p "$(AUDIO)" _build/executed
	SEPKIT_EXECUTED="$(CURDIR)/_build/executed" $(NOTEBOOKS) \
		$(MAKE) --no-print-directory notebooks
	$(BIN)/python book/_extensions/execute.py _build/.jupyter_cache --executed _build/executed
	$(MAKE) --no-print-directory site

# The site from notebooks in the cache; one that is not there runs now.
site: weights .venv/installed ffmpeg $(NPM)
	mkdir -p "$(AUDIO)"
	$(JUPYTER_BOOK) --path-output .
	SEPKIT_SITE="$(CURDIR)/_build/html" $(BIN)/python -m pytest -n 2 tests/test_book.py tests/test_book_tables.py

# Each page of the site as _build/pdf/NAME.pdf, and all as book.pdf; needs Chromium.
pdf: .venv/installed
	$(BIN)/python book/_extensions/pdf.py _build/html _build/pdf

linkcheck: weights .venv/installed ffmpeg $(NPM)
	mkdir -p "$(AUDIO)"
	$(JUPYTER_BOOK) --path-output _build/linkcheck --builder linkcheck

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint sepkit/*.py sepkit/io/*.py sepkit/engine/*.py
	@# Beside the core, a docstring may name parameters in its sentences.
	$(BIN)/numpydoc lint --ignore PR01 sepkit/cli/*.py sepkit/study/*.py sepkit/notebook/*.py sepkit/export/*.py
	$(BIN)/mypy

test-lowest: lowest
	.venv-lowest/bin/python -c 'import midirenderer, musdb, museval, pretty_midi, stempeg'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 --dist worksteal \
		$(wildcard $(LOWEST:%=tests/test_%.py))

# Each notebook in an environment of its own, which sees all but sepkit: its first cell installs that.
notebooks: lowest
	rm -rf _build/wheel
	$(BIN)/uv build --quiet --wheel --out-dir _build/wheel
	$(BIN)/uv pip uninstall --quiet --python .venv-lowest/bin/python sepkit
	@# From elsewhere and without conftest.py: both would bring the checkout's sepkit along.
	cd / && SEPKIT_WHEEL="$$(echo "$(CURDIR)"/_build/wheel/*.whl)" \
		"$(CURDIR)/.venv-lowest/bin/python" -m pytest -n 2 --dist worksteal --durations=5 \
		--noconftest "$(CURDIR)/tests/test_notebooks.py"

# Lines and branches of the core that its tests reach, 95 % at least.
coverage: measures ffmpeg
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal \
		--cov --cov-fail-under 95 $(wildcard $(CORE:%=tests/test_%.py))

# Whether the tests notice changes to what computes: 90 % of them at least, the rest explained in
# tests/mutants.toml. MODULES="stft masks" takes some modules alone.
mutants: measures
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python tests/mutants.py $(MODULES)

measures: .venv/installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt $(MEASURES)

# Speed, side by side; on a machine that does nothing else. 1 where a ratio fell.
bench: weights .venv/installed ffmpeg
	$(BIN)/python -m benchmarks

# The commands of the page on whole data sets, on computed songs; on a machine that does nothing else.
rehearsal: .venv/installed
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m benchmarks.rehearsal

# Once, before `make bench`, for its rows on other separators: 4 GB in .venv-peers.
bench-peers: .venv/installed
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		torch==2.14.1 openunmix==1.3.0 demucs==4.1.0 audio-separator==0.47.1 onnxruntime==1.32.0

# The line on TensorFlow keeps the resolver from an older release of it with a newer h5py.
constraints: .venv/installed
	printf '%s\n' uv "tensorflow>=2.21; sys_platform != 'linux'" | $(BIN)/uv pip compile \
		pyproject.toml - --all-extras --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --quiet --output-file constraints.txt

clean:
	rm -rf _build book/_static .venv-lowest .coverage .hypothesis .pytest_cache .ruff_cache mutants

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: needs Python 3.11 to 3.13; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "make: $(PYTHON) cannot make .venv; on Debian, Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
		-c constraints.txt -e '.[book,test]'
	@touch $@

$(NPM): book/_extensions/package-lock.json .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix book/_extensions --no-audit --no-fund --loglevel=error
	@touch $@

# The package from its wheel, at the oldest versions. One too old for this Python has no wheel: then
# the oldest that has one.
lowest: .venv/installed ffmpeg
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --compile-bytecode \
		--resolution lowest-direct --reinstall-package sepkit \
		--only-binary numpy --only-binary scipy --only-binary matplotlib --only-binary h5py \
		--only-binary pedalboard \
		'.[tensorflow,evaluation,notebook,band,effects,export]' 'hypothesis>=6.100' 'ipykernel>=6.29' \
		'librosa>=0.11' 'mir_eval>=0.8' 'nbclient>=0.10' 'pandas>=2.2' 'pytest>=8.2' 'pytest-xdist>=3.6'

ffmpeg:
	@command -v ffmpeg >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qq --no-install-recommends ffmpeg; \
	else \
		echo "make: ffmpeg is missing; sudo apt-get install ffmpeg, or brew install ffmpeg"; exit 1; \
	fi

weights:
	@for file in $(WEIGHTS); do [ -f $$file ] || \
		{ echo "make: $$file is missing, which the book needs: git checkout -- weights"; exit 1; }; \
	done
