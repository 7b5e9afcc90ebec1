"""How Numba compiles a kernel: a part is not optimised by itself, and an entry is one program with all its parts."""

import hashlib
from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

from fastalloc.compiler import patches


class _SetsWhatRuns:
    """The code generator of a part: there is no variable in memory that could be set."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, env: Any) -> None:
        pass


class _Library(JITCodeLibrary):
    def create_ir_module(self, name: str) -> Any:
        return patches.mark(super().create_ir_module(name))


class PartLibrary(_Library):
    """A function that runs only inside entries: neither linked, nor optimised, nor made machine code of by itself."""

    @property
    def codegen(self) -> Any:
        return _SetsWhatRuns(super().codegen)

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = Linkage.linkonce_odr
        self._shared_module = self._final_module
        self._finalized = True


class EntryLibrary(_Library):
    """One program with all its parts, each linked once.

    What an entry calls becomes its own: LLVM then drops the arguments that a callee does not use.
    """

    def finalize(self) -> None:
        self._linking_libraries = self._all_libraries()
        super().finalize()

    def _all_libraries(self) -> list[Any]:
        """Each library behind all that call it: the linker leaves out what nothing has called so far, and the calls of
        one caller may have been simplified away."""
        seen: set[int] = set()
        callees_first: list[Any] = []

        def visit(libraries: list[Any]) -> None:
            for library in reversed(libraries):
                if id(library) not in seen:
                    seen.add(id(library))
                    if isinstance(library, PartLibrary):
                        visit(library._linking_libraries)
                    callees_first.append(library)

        visit(self._linking_libraries)
        return callees_first[::-1]

    def _optimize_final_module(self) -> None:
        defined = [function for function in self._final_module.functions if not function.is_declaration]
        own = "".join(function.name for function in defined if function.linkage == Linkage.external)
        mark = hashlib.blake2b(own.encode(), digest_size=8).hexdigest()
        for function in defined:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
                function.name += f".{mark}"  # the JIT's linker goes by name, local or not
        super()._optimize_final_module()


# Passes for what no kernel has: with statements, closures, lists, arrays added as a whole, raises, inlined overloads.
_SPARED = {
    "DeadBranchPrune",
    "DumpParforDiagnostics",
    "FindLiterallyCalls",
    "InlineClosureLikes",
    "InlineInlinables",
    "InlineOverloads",
    "LiteralPropagationSubPipelinePass",
    "LiteralUnroll",
    "MakeFunctionToJitFunction",
    "NopythonRewrites",
    "RewriteDynamicRaises",
    "RewriteSemanticConstants",
    "WithLifting",
}


class _KernelCompiler(Compiler):
    """Numba's compiler with a library of ours, without passes that find nothing, and patched for as long as it runs."""

    library: type[_Library]

    def define_pipelines(self) -> Any:
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [step for step in pipeline.passes if step[0].__name__ not in _SPARED]
        return pipelines

    def _compile_core(self) -> Any:
        if self.state.library is None:
            self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
        with patches.applied():
            return super()._compile_core()


class PartCompiler(_KernelCompiler):
    library = PartLibrary


class EntryCompiler(_KernelCompiler):
    library = EntryLibrary
