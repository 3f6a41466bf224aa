"""Triton's interpreter, for processes that have TRITON_INTERPRET=1."""

from __future__ import annotations

from typing import Any


def interpret() -> None:
    """Kernels run here, on a CPU.

    The interpreter replaces all of triton.language's functions at each call of a device function, which is a third of
    its time; now a launch does so once.
    """
    import triton
    from triton import language
    from triton.runtime import interpreter

    assert triton.knobs.runtime.interpret, "TRITON_INTERPRET=1 comes before the first import of triton"
    replace = interpreter._patch_lang

    def once(function: Any) -> Any:
        modules = [value for value in function.__globals__.values() if value is language or value is language.core]
        own = any(language.core.is_builtin(module.load) for module in modules)
        return replace(function) if own else interpreter._LangPatchScope()

    interpreter._patch_lang = once
