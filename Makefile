.PHONY: fmt check lint types layering generated test whole wheel zoo gallery bench coverage census science precision

fmt:  ## rewrite the code in the project's format
	ruff format . && ruff check --fix .

check: lint types layering  ## all static checks

lint:
	ruff format --check . && ruff check .

types:  ## mypy cannot see through package-dir: give it a tree of links
	rm -rf .types && mkdir -p .types/vitdsl
	ln -s $(CURDIR)/vitdsl/* $(CURDIR)/dsl $(CURDIR)/runtime $(CURDIR)/reports $(CURDIR)/specs .types/vitdsl/
	mypy

layering:
	pytest -q tests/test_layering.py tests/test_packaging.py

generated:  ## rewrite what is made from the sources: error pages, the JSON Schema, texts of errors
	python -m vitdsl.dsl.codes > docs/errors.md
	vitdsl schema > .schema.json && mv .schema.json dsl/vitdsl-1.schema.json
	python tests/dsl/test_dsl_golden.py && python tests/test_codes_study.py
	REWRITE_GOLDEN=1 pytest -q tests/test_codes_machine.py

test:
	pytest -q -n 2

whole:  ## the suite with all families and every mutant, in hours
	VITDSL_FAMILIES=1 VITDSL_MUTANTS=1 pytest -q -n 2

wheel:  ## test what ships; plain `pytest`, never `python -m pytest` (the checkout would shadow the wheel)
	python3 -m venv .wheelenv && .wheelenv/bin/pip install -q '.[dev]' && .wheelenv/bin/pytest -q

zoo:  ## train the shipped weights anew and write them into specs/zoo/weights (some two hours on one core)
	OMP_NUM_THREADS=1 vitdsl train specs/zoo/digits.yaml --force --store specs/zoo/weights
	OMP_NUM_THREADS=1 vitdsl train specs/zoo/shapes.yaml --half --force --store specs/zoo/weights
	OMP_NUM_THREADS=1 vitdsl train specs/questions/families.yaml --half --force --store specs/zoo/weights

census:  ## ask every file of timm what it takes, and count what is read of many models: docs/models.md, in an hour
	PYTHONPATH=tests nice python -m census.counting .counts.jsonl
	python tests/census/census.py

science:  ## run the findings and the questions, and write their verdicts into docs/science.md
	vitdsl run specs/findings --out runs/science && vitdsl run specs/questions --out runs/science
	python tests/science/tables.py runs/science

gallery:  ## make the pictures of docs/gallery anew, in some minutes
	python docs/gallery/make.py

bench:  ## what a study costs, against plain forwards and other packages: docs/performance.md, in some twenty minutes
	python tests/benchmarks/run.py --write

coverage:  ## how often intervals hold the truth: the table of docs/statistics.md, in about ten minutes
	OMP_NUM_THREADS=1 python tests/simulation/coverage_of_intervals.py

precision:  ## what precision does to each metric: docs/precision.md, in a minute or two
	OMP_NUM_THREADS=1 python tests/precision/page.py
