"""Prints, for each path on standard input, what the ast module says of it as one JSON line."""

import ast
import json
import sys
import warnings

warnings.simplefilter("ignore")


def docstring(node):
    """Return [line, end line] of the docstring of node, or [0, 0]."""
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        value = body[0].value
        if isinstance(value.value, str):
            return [value.lineno, value.end_lineno]
    return [0, 0]


def shape(node):
    """Return the number of the body's shape, as the Go package numbers them."""
    body = node.body
    if docstring(node)[0]:
        body = body[1:]
        if not body:
            return 3
    if len(body) != 1:
        return 0
    only = body[0]
    if isinstance(only, ast.Pass):
        return 1
    if isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant) and only.value.value is Ellipsis:
        return 2
    if isinstance(only, ast.Raise) and only.cause is None:
        exc = only.exc
        if isinstance(exc, ast.Call):
            exc = exc.func
        if isinstance(exc, ast.Name) and exc.id == "NotImplementedError":
            return 4
    return 0


def points(statements):
    """Count the decisions beneath the statements."""
    total = 0
    for statement in statements:
        for node in ast.walk(statement):
            name = type(node).__name__
            if name in ("If", "IfExp", "For", "AsyncFor", "While", "ExceptHandler", "match_case"):
                total += 1
                if name == "match_case" and node.guard is not None:
                    total += 1
            elif name == "comprehension":
                total += 1 + len(node.ifs)
            elif name == "BoolOp":
                total += len(node.values) - 1
    return total


def dotted(node):
    """Return the dotted name that node is, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and before + "." + node.attr
    return ""


def base(node):
    """Return the dotted name of a base without its subscript."""
    return dotted(node.value if isinstance(node, ast.Subscript) else node)


def decorator(node):
    """Return the dotted name of a decorator without its arguments."""
    return dotted(node.func if isinstance(node, ast.Call) else node)


def definitions(node, prefix, nested, parent, out):
    """Append the definitions beneath node in the order of their lines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            klass = isinstance(child, ast.ClassDef)
            kind = 1 if klass else 3 if isinstance(parent, ast.ClassDef) else 2
            out.append({
                "kind": kind, "qualified": prefix + child.name, "line": child.lineno, "end": child.end_lineno,
                "async": isinstance(child, ast.AsyncFunctionDef), "nested": nested, "doc": docstring(child),
                "body": shape(child), "complexity": 0 if klass else 1 + points(child.body),
                "decorators": [decorator(d) for d in child.decorator_list],
                "bases": [base(b) for b in child.bases] if klass else [],
            })
            definitions(child, prefix + child.name + ".", nested or not klass, child, out)
        else:
            definitions(child, prefix, nested, parent, out)


def describe(path):
    """Return what ast says of one file, or nothing where it is no Python."""
    try:
        with open(path, "rb") as f:
            tree = ast.parse(f.read())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    out = []
    definitions(tree, "", False, tree, out)
    out.sort(key=lambda d: d["line"])
    return {"doc": docstring(tree), "empty": not tree.body, "defs": out}


for path in sys.stdin:
    print(json.dumps(describe(path.rstrip("\n"))), flush=True)
