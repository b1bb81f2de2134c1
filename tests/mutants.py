"""Mutation test of one source file: changes it in many small ways, and shows the changes that its tests miss.

Run it by `make mutants FILE=…`. cosmic-ray changes operators, conditions and numbers. Statements and handled exceptions
are removed here: it has nothing that removes the former, and fails at dotted names of the latter. Each mutant is tested
by a process of its own in a copy of the tree; where it makes the tests take far longer than before, it is killed, too.
"""

import argparse
import ast
import difflib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
# Of an operator's many replacements the nearest one is enough, and `|` stands in annotations only.
OPERATORS = re.compile(
    r"core/(AddNot|Replace(True|False|And|Or|Break|Continue)\w+|NumberReplacer|ZeroIterationForLoop|RemoveDecorator"
    r"|ReplaceUnaryOperator_(Delete_Not|USub_UAdd)|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Add|\w+(Div|Mod|Pow)_Mul)"
    r"|ReplaceComparisonOperator_(Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is))"
)
NEVER_RAISED = "StopAsyncIteration"


def mutants(source: str) -> list[str]:
    """Return the source with one change each."""
    found = [*without_statements(source), *without_exceptions(source)]
    for name in filter(OPERATORS.fullmatch, plugins.operator_names()):
        operator = plugins.get_operator(name)()
        changed = (mutate_code(source, operator, number) for number in itertools.count())
        found += itertools.takewhile(bool, changed)
    return [mutant for mutant in dict.fromkeys(found) if is_python(mutant)]


def is_python(source: str) -> bool:
    """Return whether it compiles; the `*` of a signature is none that can be replaced."""
    try:
        compile(source, "", "exec")
    except SyntaxError:
        return False
    return True


def without_statements(source: str) -> Iterator[str]:
    """Yield the source without one statement each, of those that do something or set an attribute."""
    for parent in ast.walk(ast.parse(source)):
        if isinstance(parent, ast.Module):
            continue
        for node in (node for name in ("body", "orelse", "finalbody") for node in children(parent, name)):
            match node:
                case ast.Expr(ast.Constant()):
                    continue
                case ast.Assign([ast.Name() | ast.Tuple()]) if not isinstance(parent, ast.ClassDef):
                    continue  # a name that is missing is seen by all
                case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Delete() | ast.Raise() | ast.Return():
                    yield replaced(source, node, "pass")


def without_exceptions(source: str) -> Iterator[str]:
    """Yield the source with one exception each that is not handled any more."""
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler) and handler.type:
            for kind in handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]:
                yield replaced(source, kind, NEVER_RAISED)


def children(node: ast.AST, name: str) -> list[ast.stmt]:
    """Return a block of statements, [] if the node has none of this name."""
    block = getattr(node, name, [])
    return block if isinstance(block, list) else []


def replaced(source: str, node: ast.stmt | ast.expr, text: str) -> str:
    """Return the source with other text in the place of a node."""
    lines = source.splitlines(keepends=True)
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    return "".join([*lines[: node.lineno - 1], before + text + behind, *lines[node.end_lineno :]])


def copy_tree(target: Path) -> None:
    """Copy what git knows, and new files, with their times, by which Python knows what it has compiled."""
    names = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def passes(folder: Path, tests: list[str], seconds: float | None = None, **environment: str) -> bool:
    """Return whether the tests pass in this time."""
    command = [str(ROOT / ".venv/bin/python"), "-m", "pytest", "-qx", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, **environment}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **silent) as process:
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="below the root of the project")
    parser.add_argument("tests", nargs="*", help="by default the file's own")
    parser.add_argument("--most", type=int, help="so many mutants at most, always the same ones")
    options = parser.parse_args()
    tests = options.tests or [str(Path("tests", *options.file.parts[1:-1], f"test_{options.file.name}"))]
    source = (ROOT / options.file).read_text()
    found = mutants(source)
    tried = random.Random(0).sample(found, options.most) if options.most and options.most < len(found) else found
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        begun = time.monotonic()
        if not passes(Path(folder), tests):
            parser.exit(1, "the tests fail without any mutation\n")
        seconds = 20 + 5 * (time.monotonic() - begun)
        for mutant in tried:
            Path(folder, options.file).write_text(mutant)
            if passes(Path(folder), tests, seconds, PYTHONDONTWRITEBYTECODE="1"):
                survivors += 1
                show(options.file, source, mutant)
    print(f"{options.file}: {len(found)} mutants, {len(tried)} tested, {survivors} survive {' '.join(tests)}")


def show(file: Path, source: str, mutant: str) -> None:
    """Print the line and what has become of it."""
    changes = list(difflib.unified_diff(source.splitlines(), mutant.splitlines(), n=0, lineterm=""))[2:]
    line = re.match(r"@@ -(\d+)", changes[0])
    print(f"{file}:{line[1] if line else ''}", *changes[1:], sep="\n", flush=True)


if __name__ == "__main__":
    main()
