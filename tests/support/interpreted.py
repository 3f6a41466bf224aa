"""Triton's interpreter, for processes that have TRITON_INTERPRET=1."""

from __future__ import annotations

from typing import Any


def interpret() -> None:
    """Make kernels run on a CPU.

    The interpreter patches all functions of triton.language at each call of a device function, a third of its time;
    from now on, it does so once per launch.
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
