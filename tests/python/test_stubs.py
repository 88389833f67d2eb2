"""What `_native.pyi` says is what the compiled module has."""

import ast
import inspect
from pathlib import Path

import neural_cleanse
from neural_cleanse import _native

STUB = ast.parse((Path(neural_cleanse.__file__).parent / "_native.pyi").read_text())


def parameters(function):
    arguments = function.args
    return [
        a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if a.arg not in ("self", "cls")
    ]


def test_the_stub_names_what_is_there():
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert public == {node.name for node in STUB.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_functions_and_methods_take_what_the_stub_says():
    functions = [(_native, node) for node in STUB.body if isinstance(node, ast.FunctionDef)]
    for node in STUB.body:
        if isinstance(node, ast.ClassDef):
            owner = getattr(_native, node.name)
            members = [member for member in node.body if isinstance(member, (ast.FunctionDef, ast.AnnAssign))]
            functions += [(owner, member) for member in members if isinstance(member, ast.FunctionDef)]
            attributes = {m.target.id for m in members if isinstance(m, ast.AnnAssign)}
            methods = {m.name for m in members if isinstance(m, ast.FunctionDef)} - {"__new__"}
            assert attributes | methods == {name for name in vars(owner) if not name.startswith("_")}
    for owner, node in functions:
        found = inspect.signature(owner if node.name == "__new__" else getattr(owner, node.name))
        names = [name for name in found.parameters if name != "self"]
        assert names == parameters(node), f"{owner.__name__}.{node.name}"
