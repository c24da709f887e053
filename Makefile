# Everything runs in virtual environments that this file makes in the checkout; nothing is asked, no
# server is needed, and root and ordinary users get the same result. `make help` lists the targets.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help bench test test-all test-system django-suite soak audit serve demo vendor lint clean

# More arguments for the tool behind a target: make bench ARGS="--threads 8", make test ARGS="-k fork".
ARGS ?=
# A Python of your choice for .venv: make test PYTHON=/opt/python3.12/bin/python
PYTHON ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
export PIP_NO_INPUT = 1
# These would take the tests or the demo away from the settings of this project.
unexport DJANGO_SETTINGS_MODULE PYTHONHOME PYTHONPATH

PYTHONS := 3.11 3.12 3.13 3.14

# Print the first Python that is of one of the versions $(1) and can make virtual environments. Each
# candidate is run, because a name on PATH may be a shim without a Python behind it.
PROBE := import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])
find_python = \
	for version in $(1); do \
		for candidate in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python python3; do \
			if "$$candidate" -c '$(PROBE)' $$version >/dev/null 2>&1; then \
				command -v "$$candidate"; \
				exit 0; \
			fi; \
		done; \
	done; \
	exit 1

# Make or update the virtual environment $(1) with the Python printed by the command $(2), and install
# the project, its tools and the Django $(3). An environment whose Python has gone is made anew.
define INSTALL
	@python=$$($(2)) || { \
		echo "No Python that can make virtual environments: looked for $(PYTHONS)" >&2; \
		echo "on PATH and in ~/.pyenv. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	}; \
	if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
		echo "==> $(1): a new virtual environment ($$("$$python" --version))"; \
		"$$python" -m venv --clear $(1) || exit 1; \
	fi; \
	echo "==> $(1): installing the project, its tools and $(3) (a minute or two)"; \
	$(1)/bin/python -m pip install --quiet --editable '.[dev]' '$(3)'
	@touch $@
endef

.venv/.installed: pyproject.toml
	$(call INSTALL,.venv,$(if $(PYTHON),echo "$(PYTHON)",$(call find_python,$(PYTHONS))),Django~=5.2.0)

.venv-django60/.installed: pyproject.toml
	$(call INSTALL,.venv-django60,$(call find_python,3.12 3.13 3.14),Django~=6.0.0)

.venv-django61/.installed: pyproject.toml
	$(call INSTALL,.venv-django61,$(call find_python,3.13 3.14 3.12),Django~=6.1.0)

.venv-system/.installed: pyproject.toml
	$(call INSTALL,.venv-system,echo /usr/bin/python3,Django~=5.2.0)

# Django's own tests, which come with its source only. They are fetched once.
define FETCH_SUITE
	@$(1)/bin/python -m tests.django_suite --fetch
	@touch $@
endef

.venv/.suite: .venv/.installed
	$(call FETCH_SUITE,.venv)

.venv-django60/.suite: .venv-django60/.installed
	$(call FETCH_SUITE,.venv-django60)

.venv-django61/.suite: .venv-django61/.installed
	$(call FETCH_SUITE,.venv-django61)

.venv-system/.suite: .venv-system/.installed
	$(call FETCH_SUITE,.venv-system)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\): .*## /\1: /p' $(firstword $(MAKEFILE_LIST)) \
		| while IFS=: read -r name text; do printf '  make %-13s%s\n' "$$name" "$$text"; done

# The settings ask for a SECRET_KEY, except for debugging; the benchmark turns debugging off itself.
bench lint serve soak: export DEBUG = 1

bench: .venv/.installed ## what does a pool gain here? Five lines after 3 minutes (ARGS="--quick": 30 s)
	@.venv/bin/python manage.py poolbench $(ARGS)

# Django 6 needs Python 3.12; without one its runs are left out, and `make test-all` says so.
ifneq ($(filter test-all,$(MAKECMDGOALS)),)
HAS_PYTHON_312 := $(shell $(call find_python,3.12 3.13 3.14))
endif

