"""A read-only attribute that IPython asks for its names when Tab is pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar, overload

__all__ = ["attribute"]

Owner = TypeVar("Owner")
Value = TypeVar("Value")


class attribute(Generic[Owner, Value]):  # noqa: N801 - a decorator, like property
    """What a ``property`` without a setter is, but for one thing.

    IPython's completer runs no ``property``, because it cannot know what that does, so
    that ``session.inputs["<Tab>`` would offer the files of the folder. This one it does
    run: the decorated method must be quick and change nothing.
    """

    def __init__(self, getter: Callable[[Owner], Value]) -> None:
        self._getter = getter
        self.__doc__ = getter.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.__name__ = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> attribute[Owner, Value]: ...
    @overload
    def __get__(self, instance: Owner, owner: type[Any]) -> Value: ...
    def __get__(self, instance: Owner | None, owner: type[Any]) -> Value | attribute[Owner, Value]:
        return self if instance is None else self._getter(instance)

    def __set__(self, instance: Owner, value: object) -> NoReturn:
        raise AttributeError(
            f"{type(instance).__name__}.{self.__name__} cannot be set", name=self.__name__
        )
