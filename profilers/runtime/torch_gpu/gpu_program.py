"""A PyTorch program from its file: read as data, in the artifact's type, on its device."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gpu_faults import BadInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Table = dict[str, Any]
Tensor = torch.Tensor
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# in the archive of a program of fixed shapes there is neither; PyTorch would unpickle the one and
# evaluate the other
CODE = (b'"expr_str"', b"opaque_obj_")
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Program:
    """A model that takes and gives tensors on its device, in the order of its record."""

    def __init__(self, artifact: str, device: torch.device, *, channels_last: bool) -> None:
        self.path = Path(artifact)
        self.record = read_record(self.path)
        self.dtype = DTYPES[self.record["dtype"]]
        self.kind = self.record["program"]
        self.layout = torch.channels_last if channels_last else torch.preserve_format
        self.names = [end["name"] for end in self.record["outputs"]]
        module: Any = read_script(self.path) if self.is_script else read_graph(self.path, device)
        if not self.is_script:
            in_type(module, self.dtype)
        module = module.to(device=device, dtype=self.dtype)
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
        for parameter in module.parameters():
            parameter.requires_grad_(requires_grad=False)
        self.module = module

    @property
    def is_script(self) -> bool:
        """Whether it is TorchScript, which torch.compile does not take."""
        return bool(self.kind == "torchscript")

    def held(self, value: Tensor) -> Tensor:
        """An input in the type and layout that the model computes in."""
        if value.is_floating_point():
            value = value.to(self.dtype)
        if self.layout is torch.channels_last and value.dim() == 4:
            value = value.to(memory_format=torch.channels_last)
        return value

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs as the record has them; floats come in and leave as float32."""
        found = tuple(leaves(self.module(*(self.held(value) for value in inputs))))
        return tuple(value.float() if value.dtype is self.dtype else value for value in found)


def read_record(path: Path) -> Table:
    """`model.json` beside an artifact; `BadInput` where it is not that artifact's."""
    record = path.with_name("model.json")
    if not path.is_file() or not record.is_file():
        msg = f"{path} and {record.name} beside it are not both there"
        raise BadInput(msg, "Compile again.")
    told: Table = json.loads(record.read_text(encoding="utf-8"))
    if told.get("flavour") != "pytorch" or told.get("format") != 1:
        msg = f"{record} is of {told.get('flavour')!r}, format {told.get('format')!r}"
        raise BadInput(msg, "Expected 'pytorch', 1: compile again with this version.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != told["sha256"]:
        msg = f"{path} is not the program that {record.name} names: their hashes differ"
        raise BadInput(msg, "Compile again; then neither may be changed.")
    return told


def read_script(path: Path) -> torch.jit.ScriptModule:
    """TorchScript from a file; its code is the interpreter's, not Python's."""
    try:
        script: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise damaged(path, error) from error
    return script.eval()


def read_graph(path: Path, device: torch.device) -> torch.fx.GraphModule:
    """An exported program as one module of PyTorch's operators, without what is not the model's.

    Left out are the checks of the inputs before each call, which are made once here, and the
    rebuilding of the outputs' structure: outputs come as a flat tuple. Constants made in it are
    made on `device`.
    """
    refuse_code(path)
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise damaged(path, error) from error
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, str(device))
    module: Any = program.module()
    for node in [n for n in module.graph.nodes if n.target == "_guards_fn"]:
        module.graph.erase_node(node)
    module._forward_pre_hooks.clear()
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    module.recompile()
    found: torch.fx.GraphModule = module
    return found


def refuse_code(path: Path) -> None:
    """Refuse an archive in which something would be run to load it."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    except (zipfile.BadZipFile, OSError) as error:
        raise damaged(path, error) from error
    for text in texts:
        if found := next((each for each in CODE if each in text), None):
            msg = f"{path} holds {found.decode()}, which loading it would run"
            raise BadInput(msg, "Compile again: programs made here hold tensors and sizes alone.")


def damaged(path: Path, error: Exception) -> BadInput:
    """What to say of a file that PyTorch does not read."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    msg = f"{path} is no program that PyTorch {torch.__version__} reads: {first[:300]}"
    return BadInput(msg, "Compile it again with this version of PyTorch.")


def in_type(module: torch.fx.GraphModule, dtype: torch.dtype) -> None:
    """Turn a graph's own float constants to a type: those held, and those made in the graph."""
    if dtype is torch.float32:
        return
    for node in module.graph.nodes:
        if node.op == "get_attr":
            owner: Any = module
            *parents, name = str(node.target).split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            value = getattr(owner, name)
            registered = name in owner._parameters or name in owner._buffers
            if value.dtype is torch.float32 and not registered:
                setattr(owner, name, value.to(dtype))
        elif node.op == "call_function" and not node.all_input_nodes and makes_float(node):
            node.update_kwarg("dtype", dtype)
    module.recompile()


def makes_float(node: torch.fx.Node) -> bool:
    """Whether an operator makes float32 of a type that it may be told, as `ones` does."""
    value, schema = node.meta.get("val"), getattr(node.target, "_schema", None)
    told = {argument.name for argument in schema.arguments} if schema else set()
    return isinstance(value, Tensor) and value.dtype is torch.float32 and "dtype" in told


def leaves(found: object) -> Iterator[Tensor]:
    """All tensors in what a module returned, in order."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for value in found.values():
            yield from leaves(value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from leaves(value)


def compiled(program: Program, mode: str) -> Callable[..., tuple[Tensor, ...]]:
    """torch.compile of the whole program as one graph; raises `Unsupported` for TorchScript."""
    if program.is_script:
        msg = "torch.compile takes PyTorch's operators; this source is TorchScript"
        raise Unsupported(msg, "Take mode eager, or give the model's Python as the source.")
    made: Callable[..., tuple[Tensor, ...]] = torch.compile(
        program.forward, mode=mode, fullgraph=True, dynamic=False
    )
    return made