# The tests, in parts: `usual` is `make test`, `rest` is what `make test-all` adds. Every run of pytest
# adds its counts to a file (see tests/plugin.py), a run that ends badly without counts counts as one
# failure, and the sum is the last line. Tests marked `serial` are run after the others, alone.
define TEST
counts=.venv/.test-counts
status=0
pytest() { # VENV DRIVER HOW ARGUMENTS...
	venv=$$1 driver=$$2 how=$$3
	shift 3
	echo
	echo "==> $$("$$venv/bin/python" --version), $$driver, $$how: $$*"
	env TEST_COUNTS="$$counts" TEST_DRIVER="$$driver" "$$venv/bin/python" -m pytest "$$@" $(ARGS)
	case $$? in
		0 | 5) ;; # 5: none of these tests was asked for
		*) status=1; echo "0 0 0 1" >>"$$counts" ;;
	esac
}
both() { # VENV DRIVER MARKS PATHS...
	venv=$$1 driver=$$2 marks=$$3
	shift 3
	pytest "$$venv" "$$driver" "side by side" -n auto --dist worksteal -m "$$marks not serial" "$$@"
	pytest "$$venv" "$$driver" "one by one" -m "$$marks serial" "$$@"
}
# Tests that start programs, such as Celery, take half a minute and depend little on the driver:
# psycopg2 meets them in `rest`.
programs="celery gunicorn other_engines processes runserver testing uvicorn"
usual() {
	: >"$$counts"
	both .venv psycopg "not slow and" tests
	both .venv psycopg2 "not slow and not sqlite and" tests/backends \
		$$(printf -- '--ignore tests/backends/test_%s.py ' $$programs)
}
rest() {
	both .venv psycopg "slow and" tests
	both .venv psycopg2 "not slow and not sqlite and" \
		$$(printf 'tests/backends/test_%s.py ' $$programs)
	if [ -n "$(HAS_PYTHON_312)" ]; then
		# What is left out here, and what is slow on 6.0, does not depend on the version of Django.
		others="--ignore tests/bench --ignore tests/benchmarks --ignore tests/packaging"
		others="$$others --ignore tests/soak --ignore tests/support --ignore tests/core/test_every_outcome.py"
		# What works on 5.2 and 6.1, and is far from what Django changes, works on 6.0.
		between="--ignore tests/docs --ignore tests/fleet --ignore tests/metrics --ignore tests/security"
		both .venv-django60 psycopg "not slow and" tests $$others $$between -k "not mariadb"
		both .venv-django60 psycopg "slow and" tests/django_suite
		# The ways of an interrupt through MariaDB's driver take minutes, and are the same.
		both .venv-django61 psycopg "" tests $$others \
			-k "not (mariadb and (interrupts or reentrance))"
	else
		echo
		echo "Left out, for want of a Python 3.12 or later: Django 6.0, Django 6.1"
	fi
}
system() {
	: >"$$counts"
	both .venv-system psycopg "not slow and" tests/core tests/backends -k "not mariadb"
	# Needs a Python whose sqlite3 loads extensions, as Debian's does and pyenv's does not.
	pytest .venv-system psycopg "SpatiaLite" -m slow -k spatialite tests/backends/test_gis.py
}
for part in $$TEST_PARTS; do $$part; done
echo
awk '{ passed += $$1; failed += $$2; skipped += $$3; bad += $$4 }
	END {
		if (skipped) print skipped " skipped"
		print passed + 0 " passed, " (failed ? failed : bad + 0) " failed"
		exit !passed
	}' "$$counts" || status=1
exit $$status
endef
export TEST

test: export TEST_PARTS = usual
test: .venv/.installed ## the tests: Django 5.2 with both PostgreSQL drivers and SQLite; some minutes
	@sh -c "$$TEST"

# `make test test-all` does not repeat in the second what the first has done.
test-all: export TEST_PARTS = $(if $(filter test,$(MAKECMDGOALS)),,usual) rest
test-all: .venv/.suite $(if $(HAS_PYTHON_312),.venv-django60/.suite .venv-django61/.suite)
test-all: ## all tests: also the slow ones, and every supported Django there is a Python for
	@sh -c "$$TEST"

# For users of /usr/bin/python3, where that is not the Python behind .venv; see .ci/run.
test-system: export TEST_PARTS = system
test-system: .venv-system/.suite .venv/.installed
	@sh -c "$$TEST"

django-suite: .venv/.suite ## Django's own tests, on the stock engines and on the pooled ones (ARGS)
	@.venv/bin/python -m tests.django_suite $(ARGS)

soak: .venv/.installed ## stress pools on real servers for SOAK_MINUTES (10), seeded by SOAK_SEED
	@.venv/bin/python -m tests.soak $(ARGS)

audit: .venv/.installed ## known vulnerabilities in what is installed here; needs network access
	@.venv/bin/python -m pip install --quiet pip-audit
	@.venv/bin/pip-audit --skip-editable $(ARGS)

serve: .venv/.installed ## the demo on http://127.0.0.1:8000/, with a user to log in as
	@.venv/bin/python manage.py migrate --verbosity 0
	@.venv/bin/python manage.py make_demo_user
	@.venv/bin/python manage.py runserver 127.0.0.1:8000 $(ARGS)

demo: .venv/.installed ## the admin page alive: three processes on a private PostgreSQL, under load (ARGS)
	@.venv/bin/python -m tests.demo $(ARGS)

# The library of the admin page's graphs: one file and a style, with its licence and version.
UPLOT = pooling/static/pooling/uplot
vendor: ## fetch uPlot's newest version from npm, or UPLOT_VERSION; look at the page afterwards
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
		&& npm pack --silent --pack-destination "$$folder" "uplot@$(or $(UPLOT_VERSION),latest)" \
		&& tar -xzf "$$folder"/uplot-*.tgz -C "$$folder" \
		&& cp "$$folder/package/dist/uPlot.iife.min.js" "$$folder/package/dist/uPlot.min.css" \
			"$$folder/package/LICENSE" $(UPLOT) \
		&& sed -n 's/.*"version": "\(.*\)".*/\1/p' "$$folder/package/package.json" >$(UPLOT)/VERSION

lint: .venv/.installed ## style, types and the direction of imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

clean: ## remove the virtual environments, caches and builds
	rm -rf .venv .venv-django60 .venv-django61 .venv-system .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
