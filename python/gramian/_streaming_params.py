"""scikit-learn's conventions about parameters, without scikit-learn."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np

from ._one_at_a_time import OneAtATime


def same(one: Any, other: Any) -> bool:
    """Whether two values of a parameter mean the same: equal, or the same object.

    NaN is like itself, True unlike 1; arrays are compared by their entries, and generators, which
    go on as they are used, are like themselves only.
    """
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        arrays = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        if not arrays or (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, bool | np.bool_) != isinstance(other, bool | np.bool_):
        return False
    try:
        return bool(one == other) or bool(one != one and other != other)
    except (TypeError, ValueError):  # as arrays of other libraries do
        return False


def check_saved(saved: Any, version: int, owner: str, constants: dict[str, Any]) -> None:
    """Raises unless this looks like what ``state_dict()`` of such an estimator returns."""
    if (
        not isinstance(saved, dict)
        or {"format", "class", "parameters", "state"} - saved.keys()
        or not isinstance(saved["parameters"], dict)
        or not isinstance(saved["state"], dict | None)
    ):
        raise TypeError("state_dict is not what state_dict() of a streaming estimator returns")
    if saved["format"] != version:
        raise ValueError(f"state_dict has format {saved['format']!r}; this version reads {version}")
    if saved["class"] != owner:
        raise ValueError(f"state_dict is of {saved['class']}; this is a {owner}")
    for name, value in constants.items():
        given = saved["parameters"].get(name)
        if not same(given, value):
            raise ValueError(f"state_dict has {name}={given!r}; here {name}={value!r}")


class Parameters(OneAtATime):
    """Parameters are the constructor's arguments, attributes of the same names."""

    _state: Any = None
    _results: Any = None
    _lost = False  # a call broke off half-way: what the state is of, nobody knows

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change the constructor's arguments; rows seen so far are forgotten if any differs.

        A value equal to the one before changes nothing.

        Raises
        ------
        ValueError
            There is no argument of that name.
        """
        names = self._parameter_names()
        for name in parameters:
            if name not in names:
                raise ValueError(
                    f"{name} is no parameter of {type(self).__name__}; those are {', '.join(names)}"
                )
        for name, value in parameters.items():
            if not same(getattr(self, name), value):
                self._state = self._results = None
                self._lost = False
            setattr(self, name, value)
        return self

    def _check_whole(self) -> None:
        if self._lost:
            raise RuntimeError(
                f"a call of this {type(self).__name__}'s partial_fit was interrupted, and which of "
                "its rows were taken is not known; load_state_dict of a state from before, or fit"
            )

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn calls this, so it is loaded.
        from sklearn.utils import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            InputTags,
            Tags,
            TargetTags,
            TransformerTags,
        )

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float32", "float64"]),
            input_tags=InputTags(sparse=True),
        )
