"""Runs several commands of vitdsl in one process: `commands.py 'JSON list of lists of words'`.

Prints JSON: for each command its exit code, output and errors. So a test asks one installation many things, and pays
for importing it once.
"""

import contextlib
import io
import json
import sys

from vitdsl.cli import run

answers = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    answers.append({"words": words, "code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(answers))
