"""What the models of the policy file have in common: no unknown key, no conversion, and no key without a value."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

__all__ = ["Given", "Strict"]


def _given(value: object) -> object:
    if value is None:
        raise PydanticCustomError(
            "policy", "{text}", {"code": "P005", "text": "expected a value, got nothing; remove the key or fill it in"}
        )
    return value


T = TypeVar("T")
# May be left out; written without a value it is refused, because a forgotten condition is no condition.
Given: TypeAlias = Annotated[T | None, BeforeValidator(_given)]


class Strict(BaseModel):
    """Refuses unknown keys and converts nothing."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)
